"""The Lambda function that creates the database roles, runs the migrations and reports the state of the database."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from registration_persistence import Database, LambdaContext, RegistrationPersistenceError, deadline, get_db, schema

_Result = dict[str, Any]

_DOCTOR = "doctor"

# A paused cluster resumes within this time.
_DOCTOR_SECONDS = 60.0
# The start and the end of a process, in a function with little CPU.
_PROCESS_SECONDS = 10.0

for _name in ("alembic", "registration_persistence.migrations"):
    logging.getLogger(_name).setLevel(logging.INFO)


class InvalidEvent(ValueError):
    """The event is invalid; the message describes the expected form."""


def handle(event: Any, context: LambdaContext) -> _Result:
    """Perform `event["action"]`, and return its result with the revisions `before` and `after`.

    The result of `doctor` is `checks` alone.

    Args:
        event: `{"action": …}`; for `upgrade` also `revision`, which defaults to `head`.
        context: The Lambda context; its remaining time limits all waits.

    Raises:
        InvalidEvent: The event does not have this form.
        DeploymentInProgress: Another deployment is in progress.
        RegistrationPersistenceError: The action failed; the message contains no password.
    """
    action, revision = _parse(event)
    if action == _DOCTOR:
        return {"action": action, "checks": _doctor(context)}
    try:
        with deadline(context):
            database = get_db()
            try:
                before = schema.current(database)
                result = _ACTIONS[action](database, revision)
                return {"action": action, "before": before, "after": schema.current(database), **result}
            finally:
                # Lambda freezes the function afterwards, and an open session keeps the cluster from pausing.
                database.dispose()
    except SQLAlchemyError as error:
        # Without SQLAlchemy's own message, which contains the whole statement.
        raise RegistrationPersistenceError(f"{action} failed: {getattr(error, 'orig', None) or error}") from None


def _bootstrap(database: Database, _revision: str) -> _Result:
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


def _current(_database: Database, _revision: str) -> _Result:
    return {"newest": schema.newest()}


def _check(database: Database, _revision: str) -> _Result:
    try:
        schema.check(database)
    except schema.SchemaDiffers as error:
        return {"in_step": False, "differs": str(error)}
    return {"in_step": True}


_ACTIONS: Mapping[str, Callable[[Database, str], _Result]] = {
    "bootstrap": _bootstrap,
    "upgrade": _upgrade,
    "current": _current,
    "check": _check,
}


def _doctor(context: LambdaContext) -> list[dict[str, str]]:
    """Return the checks of the command `doctor`, which needs no database to have a result.

    The command has a process of its own: a check that cannot be ended, such as the look-up of a name on a dead network,
    would otherwise continue in the next invocation.
    """
    left = context.get_remaining_time_in_millis() / 1000
    seconds = max(1.0, min(_DOCTOR_SECONDS, left - _PROCESS_SECONDS))
    try:
        done = subprocess.run(  # noqa: S603 the Python of this function, and no text from the event
            [sys.executable, "-m", "registration_persistence", "doctor", "--json", "--timeout", f"{seconds:.1f}"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # with the folders of the layers
            capture_output=True,
            text=True,
            timeout=left - 1,
            check=False,  # 1 if a check failed
        )
        checks: list[dict[str, str]] = json.loads(done.stdout)["checks"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        raise RegistrationPersistenceError("doctor gave no result: allow the function a longer timeout") from None
    return checks


def _parse(event: Any) -> tuple[str, str]:
    actions = (*_ACTIONS, _DOCTOR)
    expected = f'expected {{"action": one of {", ".join(actions)}}}, and for upgrade an optional "revision"'
    if not isinstance(event, dict):
        raise InvalidEvent(f"the event is not an object: {expected}")
    action, revision = event.get("action"), event.get("revision", "head")
    if not isinstance(action, str) or action not in actions:
        raise InvalidEvent(f"the event has no known action: {expected}")
    if not isinstance(revision, str) or not revision:
        raise InvalidEvent(f"the revision is not a non-empty text: {expected}")
    if set(event) - {"action", "revision"} or ("revision" in event and action != "upgrade"):
        raise InvalidEvent(f"the event has a key that {action} does not take: {expected}")
    return action, revision
