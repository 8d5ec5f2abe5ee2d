"""Faults as fixtures: a test requests a fault by name, and the service under test is exposed to it."""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest

from registration_persistence.database import Credentials, forget_db
from registration_persistence.durations import Duration, bounded_seconds
from registration_persistence.sandbox import (
    IsolatedNetwork,
    LambdaProcess,
    LocalCluster,
    LocalSecretsManager,
    LocalServerError,
    RotationStyle,
)
from registration_persistence.sandbox import rotate as rotate_secret
from registration_persistence.sandbox.isolation import is_foreign
from registration_persistence.sandbox.network_namespace import unsupported_reason
from registration_persistence.testing.environment import (
    FailOver,
    Fault,
    FillSlots,
    Freeze,
    Pause,
    RegistrationEnvironment,
    Restart,
    Rotate,
    SecretsManagerDown,
    StartLambda,
)
from registration_persistence.testing.missing import skip_or_fail
from registration_persistence.testing.servers import cluster_binaries
from registration_persistence.testing.template import LOGIN, MigrateService, copy_template, make_template

_PROBE_TIMEOUT_SECONDS = 2


@pytest.fixture
def isolated_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes variables of the shell that change connections, or lead to another database, for this test.

    They are `APP_DATABASE_*`, `PG*`, proxies, and `AWS_*` except regions, endpoints, and those of Lambda and X-Ray.
    """
    for name in filter(is_foreign, list(os.environ)):
        monkeypatch.delenv(name)


@pytest.fixture
def isolated_network() -> Iterator[IsolatedNetwork]:
    """A network namespace that has only 127.0.0.1, for this test, its `cluster` and its `secrets_manager`.

    It needs Linux, root and iptables. If one of them is missing, the test is skipped; if the environment variable `CI`
    is set, the test fails.
    """
    if reason := unsupported_reason():
        skip_or_fail(reason)
    with IsolatedNetwork() as network:
        yield network


@pytest.fixture(scope="session")
def shared_cluster(migrate_service: MigrateService) -> Iterator[Callable[[], LocalCluster]]:
    """A function that returns the cluster of all tests without a network namespace.

    If a test left the cluster broken, the function starts another one.
    """
    clusters: list[LocalCluster] = []
    with ExitStack() as stack:

        def current() -> LocalCluster:
            if not clusters or not _accepts_connections(clusters[-1]):
                clusters.append(stack.enter_context(_migrated_cluster(migrate_service)))
            return clusters[-1]

        yield current


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """A cluster like Aurora's, with a writer behind an endpoint and a migrated template database.

    Tests share the cluster, and must undo every change of it. A test with `isolated_network` has its own cluster.
    """
    if "isolated_network" in request.fixturenames:
        request.getfixturevalue("isolated_network")
        with _migrated_cluster(request.getfixturevalue("migrate_service")) as own_cluster:
            yield own_cluster
    else:
        yield request.getfixturevalue("shared_cluster")()


@pytest.fixture
def registration_environment(
    cluster: LocalCluster, secrets_manager: LocalSecretsManager, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RegistrationEnvironment]:
    """The environment of a service: an empty database in `cluster`, a login, its secret, and environment variables.

    The variables are set in this process, in which `get_db()` creates a new `Database` for the test;
    `RegistrationEnvironment.variables` has them for other processes.
    """
    username, password = f"service_{secrets.token_hex(4)}", secrets.token_urlsafe(24)
    server = cluster.primary.server
    server.create_login(username, password)
    with server.connect() as connection:
        connection.execute(f"GRANT {LOGIN} TO {username}")
    arn = secrets_manager.create(f"registration/{username}", {"username": username, "password": password})
    environment = RegistrationEnvironment(cluster, secrets_manager, arn, username, copy_template(server))
    for name, value in environment.variables.items():
        monkeypatch.setenv(name, value)
    forget_db()
    yield environment
    forget_db()
    secrets_manager.delete(arn)
    environment.server.drop_database(environment.name)
    with environment.server.connect() as connection:
        connection.execute(f"DROP ROLE IF EXISTS {username}, {username}_clone")


@pytest.fixture
def reader(
    registration_environment: RegistrationEnvironment, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RegistrationEnvironment]:
    """The environment of a service whose cluster also has a reader, and a reader endpoint; for Linux.

    `APP_DATABASE_READER_HOST` is set in this process and in `RegistrationEnvironment.variables`.
    """
    endpoint = registration_environment.cluster.add_reader()
    monkeypatch.setenv("APP_DATABASE_READER_HOST", endpoint.host)
    yield registration_environment
    registration_environment.cluster.remove_reader()


@pytest.fixture
def rotate(registration_environment: RegistrationEnvironment) -> Rotate:
    """Rotates the service's secret as AWS does, with a rotation window of any length."""

    def rotate_once(
        *, style: RotationStyle = "single", pause_in_window: Duration | Callable[[], object] = 0.0
    ) -> Credentials:
        env = registration_environment
        return rotate_secret(env.server, env.secrets_manager, env.arn, style=style, pause_in_window=pause_in_window)

    return rotate_once


@pytest.fixture
def fail_over(registration_environment: RegistrationEnvironment) -> FailOver:
    """Crashes the writer, and promotes a standby that has every acknowledged commit."""
    return registration_environment.cluster.fail_over


@pytest.fixture
def restart(registration_environment: RegistrationEnvironment) -> Restart:
    """Restarts the writer."""
    return registration_environment.cluster.restart


@pytest.fixture
def pause(registration_environment: RegistrationEnvironment) -> Pause:
    """Pauses the cluster until a client connects, as Aurora does if the minimum is 0 ACU and no session is open."""
    return registration_environment.cluster.pause


@pytest.fixture
def fill_slots(registration_environment: RegistrationEnvironment) -> FillSlots:
    """Holds the writer's connection slots, so that the server rejects the service with 53300."""
    return registration_environment.cluster.fill_slots


@pytest.fixture
def read_only(registration_environment: RegistrationEnvironment) -> Fault:
    """Makes the server behind the endpoint refuse writes until the block ends, like a demoted writer."""
    return registration_environment.cluster.read_only


@pytest.fixture
def drop_packets(isolated_network: IsolatedNetwork, registration_environment: RegistrationEnvironment) -> Fault:
    """Drops every packet to and from the endpoint until the block ends; the test runs in its own network namespace."""
    return partial(isolated_network.drop_packets, registration_environment.cluster.endpoint.port)


@pytest.fixture
def secrets_manager_down(registration_environment: RegistrationEnvironment) -> SecretsManagerDown:
    """Disturbs Secrets Manager until the block ends: `down`, `throttled` or `slow`."""
    return registration_environment.secrets_manager.outage


@pytest.fixture
def freeze() -> Freeze:
    """Freezes processes as Lambda does between invocations; clocks and servers continue to run."""

    def freeze_together(duration: Duration, *processes: LambdaProcess) -> None:
        seconds = bounded_seconds(duration, "duration")
        with ExitStack() as stack:
            for process in processes:
                stack.callback(process.resume)
                process.pause()
            time.sleep(seconds)

    return freeze_together


@pytest.fixture
def lambda_process(registration_environment: RegistrationEnvironment) -> Iterator[StartLambda]:
    """Starts handlers in their own processes, which end with the test."""
    with ExitStack() as stack:

        def start(handler: str, *, environment: Mapping[str, str] | None = None, **options: Any) -> LambdaProcess:
            variables = {**registration_environment.variables, **(environment or {})}
            return stack.enter_context(LambdaProcess(handler, environment=variables, **options))

        yield start


@contextmanager
def _migrated_cluster(migrate_service: MigrateService) -> Iterator[LocalCluster]:
    try:
        cluster = LocalCluster(cluster_binaries(), in_memory=True)
    except LocalServerError as error:
        skip_or_fail(error)
    with cluster:
        make_template(cluster.primary.server, migrate_service)
        yield cluster


def _accepts_connections(cluster: LocalCluster) -> bool:
    try:
        cluster.server.connect(connect_timeout=_PROBE_TIMEOUT_SECONDS).close()
    except psycopg.OperationalError:
        return False
    return True
