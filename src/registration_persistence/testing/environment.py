"""The types of the fixtures with which tests cause faults."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg

from registration_persistence.database import Credentials, DatabaseSettings
from registration_persistence.durations import Duration
from registration_persistence.sandbox import (
    EarlyAttempts,
    LambdaProcess,
    LocalCluster,
    LocalSecretsManager,
    OutageKind,
    PostgresServer,
    RotationStyle,
)

Fault = Callable[[], AbstractContextManager[None]]
"""Returns a context manager; the fault lasts as long as its block."""


@dataclass(frozen=True, slots=True)
class RegistrationEnvironment:
    """The environment of one service: a migrated, empty database, a login, and its secret.

    Args:
        cluster: The cluster of the database; clients connect to its endpoint.
        secrets_manager: The Secrets Manager of the secret.
        arn: ARN of the secret.
        username: The login that the secret holds at the beginning of the test.
        name: Name of the database.
    """

    cluster: LocalCluster
    secrets_manager: LocalSecretsManager
    arn: str
    username: str
    name: str

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables with which a process connects to the database and reads the secret."""
        reader = self.cluster.reader_endpoint
        return {
            **({"APP_DATABASE_READER_HOST": reader.host} if reader else {}),
            "APP_ENVIRONMENT": "test",
            "APP_DATABASE_HOST": self.cluster.server.host,
            "APP_DATABASE_PORT": str(self.cluster.server.port),
            "APP_DATABASE_NAME": self.name,
            "APP_DATABASE_SECRET_ARN": self.arn,
            "APP_DATABASE_SSLMODE": "prefer",
            **self.secrets_manager.environment,
        }

    @property
    def server(self) -> PostgresServer:
        """The current primary, without the endpoint, with the superuser."""
        return self.cluster.primary.server

    def settings(self, **variables: str) -> DatabaseSettings:
        """Return the settings of a process with the environment variables of `variables`.

        Args:
            variables: Environment variables that are added or replaced.
        """
        return DatabaseSettings.from_env({**self.variables, **variables})

    def connect(self) -> psycopg.Connection:
        """Open a connection in autocommit mode to the database, as superuser and without the endpoint."""
        return self.server.connect(self.name)


class Rotate(Protocol):
    """Rotates the service's secret; see `registration_persistence.sandbox.rotate`."""

    def __call__(
        self, *, style: RotationStyle = ..., pause_in_window: Duration | Callable[[], object] = ...
    ) -> Credentials:
        """Rotate the secret once, and return the new credentials.

        Args:
            style: `single`, the default, changes the user's password; `alternating` switches between two users.
            pause_in_window: Length of the rotation window, as a `timedelta` or in seconds, 0 to a day; 0 by default. A
                function is called instead, in the window.
        """


class FailOver(Protocol):
    """Crashes the primary and promotes the standby; see `LocalCluster.fail_over`."""

    def __call__(self, *, switch_after: Duration = ...) -> float:
        """Fail over, and return the seconds during which the endpoint refused connections.

        Args:
            switch_after: Time from the crash until the endpoint points to the new primary, as a `timedelta` or in
                seconds, 0 to a day; 3 s by default.
        """


class Restart(Protocol):
    """Restarts the primary; see `LocalCluster.restart`."""

    def __call__(self, *, down_for: Duration = ...) -> None:
        """Stop the primary and start it again.

        Args:
            down_for: Time between stop and start, as a `timedelta` or in seconds, 0 to a day; 0.5 s by default.
        """


class Pause(Protocol):
    """Pauses the cluster like one with a minimum of 0 ACU; see `LocalCluster.pause`."""

    def __call__(self, *, wake_after: Duration = ..., early: EarlyAttempts = ...) -> AbstractContextManager[None]:
        """Pause until the block ends, or until a client has connected and the wake-up is over.

        Args:
            wake_after: Time from the first attempt to connect until the cluster answers, as a `timedelta` or in
                seconds, 0 to a day; 15 s by default.
            early: The result of an attempt to connect before that: `held`, the default, answers it when the cluster
                is awake; `closed` closes it without an answer.
        """


class FillSlots(Protocol):
    """Holds the connection slots of the primary; see `LocalCluster.fill_slots`."""

    def __call__(self, *, leave: int = ...) -> AbstractContextManager[int]:
        """Hold the free slots until the block ends; the block gets the number of held slots.

        Args:
            leave: The number of slots that stay free, 0 or more; 0 by default.
        """


class Freeze(Protocol):
    """Freezes processes as Lambda does between invocations; see `LambdaProcess.freeze`."""

    def __call__(self, duration: Duration, *processes: LambdaProcess) -> None:
        """Freeze processes together, and thaw them after *duration*.

        Args:
            duration: Length of the freeze, as a `timedelta` or in seconds, 0 to a day.
            processes: The processes.
        """


class SecretsManagerDown(Protocol):
    """Disturbs Secrets Manager; see `LocalSecretsManager.outage`."""

    def __call__(self, kind: OutageKind = ..., delay: Duration = ...) -> AbstractContextManager[None]:
        """Disturb every call until the block ends.

        Args:
            kind: `down`, the default, answers 503; `throttled` answers 400; `slow` answers late.
            delay: Delay of a `slow` answer, as a `timedelta` or in seconds, 0 to a day; 10 s by default.
        """


class StartLambda(Protocol):
    """Starts a handler in its own process; see `LambdaProcess`."""

    def __call__(self, handler: str, **options: Any) -> LambdaProcess:
        """Start a process with the environment variables of the service; it ends with the test.

        Args:
            handler: `path/to/file.py:function` or `module:function`.
            options: Further arguments of `LambdaProcess`: `environment` and `timeout`.
        """
