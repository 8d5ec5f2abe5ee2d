"""Whatever goes wrong, a request is answered before its invocation ends, with 3 s and with 29 s."""

import secrets
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from resilience.outcomes import assert_exact, failures, handler, run_all
from sqlalchemy import text

from registration_persistence import Database, DatabaseSettings, RegistrationPersistenceError, deadline
from registration_persistence.database.credentials.secrets_manager import SecretsManagerCredentials
from registration_persistence.errors import (
    CredentialsRejected,
    DatabaseUnavailable,
    SecretUnavailable,
    StatementTimeout,
    TooManyConnections,
)
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

LIMITS = (3.0, 29.0)


class FakeContext:
    """What Lambda hands to a handler, counting from the first question."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds that are left."""
        return int(1000 * (self.end - time.monotonic()))


@dataclass
class Scene:
    """A service with one connection, in which something goes wrong for good."""

    environment: RegistrationEnvironment
    silent: int
    closed: int

    def settings(self, **variables: str) -> DatabaseSettings:
        """Settings with these variables in place of the environment's, and without limits of the server's."""
        limits = {"APP_DATABASE_STATEMENT_TIMEOUT": "60", "APP_DATABASE_LOCK_TIMEOUT": "0"}
        return self.environment.settings(APP_DATABASE_POOL="lambda", **limits, **variables)

    def database(self, **variables: str) -> Database:
        """A database with these settings, whose secret was read, as where it is read at initialisation."""
        database = Database(self.settings(**variables))
        database.credentials.current()
        return database

    def login(self, **values: str) -> Database:
        """A database whose secret has these values."""
        manager = self.environment.secrets_manager
        current = manager.read(self.environment.arn)
        return self.database(
            APP_DATABASE_SECRET_ARN=manager.create(f"deadline/{secrets.token_hex(4)}", {**current, **values})
        )


Act = Callable[[], object]


def refused(scene: Scene) -> Act:
    """Nobody listens at the database's port."""
    return scene.database(APP_DATABASE_PORT=str(scene.closed)).ping


def silent(scene: Scene) -> Act:
    """Somebody listens there and never says a word."""
    return scene.database(APP_DATABASE_PORT=str(scene.silent)).ping


def wrong_password(scene: Scene) -> Act:
    """The secret is wrong for good."""
    return scene.login(password="wrong").ping


def no_slot(scene: Scene) -> Act:
    """The role may have no connection."""
    username = f"nobody_{secrets.token_hex(4)}"
    with scene.environment.connect() as connection:
        connection.execute(f"CREATE ROLE {username} LOGIN CONNECTION LIMIT 0 PASSWORD 'secret'")
    return scene.login(username=username, password="secret").ping


def no_secrets_manager(scene: Scene) -> Act:
    """Secrets Manager refuses the connection."""
    return from_secrets_manager(scene, scene.closed)


def silent_secrets_manager(scene: Scene) -> Act:
    """Secrets Manager accepts the connection and never says a word."""
    return from_secrets_manager(scene, scene.silent)


def from_secrets_manager(scene: Scene, port: int) -> Act:
    """Ask a Secrets Manager at another port."""
    settings = scene.settings()
    credentials = SecretsManagerCredentials(settings.secret_arn or "", region=settings.secret_region)
    from boto3.session import Session

    class Elsewhere(Session):  # type: ignore[misc]  # the library has no types
        def client(self, *arguments: object, **options: object) -> object:
            return super().client(*arguments, endpoint_url=f"http://127.0.0.1:{port}", **options)

    credentials._reader._session = Elsewhere(region_name="eu-west-1")
    return Database(settings, credentials).ping


def slow_statement(scene: Scene) -> Act:
    """A statement takes for ever."""
    database = scene.database()

    def act() -> None:
        try:
            with database.session() as session:
                session.execute(text("SELECT pg_sleep(120)"))
        finally:
            database.dispose()

    return act


def locked(scene: Scene) -> Act:
    """A lock is never given up."""
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
    """A place with a port that is silent, and one where nobody is."""
    with socket.socket() as closed, socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        closed.bind(("127.0.0.1", 0))
        yield Scene(registration_environment, listener.getsockname()[1], closed.getsockname()[1])


def meet(act: Act, seconds: float) -> tuple[type[BaseException] | None, float]:
    """Do *act* within an invocation, and return what it raised and when."""
    started = time.monotonic()
    met: type[BaseException] | None = None
    try:
        with deadline(FakeContext(seconds)):
            act()
    except RegistrationPersistenceError as error:
        met = type(error)
    return met, time.monotonic() - started


def test_every_wait_ends_before_the_invocation(scene: Scene) -> None:
    """Each fault that does not pass is met with both limits, all at once; the error is the one of the fault."""
    prepared = {(prepare.__name__, limit): prepare(scene) for prepare, _ in SCENES for limit in LIMITS}
    with ThreadPoolExecutor(len(prepared)) as threads:
        running: dict[tuple[str, float], Future[tuple[type[BaseException] | None, float]]] = {
            (name, limit): threads.submit(meet, act, limit) for (name, limit), act in prepared.items()
        }
    results = {key: future.result() for key, future in running.items()}

    expected = {(prepare.__name__, limit): error for prepare, error in SCENES for limit in LIMITS}
    assert expected == {key: met for key, (met, _) in results.items()}
    assert {} == {key: seconds for key, (_, seconds) in results.items() if seconds >= key[1]}
    used = {key: seconds for key, (_, seconds) in results.items() if seconds < key[1] / 4}
    assert {} == used, "it gave up although there was time"


def test_faults_that_pass_keep_nobody_beyond_it(  # noqa: PLR0917 each fault is a fixture
    registration_environment: RegistrationEnvironment,
    lambda_process: StartLambda,
    rotate: Rotate,
    restart: Restart,
    fail_over: FailOver,
    fill_slots: FillSlots,
    read_only: Fault,
    secrets_manager_down: SecretsManagerDown,
) -> None:
    """One fault after the other under load: with 29 s nothing fails, with 3 s nothing takes as long."""
    at = registration_environment
    with at.connect() as connection:
        connection.execute(f"ALTER DATABASE {at.name} SET idle_session_timeout = '200ms'")
    at.cluster.add_standby()
    processes = [lambda_process(handler("load"), environment={"WARM_UP": "1"}, timeout=120) for _ in LIMITS]
    for process, limit in zip(processes, LIMITS, strict=True):
        process.wait_ready()
        process.start(
            {"name": process.name, "seconds": 16, "deadline": limit, "idempotent": True, "attempts": 10, "pause": 0.3}
        )
    with secrets_manager_down():
        time.sleep(0.5)
    rotate(pause_in_window=1.0)
    rotate(style="alternating", pause_in_window=0.5)
    at.cluster.terminate_sessions()
    restart(down_for=0.5)
    with fill_slots():
        time.sleep(0.5)
    with read_only():
        time.sleep(0.5)
    with at.cluster.endpoint.lose_replies(0.1):
        time.sleep(0.5)
    fail_over(switch_after=3.5)
    for process in processes:
        process.freeze(0.5)
    results = run_all(processes)

    assert_exact(at, results)
    hasty, patient = results
    assert [] == failures([patient])
    assert {"DatabaseUnavailable"} >= {failure["type"] for failure in hasty["failed"]}
    for result, limit in zip(results, LIMITS, strict=True):
        assert result["slowest"] < limit
    assert patient["slowest"] > 3, "the failover was not met"
