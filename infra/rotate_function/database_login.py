"""The logins of the database: whether the server accepts one, and how its password is set."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
from problems import RotationFailed
from psycopg import sql

from registration_persistence import Credentials, Database, DatabaseSettings, StaticCredentials
from registration_persistence.errors import CredentialsRejected


class DatabaseLogins:
    """The logins of the database that the environment variables of the function describe.

    Args:
        admin_secret: The ARN of the administrator's secret; `None` if each login sets its own password.
    """

    def __init__(self, admin_secret: str | None) -> None:
        self._settings = replace(DatabaseSettings.from_env(), pool="lambda")
        self._admin_secret = admin_secret

    @property
    def alternate(self) -> bool:
        """Whether the administrator sets the passwords of two users that alternate."""
        return self._admin_secret is not None

    def accepts(self, credentials: Credentials) -> bool:
        """Return whether the server checks the password of *credentials*, and accepts it."""
        with _closing(Database(self._settings, StaticCredentials(credentials))) as database:
            try:
                with database.session() as session:
                    return bool(_driver(session).pgconn.used_password)
            except CredentialsRejected:
                return False

    def set_password(self, target: Credentials, *, own: Credentials | None) -> None:
        """Set the password of *target*, as *own* or, if that is `None`, as the administrator.

        The administrator's login is read from its secret, which may itself be rotating.

        Raises:
            RotationFailed: The server refused the statement, or *target* is the administrator itself.
        """
        with _closing(self._setter(own)) as database, database.session() as session:
            driver = _driver(session)
            if own is None and driver.info.user == target.username:
                raise RotationFailed(f"{target.username} is the administrator: expected another user in this secret")
            problem = _password_problem(driver, target)
            if problem is not None:
                raise RotationFailed(f"the password of {target.username} cannot be set: {problem}")

    def _setter(self, own: Credentials | None) -> Database:
        if own is not None:
            return Database(self._settings, StaticCredentials(own))
        return Database(replace(self._settings, secret_arn=self._admin_secret, user=None, password=None))


@contextmanager
def _closing(database: Database) -> Iterator[Database]:
    try:
        yield database
    finally:
        database.dispose()


def _driver(session: Any) -> psycopg.Connection[Any]:
    driver = session.connection().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _password_problem(driver: psycopg.Connection[Any], target: Credentials) -> str | None:
    """Send a SCRAM verifier, never the password: other logins read statements in views and in the server's log."""
    try:
        verifier = driver.pgconn.encrypt_password(
            target.password.encode(), target.username.encode(), b"scram-sha-256"
        ).decode()
        driver.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(target.username), sql.Literal(verifier))
        )
    except psycopg.Error as error:
        return f"{error.diag.message_primary or type(error).__name__} ({error.sqlstate})"
    return None
