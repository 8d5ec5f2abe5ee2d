"""What the rotation function of Secrets Manager does with a database login, step by step."""

import secrets
import time
from collections.abc import Callable
from typing import Literal, get_args

from psycopg import sql

from registration_persistence.database import Credentials
from registration_persistence.sandbox.secrets_manager import LocalSecretsManager
from registration_persistence.sandbox.server import PostgresServer

_CLONE = "_clone"

RotationStyle = Literal["single", "alternating"]
"""`single` gives the user another password; `alternating` changes to the other of `NAME` and `NAME_clone`."""


def rotate(
    server: PostgresServer,
    secrets_manager: LocalSecretsManager,
    arn: str,
    *,
    style: RotationStyle = "single",
    pause_in_window: float | Callable[[], None] = 0.0,
) -> Credentials:
    """Rotate a secret as AWS's rotation functions do, and return what is current then.

    With the style `single` there is a window between the change in the database and the change of labels, in which
    AWSCURRENT is refused and only AWSPENDING is right.

    Args:
        server: Where the login is, with the superuser, or an admin that may change both users.
        secrets_manager: Where the secret is.
        arn: The secret; a JSON object with `username` and `password`, whose other keys are kept.
        style: See `RotationStyle`. The other user is made where it is missing, as a member of the first.
        pause_in_window: Seconds that the window stays open, or what to call in it.

    Raises:
        ValueError: There is no such *style*.
    """
    if style not in get_args(RotationStyle):
        raise ValueError(f"there is no rotation {style!r}: expected {' or '.join(get_args(RotationStyle))}")
    value = secrets_manager.read(arn)
    if style == "alternating":
        value["username"] = _other(value["username"])
    value["password"] = secrets.token_urlsafe(24)
    version = secrets_manager.put_pending(arn, value)

    is_new = not _exists(server, value["username"])
    server.create_login(value["username"], value["password"])
    if is_new and value["username"].endswith(_CLONE):
        role, member = value["username"].removesuffix(_CLONE), value["username"]
        with server.connect() as connection:
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(member)))

    if callable(pause_in_window):
        pause_in_window()
    else:
        time.sleep(pause_in_window)
    secrets_manager.finish_rotation(arn, version)
    return Credentials(value["username"], value["password"])


def _exists(server: PostgresServer, username: str) -> bool:
    with server.connect() as connection:
        return connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [username]).fetchone() is not None


def _other(username: str) -> str:
    return username.removesuffix(_CLONE) if username.endswith(_CLONE) else username + _CLONE
