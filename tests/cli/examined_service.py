"""The database that the tests of `doctor` examine, as a service uses it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from psycopg import sql

from registration_persistence import Credentials
from registration_persistence.cli.doctor.check import Check
from registration_persistence.sandbox import LocalSecretsManager, PostgresServer

Examine = Callable[..., dict[str, Check]]


@dataclass(frozen=True)
class Service:
    """A migrated database, and the variables with which a service uses it."""

    server: PostgresServer
    name: str
    login: Credentials
    secrets_manager: LocalSecretsManager
    arn: str

    @property
    def environ(self) -> dict[str, str]:
        """The variables of the service, with its secret."""
        return {**self.variables, **self.secrets_manager.environment, "APP_DATABASE_SECRET_ARN": self.arn}

    @property
    def with_password(self) -> dict[str, str]:
        """The variables of the service, with a password instead of the secret."""
        return {
            **self.variables,
            "APP_DATABASE_USER": self.login.username,
            "APP_DATABASE_PASSWORD": self.login.password,
        }

    @property
    def variables(self) -> dict[str, str]:
        """The variables without credentials."""
        return {
            "APP_ENVIRONMENT": "test",
            "APP_DATABASE_HOST": self.server.host,
            "APP_DATABASE_PORT": str(self.server.port),
            "APP_DATABASE_NAME": self.name,
            "APP_DATABASE_SSLMODE": "disable",
        }

    def execute(self, *statements: str) -> None:
        """Execute statements as the superuser; `{login}` and `{database}` are replaced."""
        names = {"login": sql.Identifier(self.login.username), "database": sql.Identifier(self.name)}
        with self.server.connect(self.name) as connection:
            for statement in statements:
                connection.execute(sql.SQL(statement).format(**names))


def unusual(checks: Mapping[str, Check]) -> dict[str, str]:
    """Return the states of the checks that are not ok, by name.

    A version whose support ends is left out, because that depends on the day.
    """
    return {
        name: check.state
        for name, check in checks.items()
        if check.state != "ok" and (name != "version" or check.state == "skipped")
    }
