"""The Lambda with which a pipeline makes the roles, migrates, and asks where the schema stands."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from registration_persistence import Database, LambdaContext, RegistrationPersistenceError, deadline, get_db, schema

_Result = dict[str, Any]

for _name in ("alembic", "registration_persistence.migrations"):
    logging.getLogger(_name).setLevel(logging.INFO)


class WrongEvent(ValueError):
    """The event is none that is understood; says which are."""


def handle(event: Any, context: LambdaContext) -> _Result:
    """Do what `event["action"]` says, and return it with the revisions `before` and `after`.

    Raises:
        WrongEvent: The event is not `{"action": …}`, with a `revision` for `upgrade` if need be.
        DeploymentInProgress: Another deployment is at work.
        RegistrationPersistenceError: What went wrong; nobody's password is in it.
    """
    action, revision = _understood(event)
    try:
        with deadline(context):
            database = get_db()
            before = schema.current(database)
            result = _ACTIONS[action](database, revision)
            return {"action": action, "before": before, "after": schema.current(database), **result}
    except SQLAlchemyError as error:  # its own words bring the whole statement
        raise RegistrationPersistenceError(f"{action} failed: {getattr(error, 'orig', None) or error}") from None


def _bootstrap(database: Database, _: str) -> _Result:
    done = schema.bootstrap_from_secrets(database)
    return {
        "application": done.application,
        "alternate": done.alternate,
        "monitoring": done.monitoring,
        "changes": list(done.changes),
    }


def _upgrade(database: Database, revision: str) -> _Result:
    schema.upgrade(database, revision, wait=0)
    return {}


def _current(_database: Database, _: str) -> _Result:
    return {"newest": schema.newest()}


def _check(database: Database, _: str) -> _Result:
    try:
        schema.check(database, wait=0)
    except schema.SchemaDiffers as error:
        return {"in_step": False, "differs": str(error)}
    return {"in_step": True}


_ACTIONS: Mapping[str, Callable[[Database, str], _Result]] = {
    "bootstrap": _bootstrap,
    "upgrade": _upgrade,
    "current": _current,
    "check": _check,
}


def _understood(event: Any) -> tuple[str, str]:
    expected = f'expected {{"action": one of {", ".join(_ACTIONS)}}}, and for upgrade "revision" if it is not head'
    if not isinstance(event, dict):
        raise WrongEvent(f"the event is no object: {expected}")
    action, revision = event.get("action"), event.get("revision", "head")
    if not isinstance(action, str) or action not in _ACTIONS:
        raise WrongEvent(f"the event has no action that is known: {expected}")
    if not isinstance(revision, str) or not revision:
        raise WrongEvent(f"the revision is no text: {expected}")
    if set(event) - {"action", "revision"} or ("revision" in event and action != "upgrade"):
        raise WrongEvent(f"the event has a key too many for {action}: {expected}")
    return action, revision
