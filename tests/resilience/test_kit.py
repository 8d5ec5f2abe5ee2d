"""The faults themselves: each is what it says, and is over afterwards."""

import secrets
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

from registration_persistence import Database, DatabaseSettings, RegistrationRepository
from registration_persistence.sandbox import InvocationFailed, LocalSecretsManager, LocalServerError, TcpProxy
from registration_persistence.sandbox import network_namespace as network
from registration_persistence.testing import (
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

Connect = Callable[..., psycopg.Connection]


@pytest.fixture
def connect(registration_environment: RegistrationEnvironment) -> Connect:
    """Opens a connection through the endpoint with what is AWSCURRENT, or with what is said."""

    def open_one(username: str = "", password: str = "", **parameters: Any) -> psycopg.Connection:
        at = registration_environment
        current = at.secrets_manager.read(at.arn)
        return psycopg.connect(
            host="127.0.0.1",
            port=at.cluster.endpoint.port,
            dbname=at.name,
            user=username or current["username"],
            password=password or current["password"],
            **{"connect_timeout": 2, "autocommit": True} | parameters,
        )

    return open_one


def test_a_failover_keeps_what_was_acknowledged(
    registration_environment: RegistrationEnvironment, connect: Connect, fail_over: FailOver
) -> None:
    """Under writes, every acknowledged row is on the new primary; the endpoint is away for as long as was said."""
    with connect() as connection:
        connection.execute("CREATE TABLE numbers (number int)")
    acknowledged: list[int] = []
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            with suppress(psycopg.OperationalError), connect() as connection:
                while not over.is_set():
                    connection.execute("INSERT INTO numbers VALUES (%s)", [len(acknowledged)])
                    acknowledged.append(len(acknowledged))
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2):
            before = registration_environment.cluster.primary
            assert fail_over(switch_after=0.4) == pytest.approx(0.4, abs=0.3)
            assert registration_environment.cluster.primary is not before
            time.sleep(0.1)
    finally:
        over.set()
        writer.join()

    with registration_environment.connect() as connection:
        kept = {number for (number,) in connection.execute("SELECT number FROM numbers")}
    assert set(acknowledged) <= kept
    assert len(acknowledged) > 0


def test_a_failover_refuses_everybody_until_it_is_over(
    registration_environment: RegistrationEnvironment, connect: Connect, fail_over: FailOver
) -> None:
    """Open connections break at once, and new ones are refused until the endpoint has moved."""
    with pytest.raises(psycopg.OperationalError), connect() as connection:
        registration_environment.cluster.add_standby()
        moving = threading.Thread(target=fail_over, kwargs={"switch_after": 0.8})
        moving.start()
        try:
            connection.execute("SELECT pg_sleep(5)")
        finally:
            with pytest.raises(psycopg.OperationalError, match="refused"):
                connect()
            moving.join()

    with connect() as connection:
        assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)


def test_a_restart_ends_sessions(connect: Connect, restart: Restart) -> None:
    """The server says why, and the endpoint is there again afterwards, also for writes."""
    with pytest.raises(psycopg.errors.AdminShutdown), connect() as connection:
        restart(down_for=0.1)
        connection.execute("SELECT 1")

    connect().close()


def test_sessions_of_one_role_are_terminated(
    registration_environment: RegistrationEnvironment, connect: Connect
) -> None:
    """Others stay."""
    other = registration_environment.connect()
    with pytest.raises(psycopg.errors.AdminShutdown), connect() as connection:
        assert registration_environment.cluster.terminate_sessions(registration_environment.username) == 1
        connection.execute("SELECT 1")
    with other:
        other.execute("SELECT 1")


def test_full_slots_refuse_ordinary_roles(connect: Connect, fill_slots: FillSlots) -> None:
    """With none left a login is refused; with one left there is room for one; afterwards for all."""
    with fill_slots() as held:
        assert held > 10
        with pytest.raises(psycopg.OperationalError, match="remaining connection slots are reserved"):
            connect()
    with fill_slots(leave=1), connect(), pytest.raises(psycopg.OperationalError, match="remaining connection slots"):
        connect()
    with connect(), connect():
        pass


def test_read_only_is_for_open_sessions_too(connect: Connect, read_only: Fault) -> None:
    """Writes are refused with 25006 until the block ends."""
    with connect() as connection:
        with read_only(), pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TABLE numbers (number int)")
        connection.execute("CREATE TABLE numbers (number int)")


def test_dropped_packets_are_not_answered(connect: Connect, drop_packets: Fault) -> None:
    """Connecting times out instead of being refused, an open connection hears nothing, and all goes on afterwards."""
    with connect() as connection:
        with drop_packets():
            started = time.monotonic()
            with pytest.raises(psycopg.errors.ConnectionTimeout):
                connect()
            assert time.monotonic() - started > 1.9
        assert connection.execute("SELECT 1").fetchone() == (1,)
    connect().close()


def test_a_network_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the programs, entering fails with their names."""
    monkeypatch.setattr("shutil.which", lambda _name: None)
    if network.why_not() is None:
        pytest.fail("the programs were not missed")

    with pytest.raises(LocalServerError, match="a network of its own needs"), network.IsolatedNetwork():
        pass


def test_a_lost_reply_belongs_to_a_request_that_went_through(
    registration_environment: RegistrationEnvironment, connect: Connect
) -> None:
    """Logins are spared; the statement is carried out, and the client sees a broken connection."""
    endpoint = registration_environment.cluster.endpoint
    with connect() as connection:
        connection.execute("CREATE TABLE numbers (number int)")
    before = endpoint.lost
    with endpoint.lose_replies(1.0), pytest.raises(psycopg.OperationalError, match="closed"), connect() as connection:
        connection.execute("INSERT INTO numbers VALUES (1)")

    with connect() as connection:
        assert connection.execute("SELECT number FROM numbers").fetchall() == [(1,)]
    assert endpoint.lost == before + 1


def test_the_door_and_the_cut(registration_environment: RegistrationEnvironment) -> None:
    """A closed door refuses, an open one lets in again, at the same port; a cut ends what is open."""
    at = registration_environment.address
    with TcpProxy(at.host, at.port) as proxy:
        connection = psycopg.connect(host="127.0.0.1", port=proxy.port, user=at.user, password=at.password)
        proxy.close_door()
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(host="127.0.0.1", port=proxy.port, user=at.user, password=at.password)
        connection.execute("SELECT 1")
        proxy.open_door()
        psycopg.connect(host="127.0.0.1", port=proxy.port, user=at.user, password=at.password).close()
        proxy.cut()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        connection.close()


def test_a_rotation_has_a_window(
    registration_environment: RegistrationEnvironment, connect: Connect, rotate: Rotate
) -> None:
    """In the window AWSCURRENT is refused and AWSPENDING is right; afterwards AWSCURRENT is; three times in a row."""
    at = registration_environment
    seen = []

    def look() -> None:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect()
        connect(**at.secrets_manager.read(at.arn, "AWSPENDING")).close()
        seen.append(at.secrets_manager.read(at.arn))

    for _ in range(3):
        before = at.secrets_manager.read(at.arn)
        made = rotate(pause_in_window=look)
        assert before == seen[-1] == at.secrets_manager.read(at.arn, "AWSPREVIOUS")
        assert {"username": made.username, "password": made.password} == at.secrets_manager.read(at.arn)
        connect().close()
        assert made.password not in repr(made)


def test_alternating_users_take_turns(
    registration_environment: RegistrationEnvironment, connect: Connect, rotate: Rotate
) -> None:
    """Each time the other user is current, may do what the first may, and the one before still logs in."""
    at = registration_environment
    names = []
    for _ in range(3):
        before = at.secrets_manager.read(at.arn)
        names.append(rotate(style="alternating", pause_in_window=lambda: connect().close()).username)
        with connect() as connection:
            connection.execute("SELECT FROM registrations")
        connect(**before).close()

    assert [f"{at.username}_clone", at.username, f"{at.username}_clone"] == names


@pytest.mark.parametrize(("kind", "code"), [("down", "InternalServiceError"), ("throttled", "ThrottlingException")])
def test_an_outage_refuses(secrets_manager: LocalSecretsManager, kind: Any, code: str) -> None:
    """With the code that AWS gives, until the block ends; set-up calls go through."""
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
    """A client with less patience times out; the one that waits is answered when the outage ends."""
    client = _client(read_timeout=0.2)
    with secrets_manager_down("slow"), pytest.raises(ReadTimeoutError):
        client.get_secret_value(SecretId=registration_environment.arn)
    client.get_secret_value(SecretId=registration_environment.arn)
    client.close()


def _client(**options: Any) -> Any:
    config = Config(retries={"total_max_attempts": 1}, **options)
    return boto3.client("secretsmanager", region_name="eu-west-1", config=config)


def test_a_lambda_is_invoked(lambda_process: StartLambda, handler: str) -> None:
    """The handler gets the event and a context whose time runs; what it raises has its type, text and `retryable`."""
    process = lambda_process(handler, timeout=5.0)
    answer = process.invoke({"a": [1]})
    assert {"event": {"a": [1]}, "left": pytest.approx(5000, abs=200), "name": process.name} == answer
    assert "heard {'a': [1]}" in process.log

    with pytest.raises(InvocationFailed, match="TooManyConnections: no slot") as raised:
        process.invoke("raise")
    assert (raised.value.error_type, raised.value.retryable) == ("TooManyConnections", True)
    assert 0 < raised.value.seconds == process.seconds < 1
    with pytest.raises(InvocationFailed, match=r"(?s)Runtime.ExitError.*gone for good"):
        process.invoke("exit")
    with pytest.raises(LocalServerError, match="has ended with 1"):
        process.invoke("again")


def test_a_lambda_that_takes_too_long_is_killed(lambda_process: StartLambda, handler: str) -> None:
    """As its timeout says."""
    with pytest.raises(InvocationFailed, match=r"Sandbox.Timedout: Task timed out after 0.30 seconds"):
        lambda_process(handler, timeout=0.3).invoke("sleep")


def test_a_lambda_that_cannot_be_loaded_says_why(lambda_process: StartLambda, handler: str) -> None:
    """The error has the traceback."""
    with pytest.raises(LocalServerError, match="has no attribute 'other'"):
        lambda_process(handler.replace(":handle", ":other")).wait_ready()


def test_lambdas_freeze_and_end(lambda_process: StartLambda, freeze: Freeze, handler: str) -> None:
    """A frozen process answers when it is thawed; SIGTERM ends one, also one that is frozen."""
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


def test_the_calls_of_each_lambda_are_counted(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda, handler: str
) -> None:
    """By the name of the process."""
    first, second = lambda_process(handler), lambda_process(handler)
    assert registration_environment.username == first.invoke("read") == first.invoke("read")
    second.invoke("read")

    calls_of = registration_environment.secrets_manager.calls_of
    assert calls_of(first.name)["GetSecretValue"] == 2 * calls_of(second.name)["GetSecretValue"] > 0


@pytest.mark.parametrize("_time", [1, 2])
def test_an_isolated_session_keeps_nothing(isolated_session: Session, _time: int) -> None:
    """What the code commits is seen by the code alone, and is gone in the next test."""
    registrations = RegistrationRepository(isolated_session)
    assert registrations.find_by_email("ada@example.com") is None
    registrations.register("ada@example.com")
    isolated_session.commit()
    isolated_session.rollback()

    assert registrations.find_by_email("ada@example.com") is not None


def test_the_environment_is_enough(registration_environment: RegistrationEnvironment) -> None:
    """`DatabaseSettings.from_env` finds it, and the database is migrated and empty."""
    assert DatabaseSettings.from_env() == registration_environment.settings()
    database = Database(DatabaseSettings.from_env())
    with database.session() as session:
        RegistrationRepository(session).register("ada@example.com")
    database.dispose()

    with registration_environment.connect() as connection:
        assert connection.execute("SELECT count(*) FROM registrations").fetchone() == (1,)
