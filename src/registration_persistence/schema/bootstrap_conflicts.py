"""Repeat `bootstrap` while another one changes the roles, which all databases of a cluster share.

The deployment lock belongs to one database, so it does not keep them apart.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from registration_persistence.database.backoff import backoff
from registration_persistence.database.deadlines import remaining
from registration_persistence.errors import RegistrationPersistenceError, TransactionConflict
from registration_persistence.schema.deployment_lock import DeploymentInProgress

T = TypeVar("T")

_MAX_ATTEMPTS = 20
_FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.1, 2.0

# The role or membership was created meanwhile (23505, 42710) or dropped (42704), or its row was changed: XX000, "tuple
# concurrently updated".
_CONFLICTS = ("23505", "42710", "42704", "XX000")


class RolesChanged(RegistrationPersistenceError):
    """Another session has changed a role at the same time."""


def is_conflict(sqlstate: str | None) -> bool:
    """Return whether an error means that another session has changed the same role."""
    return sqlstate in _CONFLICTS


def repeat_while_roles_change(work: Callable[[], T]) -> T:
    """Call *work* until no other session changes the roles at the same time, and return its result.

    Args:
        work: The function to call, one transaction.

    Raises:
        DeploymentInProgress: The last attempt failed, too, or the deadline comes before the next one.
    """
    for attempt in range(_MAX_ATTEMPTS):
        try:
            return work()
        except (DBAPIError, RolesChanged, TransactionConflict) as error:
            if isinstance(error, DBAPIError) and not is_conflict(getattr(error.orig, "sqlstate", None)):
                raise
            failure: Exception = error
        pause = backoff(attempt, _FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS)
        if pause >= remaining():
            break
        time.sleep(pause)
    raise DeploymentInProgress("another deployment keeps changing the roles of this cluster: try again") from failure
