"""The servers and processes of `chaos`, all on this machine."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from registration_persistence.sandbox import (
    IsolatedNetwork,
    LambdaProcess,
    LocalCluster,
    LocalSecretsManager,
    PostgresServer,
    wait_until,
)
from registration_persistence.sandbox.chaos.load import HANDLER, TABLE
from registration_persistence.sandbox.isolation import isolate_process
from registration_persistence.sandbox.migrated_database import create_migrated_database
from registration_persistence.sandbox.parent import end_with_parent

DATABASE = "registration"

_LOGIN = "registration_app"

_OTHER_SESSIONS = "SELECT FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers and processes on which faults act.

    Args:
        cluster: The database cluster.
        secrets_manager: The Secrets Manager with the password of the processes.
        arn: ARN of the secret.
        processes: The running load processes.
        network: The network namespace, if a fault needs one.
        seed: Seed of the random number generators.
    """

    cluster: LocalCluster
    secrets_manager: LocalSecretsManager
    arn: str
    processes: Sequence[LambdaProcess]
    network: IsolatedNetwork | None
    seed: int

    def wait_until_disconnected(self) -> None:
        """Wait until no client is connected to the writer.

        Raises:
            LocalServerError: A client is still connected after 10 s.
        """
        with self.cluster.primary.server.connect() as connection:
            wait_until(lambda: not connection.execute(_OTHER_SESSIONS).rowcount, "every session of the load has ended")


@contextmanager
def open_stage(processes: int, *, isolated: bool, seed: int, timeout: float) -> Iterator[Stage]:
    """Start the servers, create the database, and start the processes; all of them end with the block.

    Args:
        processes: The number of load processes.
        isolated: Whether servers and processes are in an `IsolatedNetwork`.
        seed: Seed of the random number generators.
        timeout: Seconds after which a process is killed.
    """
    isolate_process()
    end_with_parent()
    with ExitStack() as stack:
        network = stack.enter_context(IsolatedNetwork()) if isolated else None
        secrets_manager = stack.enter_context(LocalSecretsManager())
        cluster = stack.enter_context(LocalCluster())
        password = secrets.token_urlsafe(24)
        _create_database(cluster.primary.server, password)
        arn = secrets_manager.create("registration/app", {"username": _LOGIN, "password": password})
        variables = _variables(cluster, arn) | secrets_manager.environment
        started = [
            stack.enter_context(LambdaProcess(HANDLER, environment=variables, timeout=timeout))
            for _ in range(processes)
        ]
        yield Stage(cluster, secrets_manager, arn, started, network, seed)


def _variables(cluster: LocalCluster, arn: str) -> dict[str, str]:
    return {
        "APP_ENVIRONMENT": "local",
        "APP_DATABASE_HOST": cluster.server.host,
        "APP_DATABASE_PORT": str(cluster.server.port),
        "APP_DATABASE_NAME": DATABASE,
        "APP_DATABASE_SECRET_ARN": arn,
        "APP_DATABASE_SSLMODE": "disable",  # the proxy of the endpoint does not support TLS
    }


def _create_database(server: PostgresServer, password: str) -> None:
    create_migrated_database(server, DATABASE, login=_LOGIN, password=password, environment="local", sslmode="disable")
    with server.connect(DATABASE) as connection:
        connection.execute(f"CREATE TABLE {TABLE} (key text NOT NULL)")
        connection.execute(f"CREATE INDEX ON {TABLE} (key)")
        connection.execute(f"GRANT SELECT, INSERT ON {TABLE} TO {_LOGIN}")
