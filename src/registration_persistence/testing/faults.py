"""Faults as fixtures: a test asks for one by name, and the service under test meets it for real."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest

from registration_persistence.database import Credentials, forget_db
from registration_persistence.sandbox import (
    IsolatedNetwork,
    LambdaProcess,
    LocalCluster,
    LocalSecretsManager,
    LocalServerError,
)
from registration_persistence.sandbox import rotate as rotate_once
from registration_persistence.sandbox.network_namespace import why_not
from registration_persistence.sandbox.rotation import RotationStyle
from registration_persistence.testing.environment import (
    FailOver,
    Fault,
    FillSlots,
    Freeze,
    RegistrationEnvironment,
    Restart,
    Rotate,
    SecretsManagerDown,
    StartLambda,
)
from registration_persistence.testing.servers import missing
from registration_persistence.testing.template import LOGIN, copy_template, make_template


@pytest.fixture
def isolated_network() -> Iterator[IsolatedNetwork]:
    """A network with nothing but 127.0.0.1, for this test and what it starts; `cluster` and `secrets_manager` too.

    Skipped where the machine cannot (Linux and root are needed), failed there where `CI` is set.
    """
    if reason := why_not():
        missing(reason)
    with IsolatedNetwork() as network:
        yield network


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[Callable[[], LocalCluster]]:
    """Returns the cluster of all tests without a network of their own; another one when a test left it broken."""
    made: list[LocalCluster] = []
    with ExitStack() as stack:

        def current() -> LocalCluster:
            if not made or not _answers(made[-1]):
                made.append(stack.enter_context(_migrated_cluster()))
            return made[-1]

        yield current


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """A cluster like Aurora's, with a writer behind an endpoint and a migrated template.

    Tests share it, and may do to it what they like if they undo it. In an `isolated_network` it is the test's own.
    """
    if "isolated_network" in request.fixturenames:
        request.getfixturevalue("isolated_network")
        with _migrated_cluster() as made:
            yield made
    else:
        yield request.getfixturevalue("shared_cluster")()


@pytest.fixture
def registration_environment(
    cluster: LocalCluster, secrets_manager: LocalSecretsManager, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RegistrationEnvironment]:
    """All that a service needs: an empty database in `cluster`, a login, its secret, and the variables that name them.

    The variables are set for this process, whose `get_db()` begins anew; `RegistrationEnvironment.variables` has them
    for others.
    """
    username, password = f"service_{secrets.token_hex(4)}", secrets.token_urlsafe(24)
    server = cluster.primary.address
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
    environment.address.drop_database(environment.name)
    with environment.address.connect() as connection:
        connection.execute(f"DROP ROLE IF EXISTS {username}, {username}_clone")


@pytest.fixture
def rotate(registration_environment: RegistrationEnvironment) -> Rotate:
    """Rotates the service's secret as AWS does, also with a window in which only AWSPENDING is right."""

    def once(*, style: RotationStyle = "single", pause_in_window: float | Callable[[], None] = 0.0) -> Credentials:
        at = registration_environment
        return rotate_once(at.address, at.secrets_manager, at.arn, style=style, pause_in_window=pause_in_window)

    return once


@pytest.fixture
def fail_over(registration_environment: RegistrationEnvironment) -> FailOver:
    """Crashes the writer; a standby that has every acknowledged commit takes its place behind the endpoint."""
    return registration_environment.cluster.fail_over


@pytest.fixture
def restart(registration_environment: RegistrationEnvironment) -> Restart:
    """Restarts the writer."""
    return registration_environment.cluster.restart


@pytest.fixture
def fill_slots(registration_environment: RegistrationEnvironment) -> FillSlots:
    """Holds the writer's connection slots, so that the service is refused with 53300."""
    return registration_environment.cluster.fill_slots


@pytest.fixture
def read_only(registration_environment: RegistrationEnvironment) -> Fault:
    """Lets the server behind the endpoint refuse writes, as one does that is the writer no more."""
    return registration_environment.cluster.read_only


@pytest.fixture
def drop_packets(isolated_network: IsolatedNetwork, registration_environment: RegistrationEnvironment) -> Fault:
    """Drops every packet to and from the endpoint, in a network of the test's own, until the block ends."""
    return partial(isolated_network.drop_packets, registration_environment.cluster.endpoint.port)


@pytest.fixture
def secrets_manager_down(registration_environment: RegistrationEnvironment) -> SecretsManagerDown:
    """Disturbs Secrets Manager until the block ends: `down`, `throttled` or `slow`."""
    return registration_environment.secrets_manager.outage


@pytest.fixture
def freeze() -> Freeze:
    """Freezes processes, as Lambda does between invocations, while clocks and servers go on."""

    def all_at_once(seconds: float, *processes: LambdaProcess) -> None:
        with ExitStack() as stack:
            for process in processes:
                stack.callback(process.resume)
                process.pause()
            time.sleep(seconds)

    return all_at_once


@pytest.fixture
def lambda_process(registration_environment: RegistrationEnvironment) -> Iterator[StartLambda]:
    """Starts handlers in processes of their own, which end with the test."""
    with ExitStack() as stack:

        def start(handler: str, *, environment: Mapping[str, str] | None = None, **options: Any) -> LambdaProcess:
            variables = {**registration_environment.variables, **(environment or {})}
            return stack.enter_context(LambdaProcess(handler, environment=variables, **options))

        yield start


@contextmanager
def _migrated_cluster() -> Iterator[LocalCluster]:
    try:
        made = LocalCluster()
    except LocalServerError as error:
        missing(error)
    with made:
        make_template(made.primary.address)
        yield made


def _answers(cluster: LocalCluster) -> bool:
    try:
        cluster.address.connect(connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
