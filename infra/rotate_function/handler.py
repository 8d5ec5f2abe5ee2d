"""The Lambda function that rotates one database secret: the four steps in which Secrets Manager invokes it."""

import logging
import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from database_login import DatabaseLogins
from problems import RotationFailed
from rotating_secret import RotatingSecret
from rotation import STEPS, Rotation

from registration_persistence import LambdaContext, RegistrationPersistenceError, deadline

ADMIN_SECRET = "ROTATION_ADMIN_SECRET_ARN"  # noqa: S105 the name of a variable
"""The environment variable with the ARN of the administrator's secret; only a rotation of two users has it."""

_SECRET = "APP_DATABASE_SECRET_ARN"  # noqa: S105 the name of a variable
# The time that remains for the answer when the deadline of all waits is over.
_RESERVE_SECONDS = 2.0

_logger = logging.getLogger("rotation")
_logger.setLevel(logging.INFO)


@dataclass(frozen=True, slots=True)
class _Event:
    """One invocation by Secrets Manager: the secret, the version that it creates, and the step."""

    arn: str
    version_id: str
    step: str


def handle(event: Any, context: LambdaContext) -> None:
    """Perform one step of a rotation. Every step can be repeated, also at the same time.

    Args:
        event: `{"SecretId": …, "ClientRequestToken": …, "Step": …}`, as Secrets Manager sends it.
        context: The Lambda context; its remaining time limits all waits.

    Raises:
        RotationFailed: The step failed; the message contains no password, and no frame of the traceback holds one.
    """
    problem = _problem_in_time(event, context)
    if problem is not None:
        raise RotationFailed(problem)


def _problem_in_time(event: Any, context: LambdaContext) -> str | None:
    """Perform the step, and return why it failed; the error itself is dropped, because its frames hold passwords."""
    try:
        parsed = _parse(event)
        with deadline(context, reserve=_RESERVE_SECONDS):
            _perform(parsed)
    except (RotationFailed, RegistrationPersistenceError) as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 any error's frames may hold a password
        return _described(error)
    return None


def _described(error: Exception) -> str:
    """Return the type and the place of an unexpected error, without its text, which may contain a value."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {last.name}, {last.filename}:{last.lineno}"


def _perform(event: _Event) -> None:
    secret = RotatingSecret(event.arn, event.version_id)
    if secret.is_finished():
        _logger.info("%s of %s: this version is AWSCURRENT already", event.step, event.arn)
        return
    rotation = Rotation(secret, DatabaseLogins(os.environ.get(ADMIN_SECRET) or None))
    rotation.perform(event.step)
    _logger.info("%s of %s: done", event.step, event.arn)


def _parse(event: Any) -> _Event:
    expected = f"expected SecretId, ClientRequestToken, and as Step one of {', '.join(STEPS)}"
    if not isinstance(event, Mapping):
        raise RotationFailed(f"the event is not an object: {expected}")
    arn, version_id, step = (str(event.get(key, "")) for key in ("SecretId", "ClientRequestToken", "Step"))
    if not arn or not version_id or step not in STEPS:
        raise RotationFailed(f"the event does not come from Secrets Manager: {expected}")
    if arn != os.environ.get(_SECRET):
        raise RotationFailed(f"the event is about another secret than {_SECRET}: this function rotates only that one")
    return _Event(arn, version_id, step)
