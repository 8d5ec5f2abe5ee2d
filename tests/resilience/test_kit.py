"""The fixtures of the test kit: each fault has the described effect, and ends with its block."""

import asyncio
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import boto3
import psycopg
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError
from sqlalchemy.orm import Session

from registration_persistence import Database, DatabaseSettings, RegistrationRepository, get_async_db, get_db
from registration_persistence.sandbox import (
    InvocationFailed,
    LambdaProcess,
    LocalSecretsManager,
    LocalServerError,
    TcpProxy,
    wait_until,
)
from registration_persistence.sandbox import network_namespace as network
from registration_persistence.testing import (
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

Connect = Callable[..., psycopg.Connection]


@pytest.fixture
def connect(registration_environment: RegistrationEnvironment) -> Connect:
    """Opens a connection through the endpoint, by default with the login of AWSCURRENT."""

    def open_one(username: str = "", password: str = "", **parameters: Any) -> psycopg.Connection:
        env = registration_environment
        current = env.secrets_manager.read(env.arn)
        return psycopg.connect(
            host="127.0.0.1",
            port=env.cluster.endpoint.port,
            dbname=env.name,
            user=username or current["username"],
            password=password or current["password"],
            **{"connect_timeout": 2, "autocommit": True} | parameters,
        )

    return open_one


def test_a_failover_keeps_acknowledged_rows(
    registration_environment: RegistrationEnvironment, connect: Connect, fail_over: FailOver
) -> None:
    """Under load, every acknowledged row is on the new primary; the endpoint refuses connections for the given time."""
    with connect() as connection:
        connection.execute("CREATE TABLE numbers (number int)")
    acknowledged: list[int] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with suppress(psycopg.OperationalError), connect() as connection:
                while not stop.is_set():
                    connection.execute("INSERT INTO numbers VALUES (%s)", [len(acknowledged)])
                    acknowledged.append(len(acknowledged))
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2):
            before = registration_environment.cluster.primary
            # At least as long as asked, and not much longer than a promotion takes on a busy machine.
            assert 1.5 <= fail_over(switch_after=1.5) < 10
            assert registration_environment.cluster.primary is not before
            time.sleep(0.1)
    finally:
        stop.set()
        writer.join()

    with registration_environment.connect() as connection:
        kept = {number for (number,) in connection.execute("SELECT number FROM numbers")}
    assert set(acknowledged) <= kept
    assert len(acknowledged) > 0


def test_a_failover_refuses_connections_until_it_has_ended(
    registration_environment: RegistrationEnvironment, connect: Connect, fail_over: FailOver
) -> None:
    """Open connections end at once, and new ones are refused until the endpoint has moved."""
    with pytest.raises(psycopg.OperationalError), connect() as connection:
        registration_environment.cluster.add_standby()
        failover = threading.Thread(target=fail_over, kwargs={"switch_after": 0.8})
        failover.start()
        try:
            connection.execute("SELECT pg_sleep(5)")
        finally:
            with pytest.raises(psycopg.OperationalError, match="refused"):
                connect()
            failover.join()

    with connect() as connection:
        assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)


def test_a_restart_ends_sessions(connect: Connect, restart: Restart) -> None:
    """The server reports the shutdown, and then the endpoint accepts connections again."""
    with pytest.raises(psycopg.errors.AdminShutdown), connect() as connection:
        restart(down_for=0.1)
        connection.execute("SELECT 1")

    connect().close()


def test_sessions_of_one_role_are_terminated(
    registration_environment: RegistrationEnvironment, connect: Connect
) -> None:
    """Sessions of other roles stay open."""
    other = registration_environment.connect()
    with pytest.raises(psycopg.errors.AdminShutdown), connect() as connection:
        assert registration_environment.cluster.terminate_sessions(registration_environment.username) == 1
        connection.execute("SELECT 1")
    with other:
        other.execute("SELECT 1")


def test_full_slots_reject_ordinary_roles(connect: Connect, fill_slots: FillSlots) -> None:
    """Without a free slot, a login is rejected; with one free slot, one is accepted; after the block, all are."""
    with fill_slots() as held:
        assert held > 10
        with pytest.raises(psycopg.OperationalError, match="remaining connection slots are reserved"):
            connect()
    with fill_slots(leave=1), connect(), pytest.raises(psycopg.OperationalError, match="remaining connection slots"):
        connect()
    with connect(), connect():
        pass


def test_a_paused_cluster_wakes_up_at_the_first_attempt(
    registration_environment: RegistrationEnvironment, connect: Connect, pause: Pause
) -> None:
    """Open sessions end, an attempt that gives up has begun the wake-up, and the next one is answered at its end."""
    endpoint = registration_environment.cluster.endpoint
    with connect() as before, registration_environment.connect() as direct, pause(wake_after=3.0):
        with pytest.raises(psycopg.OperationalError):
            before.execute("SELECT 1")
        time.sleep(0.3)  # the wake-up has not begun
        started = time.monotonic()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            connect(connect_timeout=2)
        connect(connect_timeout=5).close()
        assert 2.9 < time.monotonic() - started < 5.9
        connect().close()
        assert time.monotonic() - started < 5.9, "it fell asleep again"
        direct.execute("SELECT 1")
    attempts = endpoint.connections
    with pause(wake_after=1.0, early="closed"):
        with pytest.raises(psycopg.OperationalError, match="closed the connection"):
            connect()
        wait_until(lambda: is_accepted(connect), "the cluster is awake")
    assert endpoint.connections > attempts + 2


def is_accepted(connect: Connect) -> bool:
    """Return whether the endpoint accepts a connection."""
    try:
        connect().close()
    except psycopg.OperationalError:
        return False
    return True


def test_a_pause_ends_with_its_block(connect: Connect, pause: Pause) -> None:
    """An attempt that waits is answered at the end of the block, and one that was cut in the meantime is forgotten."""
    opened: list[psycopg.Connection] = []
    thread = threading.Thread(target=lambda: opened.append(connect(connect_timeout=20)))
    with pause(wake_after=60):
        thread.start()
        time.sleep(0.3)
        assert not opened
    thread.join()
    opened[0].execute("SELECT 1")
    opened[0].close()


def test_a_pause_goes_with_other_faults(
    registration_environment: RegistrationEnvironment,
    connect: Connect,
    pause: Pause,
    restart: Restart,
    fail_over: FailOver,
) -> None:
    """A restart and a failover of a paused cluster leave it paused; then its replies can be lost, too."""
    endpoint = registration_environment.cluster.endpoint
    with pause(wake_after=2.0):
        restart(down_for=0.0)
        fail_over(switch_after=0.0)
        started = time.monotonic()
        connect(connect_timeout=5).close()
        assert time.monotonic() - started > 1.9
        with endpoint.lose_replies(1.0), pytest.raises(psycopg.OperationalError), connect() as connection:
            connection.execute("SELECT 1")


def test_a_wrong_pause_is_an_error(connect: Connect, pause: Pause) -> None:
    """The error names the argument or the mistake, and the cluster answers."""
    late: Any = "late"
    with pytest.raises(ValueError, match=r"wake_after is -1 s: expected 0 to 86400 s"), pause(wake_after=-1):
        pass
    with pytest.raises(TypeError, match="wake_after is a str"), pause(wake_after=late):
        pass
    with pytest.raises(ValueError, match="early is unknown: expected held or closed"), pause(early=late):
        pass
    with pause(wake_after=0), pytest.raises(RuntimeError, match="paused already"), pause(wake_after=0):
        pass
    connect().close()


def test_read_only_affects_open_sessions(connect: Connect, read_only: Fault) -> None:
    """The server rejects writes with 25006 until the block ends."""
    with connect() as connection:
        with read_only(), pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TABLE numbers (number int)")
        connection.execute("CREATE TABLE numbers (number int)")


def test_dropped_packets_cause_timeouts(connect: Connect, drop_packets: Fault) -> None:
    """Connecting times out instead of being refused, an open connection stays open, and works after the block."""
    with connect() as connection:
        with drop_packets():
            started = time.monotonic()
            with pytest.raises(psycopg.errors.ConnectionTimeout):
                connect()
            assert time.monotonic() - started > 1.9
        assert connection.execute("SELECT 1").fetchone() == (1,)
    connect().close()


def test_an_isolated_network_names_the_missing_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the programs, the error names them."""
    monkeypatch.setattr("shutil.which", lambda _name: None)
    if network.unsupported_reason() is None:
        pytest.fail("the missing programs were not detected")

    with pytest.raises(LocalServerError, match="a network namespace needs"), network.IsolatedNetwork():
        pass


def test_the_request_of_a_lost_reply_is_executed(
    registration_environment: RegistrationEnvironment, connect: Connect
) -> None:
    """Logins lose no reply; the statement is executed, and the client sees a closed connection."""
    endpoint = registration_environment.cluster.endpoint
    with connect() as connection:
        connection.execute("CREATE TABLE numbers (number int)")
    before = endpoint.lost_replies
    with endpoint.lose_replies(1.0), pytest.raises(psycopg.OperationalError, match="closed"), connect() as connection:
        connection.execute("INSERT INTO numbers VALUES (1)")

    with connect() as connection:
        assert connection.execute("SELECT number FROM numbers").fetchall() == [(1,)]
    assert endpoint.lost_replies == before + 1


def test_a_proxy_refuses_and_closes_connections(registration_environment: RegistrationEnvironment) -> None:
    """`stop_accepting` refuses new connections, `resume_accepting` accepts them again, `cut` closes open ones."""
    server = registration_environment.server
    with TcpProxy(server.host, server.port) as proxy:
        connection = psycopg.connect(host="127.0.0.1", port=proxy.port, user=server.user, password=server.password)
        proxy.stop_accepting()
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(host="127.0.0.1", port=proxy.port, user=server.user, password=server.password)
        connection.execute("SELECT 1")
        proxy.resume_accepting()
        psycopg.connect(host="127.0.0.1", port=proxy.port, user=server.user, password=server.password).close()
        proxy.cut()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        connection.close()


def test_a_rotation_has_a_window(
    registration_environment: RegistrationEnvironment, connect: Connect, rotate: Rotate
) -> None:
    """In the window, the server rejects AWSCURRENT and accepts AWSPENDING; then it accepts AWSCURRENT; three times."""
    env = registration_environment
    values = []

    def try_both_versions() -> None:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect()
        connect(**env.secrets_manager.read(env.arn, "AWSPENDING")).close()
        values.append(env.secrets_manager.read(env.arn))

    for _ in range(3):
        before = env.secrets_manager.read(env.arn)
        rotated = rotate(pause_in_window=try_both_versions)
        assert before == values[-1] == env.secrets_manager.read(env.arn, "AWSPREVIOUS")
        assert {"username": rotated.username, "password": rotated.password} == env.secrets_manager.read(env.arn)
        connect().close()
        assert rotated.password not in repr(rotated)


def test_alternating_users_take_turns(
    registration_environment: RegistrationEnvironment, connect: Connect, rotate: Rotate
) -> None:
    """Each rotation switches to the other user, which has the same privileges; the previous user can still log in."""
    env = registration_environment
    names = []
    for _ in range(3):
        before = env.secrets_manager.read(env.arn)
        names.append(rotate(style="alternating", pause_in_window=lambda: connect().close()).username)
        with connect() as connection:
            connection.execute("SELECT FROM registrations")
        connect(**before).close()

    assert [f"{env.username}_clone", env.username, f"{env.username}_clone"] == names


@pytest.mark.parametrize(("kind", "code"), [("down", "InternalServiceError"), ("throttled", "ThrottlingException")])
def test_an_outage_rejects_calls(secrets_manager: LocalSecretsManager, kind: Any, code: str) -> None:
    """Calls are rejected with the error code of AWS until the block ends; calls of the stand-in itself succeed."""
    client = _client()
    with secrets_manager.outage(kind):
        arn = secrets_manager.create(secrets.token_hex(4), {})
        with pytest.raises(ClientError, match=code):
            client.get_secret_value(SecretId=arn)
    client.get_secret_value(SecretId=arn)
    client.close()

    assert secrets_manager.calls == {"GetSecretValue": 2}


def test_a_slow_secrets_manager_answers_late(
    registration_environment: RegistrationEnvironment, secrets_manager_down: SecretsManagerDown
) -> None:
    """A client with a short timeout gets an error; after the outage, calls are answered."""
    client = _client(read_timeout=0.2)
    with secrets_manager_down("slow"), pytest.raises(ReadTimeoutError):
        client.get_secret_value(SecretId=registration_environment.arn)
    client.get_secret_value(SecretId=registration_environment.arn)
    client.close()


def _client(**options: Any) -> Any:
    config = Config(retries={"total_max_attempts": 1}, **options)
    return boto3.client("secretsmanager", region_name="eu-west-1", config=config)


def test_a_lambda_is_invoked(lambda_process: StartLambda, handler: str) -> None:
    """The handler gets the event and a context; `InvocationFailed` has the class, text and `retryable` of its error."""
    process = lambda_process(handler, timeout=5.0)
    answer = process.invoke({"a": [1]})
    assert {"event": {"a": [1]}, "remaining": pytest.approx(4500, abs=500), "name": process.name} == answer
    assert "event {'a': [1]}" in process.log

    with pytest.raises(InvocationFailed, match="TooManyConnections: no slot") as raised:
        process.invoke("raise")
    assert (raised.value.error_type, raised.value.retryable) == ("TooManyConnections", True)
    assert 0 < raised.value.seconds == process.seconds < 5
    with pytest.raises(InvocationFailed, match=r"(?s)Runtime.ExitError.*the handler exits"):
        process.invoke("exit")
    with pytest.raises(LocalServerError, match="has ended with 1"):
        process.invoke("again")


def test_a_lambda_that_takes_too_long_is_killed(lambda_process: StartLambda, handler: str) -> None:
    """The process is killed after its timeout, and the error has Lambda's text."""
    with pytest.raises(InvocationFailed, match=r"Sandbox.Timedout: Task timed out after 0.30 seconds"):
        lambda_process(handler, timeout=0.3).invoke("sleep")


def test_a_lambda_that_cannot_be_loaded_is_an_error(lambda_process: StartLambda, handler: str) -> None:
    """The error contains the traceback."""
    with pytest.raises(LocalServerError, match="has no attribute 'other'"):
        lambda_process(handler.replace(":handle", ":other")).wait_ready()


def test_lambdas_freeze_and_end(lambda_process: StartLambda, freeze: Freeze, handler: str) -> None:
    """A frozen process answers after it is thawed; `terminate` also ends a frozen process."""
    processes = [lambda_process(handler) for _ in range(2)]
    for process in processes:
        process.wait_ready()
    frozen = threading.Thread(target=freeze, args=(0.5, *processes))
    frozen.start()
    time.sleep(0.1)
    for process in processes:
        process.start("hello")
        with pytest.raises(TimeoutError):
            process.result(0.1)
    frozen.join()

    assert ["hello", "hello"] == [process.result()["event"] for process in processes]
    processes[0].pause()
    assert [-15, -15] == [process.terminate() for process in processes]


def test_a_lambda_inherits_no_ignored_or_blocked_signal(handler: str) -> None:
    """SIGINT and SIGTERM reach the handler, although this process ignores and blocks them, like a background job."""
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, list(handlers))
    try:
        with LambdaProcess(handler) as interrupted, LambdaProcess(handler) as terminated:
            interrupted.start("sleep")
            os.kill(interrupted.pid, signal.SIGINT)
            with pytest.raises(InvocationFailed, match=r"(?s)Runtime.ExitError.*KeyboardInterrupt"):
                interrupted.result()
            terminated.wait_ready()
            assert terminated.terminate(grace=10) == -signal.SIGTERM
    finally:
        for number, previous in handlers.items():
            signal.signal(number, previous)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_a_lambda_has_only_its_own_variables(handler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of this process are not inherited, and without credentials the AWS SDK finds none."""
    monkeypatch.setenv("AWS_PROFILE", "other-machine")
    monkeypatch.setenv("APP_DATABASE_HOST", "db.invalid")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with LambdaProcess(handler, environment={"LOG_LEVEL": "debug"}) as process:
        variables = process.invoke("variables")

    assert variables["LOG_LEVEL"] == "debug"
    assert variables["AWS_REGION"] == "eu-west-1"
    assert variables["AWS_EC2_METADATA_DISABLED"] == "true"
    assert not variables.keys() & {"AWS_PROFILE", "APP_DATABASE_HOST", "AWS_SECRET_ACCESS_KEY"}


def test_the_calls_of_each_lambda_are_counted(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda, handler: str
) -> None:
    """Calls are counted by the name of the process."""
    first, second = lambda_process(handler), lambda_process(handler)
    assert registration_environment.username == first.invoke("read") == first.invoke("read")
    second.invoke("read")

    calls_of = registration_environment.secrets_manager.calls_of
    assert calls_of(first.name)["GetSecretValue"] == 2 * calls_of(second.name)["GetSecretValue"] > 0


@pytest.mark.parametrize("_time", [1, 2])
def test_an_isolated_session_is_rolled_back(isolated_session: Session, _time: int) -> None:
    """The code sees its commits, and the next test does not."""
    registrations = RegistrationRepository(isolated_session)
    assert registrations.find_by_email("ada@example.com") is None
    registrations.register("ada@example.com")
    isolated_session.commit()
    isolated_session.rollback()

    assert registrations.find_by_email("ada@example.com") is not None


def test_the_environment_is_complete(registration_environment: RegistrationEnvironment) -> None:
    """`DatabaseSettings.from_env` reads it, and the database is migrated and empty."""
    assert DatabaseSettings.from_env() == registration_environment.settings()
    database = Database(DatabaseSettings.from_env())
    with database.session() as session:
        RegistrationRepository(session).register("ada@example.com")
    database.dispose()

    with registration_environment.connect() as connection:
        assert connection.execute("SELECT count(*) FROM registrations").fetchone() == (1,)


@pytest.mark.parametrize("_", range(2))
def test_each_test_has_databases_of_its_own(registration_environment: RegistrationEnvironment, _: int) -> None:
    """`get_db()` and `get_async_db()` are new for each test, and read its environment."""
    for database in (get_db(), get_async_db()):
        assert database.settings.name == registration_environment.name
        assert database.events.count("connection_opened") == 0
    assert asyncio.run(get_async_db().ping()).writable
    assert get_db().ping().writable
