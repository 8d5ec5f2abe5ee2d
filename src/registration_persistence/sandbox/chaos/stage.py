"""The servers and processes of `chaos`, all of them on this machine."""

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from registration_persistence import schema
from registration_persistence.database import Database, DatabaseSettings
from registration_persistence.sandbox import (
    IsolatedNetwork,
    LambdaProcess,
    LocalCluster,
    LocalSecretsManager,
    LocalServerError,
    PostgresServer,
)
from registration_persistence.sandbox.chaos.load import HANDLER, TABLE

DATABASE = "registration"

_LOGIN = "registration_app"

# Seconds that sessions may take to end.
_PATIENCE = 10.0

# Variables of the surroundings that would change what the processes connect to.
_FOREIGN = ("APP_DATABASE_", "AWS_", "PG")


@dataclass(frozen=True, slots=True)
class Stage:
    """What the faults happen to.

    Args:
        cluster: Where the processes sign people up.
        secrets_manager: Where they read their password.
        arn: Their secret.
        processes: They themselves.
        network: In which all of it is, where a fault needs one.
        seed: For what is left to chance.
    """

    cluster: LocalCluster
    secrets_manager: LocalSecretsManager
    arn: str
    processes: Sequence[LambdaProcess]
    network: IsolatedNetwork | None
    seed: int

    def wait_for_silence(self) -> None:
        """Wait until nobody is connected any more.

        Raises:
            LocalServerError: Somebody still is after 10 s.
        """
        others = "SELECT FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        end = time.monotonic() + _PATIENCE
        with self.cluster.primary.address.connect() as connection:
            while connection.execute(others).rowcount:
                if time.monotonic() > end:
                    raise LocalServerError(f"sessions of the load are still there after {_PATIENCE:g} s")
                time.sleep(0.01)


@contextmanager
def open_stage(processes: int, *, isolated: bool, seed: int, timeout: float) -> Iterator[Stage]:
    """Start the servers, make the database, and start the processes; everything ends with the block.

    Args:
        processes: How many.
        isolated: Whether all of it must be in an `IsolatedNetwork`.
        seed: For what is left to chance.
        timeout: Seconds after which a process is killed.
    """
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    with ExitStack() as stack:
        network = stack.enter_context(IsolatedNetwork()) if isolated else None
        secrets_manager = stack.enter_context(LocalSecretsManager())
        cluster = stack.enter_context(LocalCluster())
        password = secrets.token_urlsafe(24)
        _make_database(cluster.primary.address, password)
        arn = secrets_manager.create("registration/app", {"username": _LOGIN, "password": password})
        variables = {
            "APP_ENVIRONMENT": "local",
            "APP_DATABASE_HOST": cluster.address.host,
            "APP_DATABASE_PORT": str(cluster.address.port),
            "APP_DATABASE_NAME": DATABASE,
            "APP_DATABASE_SECRET_ARN": arn,
            "APP_DATABASE_SSLMODE": "disable",  # the endpoint of this machine has no TLS
            **secrets_manager.environment,
        }
        started = [
            stack.enter_context(LambdaProcess(HANDLER, environment=variables, timeout=timeout))
            for _ in range(processes)
        ]
        yield Stage(cluster, secrets_manager, arn, started, network, seed)


def _make_database(server: PostgresServer, password: str) -> None:
    server.create_login(_LOGIN, password)
    server.create_database(DATABASE, owner=_LOGIN)
    database = Database(
        DatabaseSettings(
            environment="local",
            host=server.host,
            port=server.port,
            name=DATABASE,
            user=_LOGIN,
            password=password,
            sslmode="disable",
        )
    )
    try:
        schema.upgrade(database)
    finally:
        database.dispose()
    with server.connect(DATABASE) as connection:
        connection.execute(f"CREATE TABLE {TABLE} (key text NOT NULL)")
        connection.execute(f"CREATE INDEX ON {TABLE} (key)")
        connection.execute(f"GRANT SELECT, INSERT ON {TABLE} TO {_LOGIN}")
