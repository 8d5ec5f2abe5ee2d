"""During every fault, a request is answered before its invocation ends, with timeouts of 3 s and of 29 s."""

import secrets
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest
from resilience.outcomes import assert_exact, failures, handler, run_all
from sqlalchemy import text

from registration_persistence import Database, DatabaseSettings, RegistrationPersistenceError, deadline
from registration_persistence.database.credentials.rotation_bridge import RotationBridge
from registration_persistence.errors import (
    CredentialsRejected,
    DatabaseUnavailable,
    SecretUnavailable,
    StatementTimeout,
    TooManyConnections,
)
from registration_persistence.sandbox import FakeLambdaContext
from registration_persistence.testing import (
    FailOver,
    Fault,
    FillSlots,
    RegistrationEnvironment,
    Restart,
    Rotate,
    SecretsManagerDown,
    StartLambda,
)

TIMEOUTS_SECONDS = (5.0, 29.0)


@dataclass
class Scene:
    """The environment of a service, and the ports of servers that do not work."""

    environment: RegistrationEnvironment
    silent_port: int
    closed_port: int

    def settings(self, **variables: str) -> DatabaseSettings:
        """Return the settings with these variables, without the time limits of the server."""
        limits = {"APP_DATABASE_STATEMENT_TIMEOUT": "60", "APP_DATABASE_LOCK_TIMEOUT": "0"}
        return self.environment.settings(APP_DATABASE_POOL="lambda", **limits, **variables)

    def database(self, **variables: str) -> Database:
        """Return a database with these settings, whose secret has been read already."""
        database = Database(self.settings(**variables))
        database.credentials.current()
        return database

    def login(self, **values: str) -> Database:
        """Return a database whose secret has these values."""
        manager = self.environment.secrets_manager
        current = manager.read(self.environment.arn)
        return self.database(
            APP_DATABASE_SECRET_ARN=manager.create(f"deadline/{secrets.token_hex(4)}", {**current, **values})
        )


Act = Callable[[], object]
"""Uses the database, and fails with the error of the fault."""


def refused(scene: Scene) -> Act:
    """No server listens on the database's port."""
    return scene.database(APP_DATABASE_PORT=str(scene.closed_port)).ping


def silent(scene: Scene) -> Act:
    """The server accepts connections and sends nothing."""
    return scene.database(APP_DATABASE_PORT=str(scene.silent_port)).ping


def wrong_password(scene: Scene) -> Act:
    """The password in the secret is wrong."""
    return scene.login(password="wrong").ping


def no_slot(scene: Scene) -> Act:
    """The connection limit of the role is 0."""
    username = f"nobody_{secrets.token_hex(4)}"
    with scene.environment.connect() as connection:
        connection.execute(f"CREATE ROLE {username} LOGIN CONNECTION LIMIT 0 PASSWORD 'secret'")
    return scene.login(username=username, password="secret").ping


def no_secrets_manager(scene: Scene) -> Act:
    """Secrets Manager refuses the connection."""
    return from_secrets_manager(scene, scene.closed_port)


def silent_secrets_manager(scene: Scene) -> Act:
    """Secrets Manager accepts the connection and sends nothing."""
    return from_secrets_manager(scene, scene.silent_port)


def from_secrets_manager(scene: Scene, port: int) -> Act:
    """Use a Secrets Manager on another port."""
    settings = scene.settings()
    credentials = RotationBridge(settings.secret_arn or "", region=settings.secret_region)
    from botocore.session import Session

    session = Session()
    session.set_config_variable("region", "eu-west-1")
    session.create_client = partial(session.create_client, endpoint_url=f"http://127.0.0.1:{port}")
    credentials._reader._session = session
    return Database(settings, credentials).ping


def slow_statement(scene: Scene) -> Act:
    """A statement takes two minutes."""
    database = scene.database()

    def act() -> None:
        try:
            with database.session() as session:
                session.execute(text("SELECT pg_sleep(120)"))
        finally:
            database.dispose()

    return act


def locked(scene: Scene) -> Act:
    """A lock is never released."""
    holder, waiter = scene.database(), scene.database()

    def act() -> None:
        try:
            with holder.session() as first, waiter.session() as second:
                first.execute(text("LOCK TABLE outbox"))
                second.execute(text("LOCK TABLE outbox"))
        finally:
            for database in (holder, waiter):
                database.dispose()

    return act


SCENES: list[tuple[Callable[[Scene], Act], type[RegistrationPersistenceError]]] = [
    (refused, DatabaseUnavailable),
    (silent, DatabaseUnavailable),
    (wrong_password, CredentialsRejected),
    (no_slot, TooManyConnections),
    (no_secrets_manager, SecretUnavailable),
    (silent_secrets_manager, SecretUnavailable),
    (slow_statement, StatementTimeout),
    (locked, StatementTimeout),
]


@pytest.fixture
def scene(registration_environment: RegistrationEnvironment) -> Iterator[Scene]:
    """A port with a silent server, and a port without a server."""
    with socket.socket() as closed, socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        closed.bind(("127.0.0.1", 0))
        yield Scene(registration_environment, listener.getsockname()[1], closed.getsockname()[1])


def measure(act: Act, seconds: float) -> tuple[type[BaseException] | None, float]:
    """Call *act* in an invocation, and return the class of its error and its duration in seconds."""
    started = time.monotonic()
    raised: type[BaseException] | None = None
    try:
        with deadline(FakeLambdaContext(seconds)):
            act()
    except RegistrationPersistenceError as error:
        raised = type(error)
    return raised, time.monotonic() - started


def test_every_wait_ends_before_the_invocation(scene: Scene) -> None:
    """Every permanent fault, with both timeouts and all at once, ends with its own error before the invocation ends."""
    prepared = {(prepare.__name__, limit): prepare(scene) for prepare, _ in SCENES for limit in TIMEOUTS_SECONDS}
    with ThreadPoolExecutor(len(prepared)) as threads:
        running: dict[tuple[str, float], Future[tuple[type[BaseException] | None, float]]] = {
            (name, limit): threads.submit(measure, act, limit) for (name, limit), act in prepared.items()
        }
    results = {key: future.result() for key, future in running.items()}

    expected = {(prepare.__name__, limit): error for prepare, error in SCENES for limit in TIMEOUTS_SECONDS}
    assert expected == {key: raised for key, (raised, _) in results.items()}
    assert {} == {key: seconds for key, (_, seconds) in results.items() if seconds >= key[1]}
    too_short = {key: seconds for key, (_, seconds) in results.items() if seconds < key[1] - 1.0}
    assert {} == too_short, "a wait ended although there was time left"


def test_requests_end_in_time_during_temporary_faults(  # noqa: PLR0917 each fault is a fixture
    registration_environment: RegistrationEnvironment,
    lambda_process: StartLambda,
    rotate: Rotate,
    restart: Restart,
    fail_over: FailOver,
    fill_slots: FillSlots,
    read_only: Fault,
    secrets_manager_down: SecretsManagerDown,
) -> None:
    """One fault after the other under load: with 29 s no request fails, with 3 s every request ends in time."""
    env = registration_environment
    with env.connect() as connection:
        connection.execute(f"ALTER DATABASE {env.name} SET idle_session_timeout = '200ms'")
    env.cluster.add_standby()
    processes = [lambda_process(handler("load"), environment={"WARM_UP": "1"}, timeout=120) for _ in TIMEOUTS_SECONDS]
    for process, limit in zip(processes, TIMEOUTS_SECONDS, strict=True):
        process.wait_ready()
        process.start({"name": process.name, "seconds": 16, "deadline": limit, "idempotent": True, "pause": 0.3})
    with secrets_manager_down():
        time.sleep(0.5)
    rotate(pause_in_window=1.0)
    rotate(style="alternating", pause_in_window=0.5)
    env.cluster.terminate_sessions()
    restart(down_for=0.5)
    with fill_slots():
        time.sleep(0.5)
    with read_only():
        time.sleep(0.5)
    with env.cluster.endpoint.lose_replies(0.1):
        time.sleep(0.5)
    fail_over(switch_after=3.5)
    for process in processes:
        process.freeze(0.5)
    results = run_all(processes)

    assert_exact(env, results)
    hasty, patient = results
    assert [] == failures([patient])
    assert {"DatabaseUnavailable"} >= {failure["type"] for failure in hasty["failed"]}
    for result, limit in zip(results, TIMEOUTS_SECONDS, strict=True):
        assert result["slowest"] < limit
    assert patient["slowest"] > 3, "no request was delayed by the failover"
