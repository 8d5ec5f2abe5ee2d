"""What tests say in their signatures when they ask for a fault."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg

from registration_persistence.database import Credentials, DatabaseSettings
from registration_persistence.sandbox import LambdaProcess, LocalCluster, LocalSecretsManager, PostgresServer
from registration_persistence.sandbox.rotation import RotationStyle
from registration_persistence.sandbox.secrets_manager import OutageKind

Fault = Callable[[], AbstractContextManager[None]]
"""Begins when the block does, and ends with it."""


@dataclass(frozen=True, slots=True)
class RegistrationEnvironment:
    """A service's surroundings: a database of its own in a cluster, a login, and its secret.

    Args:
        cluster: Where the database is; clients connect to its endpoint.
        secrets_manager: Where the secret is.
        arn: The secret.
        username: The login that the secret holds at first.
        name: The database.
    """

    cluster: LocalCluster
    secrets_manager: LocalSecretsManager
    arn: str
    username: str
    name: str

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables with which a process reaches database and secret."""
        return {
            "APP_ENVIRONMENT": "test",
            "APP_DATABASE_HOST": self.cluster.address.host,
            "APP_DATABASE_PORT": str(self.cluster.address.port),
            "APP_DATABASE_NAME": self.name,
            "APP_DATABASE_SECRET_ARN": self.arn,
            "APP_DATABASE_SSLMODE": "prefer",
            **self.secrets_manager.environment,
        }

    @property
    def address(self) -> PostgresServer:
        """The server that is the primary now, past the endpoint, with the superuser."""
        return self.cluster.primary.address

    def settings(self, **variables: str) -> DatabaseSettings:
        """Return the settings that a process with `variables` has, and with these."""
        return DatabaseSettings.from_env({**self.variables, **variables})

    def connect(self) -> psycopg.Connection:
        """Open a connection in autocommit to look at rows, past the endpoint and as superuser."""
        return self.address.connect(self.name)


class Rotate(Protocol):
    """Rotates the service's secret; see `local.rotate`."""

    def __call__(self, *, style: RotationStyle = ..., pause_in_window: float | Callable[[], None] = ...) -> Credentials:
        """Rotate once and return what is current then."""


class FailOver(Protocol):
    """Crashes the primary; see `LocalCluster.fail_over`."""

    def __call__(self, *, switch_after: float = ...) -> float:
        """Fail over and return the seconds that the endpoint was away."""


class Restart(Protocol):
    """Restarts the primary; see `LocalCluster.restart`."""

    def __call__(self, *, down_for: float = ...) -> None:
        """Restart; *down_for* is in seconds."""


class FillSlots(Protocol):
    """Holds the cluster's connection slots; see `LocalCluster.fill_slots`."""

    def __call__(self, *, leave: int = ...) -> AbstractContextManager[int]:
        """Hold all but *leave* slots until the block ends."""


class Freeze(Protocol):
    """Freezes processes, as Lambda does between invocations."""

    def __call__(self, seconds: float, *processes: LambdaProcess) -> None:
        """Freeze all of *processes* at once."""


class SecretsManagerDown(Protocol):
    """Disturbs Secrets Manager; see `LocalSecretsManager.outage`."""

    def __call__(self, kind: OutageKind = ..., seconds: float = ...) -> AbstractContextManager[None]:
        """Disturb every call until the block ends."""


class StartLambda(Protocol):
    """Starts a handler in a process of its own; see `LambdaProcess`."""

    def __call__(self, handler: str, **options: Any) -> LambdaProcess:
        """Start it with the service's environment, and with what *options* add."""
