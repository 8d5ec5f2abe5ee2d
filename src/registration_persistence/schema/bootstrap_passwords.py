"""Compare the passwords of the logins with their secrets, and set them."""

import dataclasses
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection

from registration_persistence.database import Credentials, DatabaseSettings, StaticCredentials, deadline
from registration_persistence.database.commit_guard import driver_connection
from registration_persistence.database.engine import create_database_engine
from registration_persistence.errors import RegistrationPersistenceError
from registration_persistence.schema.bootstrap_catalog import ROLES
from registration_persistence.schema.bootstrap_checks import BootstrapRefused
from registration_persistence.schema.bootstrap_conflicts import RolesChanged, is_conflict

_LOGIN_TIMEOUT_SECONDS = 5.0

# Settings need a secret if they do not use IAM; this one is not read.
_NO_SECRET = "arn:aws:secretsmanager:us-east-1:000000000000:secret:none"  # noqa: S105 no password


def is_password_outdated(connection: Connection, settings: DatabaseSettings, credentials: Credentials) -> bool:
    """Return whether the server lacks the login or does not check the password of *credentials* successfully."""
    is_missing = not connection.execute(ROLES, {"roles": [credentials.username]}).all()
    return is_missing or _is_rejected(settings, credentials)


def set_password(connection: Connection, credentials: Credentials) -> None:
    """Send the password's hash to the server, so that the password does not appear in its log.

    Raises:
        BootstrapRefused: The server or libpq reported an error.
        RolesChanged: Another session has changed the role at the same time.
    """
    problem, sqlstate = _password_problem(driver_connection(connection), credentials)
    if is_conflict(sqlstate):
        raise RolesChanged(f"another session has changed the role {credentials.username}")
    if problem is not None:
        raise BootstrapRefused([f"the password of {credentials.username} cannot be set: {problem}"])


def _is_rejected(settings: DatabaseSettings, credentials: Credentials) -> bool:
    """Return whether a login fails, or succeeds without a password."""
    own_settings = dataclasses.replace(
        _with_password(settings), pool="lambda", application_name="registration_persistence bootstrap"
    )
    engine = create_database_engine(own_settings, StaticCredentials(credentials))
    try:
        with deadline(_LOGIN_TIMEOUT_SECONDS, reserve=0), engine.connect() as connection:
            return not driver_connection(connection).pgconn.used_password
    except RegistrationPersistenceError:
        return True
    finally:
        engine.dispose()


def _with_password(settings: DatabaseSettings) -> DatabaseSettings:
    """Return *settings* for a login with a password, also if the admin logs in with IAM."""
    if settings.auth != "iam":
        return settings
    certificate = settings.root_certificate
    return dataclasses.replace(
        settings,
        auth="secret",
        user=None,
        secret_arn=_NO_SECRET,
        require_auth="scram-sha-256",
        ssl_root_cert=str(certificate) if certificate else None,
    )


def _password_problem(driver: psycopg.Connection[Any], credentials: Credentials) -> tuple[str | None, str | None]:
    """Set the password, and return the error's text and SQLSTATE; raises nothing, because a frame would show it."""
    try:
        verifier = driver.pgconn.encrypt_password(
            credentials.password.encode(), credentials.username.encode(), b"scram-sha-256"
        ).decode()
        driver.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(credentials.username), sql.Literal(verifier))
        )
    except psycopg.Error as error:
        return error.diag.message_primary or "libpq cannot hash it", error.sqlstate
    return None, None
