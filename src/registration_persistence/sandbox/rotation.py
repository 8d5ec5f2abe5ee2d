"""The steps with which the rotation function of Secrets Manager changes a database login."""

import secrets
import time
from collections.abc import Callable
from typing import Literal, assert_never, get_args

from psycopg import sql

from registration_persistence.database import Credentials
from registration_persistence.durations import Duration, bounded_seconds
from registration_persistence.sandbox.secrets_manager import LocalSecretsManager
from registration_persistence.sandbox.server import PostgresServer

_CLONE_SUFFIX = "_clone"

RotationStyle = Literal["single", "alternating"]
"""`single` changes the user's password; `alternating` switches between the users `NAME` and `NAME_clone`."""


def rotate(
    server: PostgresServer,
    secrets_manager: LocalSecretsManager,
    arn: str,
    *,
    style: RotationStyle = "single",
    pause_in_window: Duration | Callable[[], object] = 0.0,
) -> Credentials:
    """Rotate a secret like AWS's rotation functions, and return the new credentials.

    The rotation window lies between the change in the database and the change of the secret's labels. In it, the style
    `single` makes the server reject AWSCURRENT; only AWSPENDING is right.

    Args:
        server: The server of the login, with the superuser or with an admin that may change both users.
        secrets_manager: The Secrets Manager that holds the secret.
        arn: ARN of the secret, a JSON object with `username` and `password`; its other keys are kept.
        style: `single` changes the user's password; `alternating` switches between the users `NAME` and `NAME_clone`,
            and creates the clone as a member of `NAME` if it does not exist. Defaults to `single`.
        pause_in_window: Length of the rotation window, as a `timedelta` or in seconds, 0 to a day. A function is called
            instead, in the window. Defaults to 0.

    Raises:
        ValueError: *style* is neither of the two.
    """
    seconds = 0.0 if callable(pause_in_window) else bounded_seconds(pause_in_window, "pause_in_window")
    if style not in get_args(RotationStyle):
        raise ValueError(f"style is {style!r}: expected {' or '.join(get_args(RotationStyle))}")
    value = secrets_manager.read(arn)
    value["username"] = _next_username(value["username"], style)
    value["password"] = secrets.token_urlsafe(24)
    version = secrets_manager.put_pending(arn, value)
    _set_password(server, value["username"], value["password"])
    if callable(pause_in_window):
        pause_in_window()
    else:
        time.sleep(seconds)
    secrets_manager.finish_rotation(arn, version)
    return Credentials(value["username"], value["password"])


def _next_username(current: str, style: RotationStyle) -> str:
    match style:
        case "single":
            return current
        case "alternating" if current.endswith(_CLONE_SUFFIX):
            return current.removesuffix(_CLONE_SUFFIX)
        case "alternating":
            return current + _CLONE_SUFFIX
        case _:
            assert_never(style)


def _set_password(server: PostgresServer, username: str, password: str) -> None:
    """Set the password of a user; a new clone also becomes a member of its original."""
    with server.connect() as connection:
        is_new = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [username]).fetchone() is None
    server.create_login(username, password)
    if is_new and username.endswith(_CLONE_SUFFIX):
        original = username.removesuffix(_CLONE_SUFFIX)
        with server.connect() as connection:
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(original), sql.Identifier(username)))
