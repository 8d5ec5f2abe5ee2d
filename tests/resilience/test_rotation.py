"""The secret rotates under load: no request fails, and none waits for the end of the rotation window."""

import itertools
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest
from resilience.outcomes import assert_exact, failures, handler, run_all

from registration_persistence import Database, deadline
from registration_persistence.database import login
from registration_persistence.database.credentials import read_throttle, rotation_bridge
from registration_persistence.database.credentials.rotation_bridge import RotationBridge
from registration_persistence.errors import CredentialsRejected
from registration_persistence.sandbox import LambdaProcess
from registration_persistence.testing import RegistrationEnvironment, Rotate, StartLambda

WINDOW_SECONDS = 15.0
DEADLINE_SECONDS = 10.0
LOAD = {"deadline": DEADLINE_SECONDS, "idempotent": True}


@pytest.fixture
def reconnecting_environment(registration_environment: RegistrationEnvironment) -> RegistrationEnvironment:
    """An environment whose server closes sessions that idle for 0.3 s, so that connections are opened often."""
    env = registration_environment
    with env.connect() as connection:
        connection.execute(f"ALTER DATABASE {env.name} SET idle_session_timeout = '300ms'")
    return env


def test_no_request_fails_in_a_window_longer_than_its_deadline(
    reconnecting_environment: RegistrationEnvironment, rotate: Rotate, lambda_process: StartLambda
) -> None:
    """Warm processes, and cold processes that start in the window, read the password from AWSPENDING."""
    warm = [lambda_process(handler("load"), environment={"WARM_UP": "1"}, timeout=60) for _ in range(2)]
    for process in warm:
        process.wait_ready()
    cold: list[LambdaProcess] = []

    def run_load() -> None:
        cold.extend(lambda_process(handler("load"), environment={"WARM_UP": "1"}, timeout=60) for _ in range(2))
        for process in [*warm, *cold]:
            process.start({"name": process.name, "seconds": WINDOW_SECONDS, **LOAD, "pause": 0.6})
        results.extend(run_all([*warm, *cold]))

    results: list[dict[str, object]] = []
    rotate(pause_in_window=run_load)

    assert [] == failures(results)
    assert_exact(reconnecting_environment, results)
    for result in results:
        events = result["events"]
        assert isinstance(events, dict)
        assert events["secret_read: pending"] == 1
        assert events["connection_opened: rotation"] == 1
        assert events["connection_opened: thaw"] > 5, "the server closed no connection in the window"
        assert events["login_rejected: password"] == 1, "the password of AWSPENDING was not cached"
    calls = [reconnecting_environment.secrets_manager.calls_of(process.name).total() for process in [*warm, *cold]]
    assert calls == [3, 3, 2, 2], "a cold process has just read AWSCURRENT, and needs one call less"
    assert max(float(str(result["slowest"])) for result in results) < WINDOW_SECONDS / 3


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock for the logins on which 1 ms passes with each look at it, so that the test takes less than 0.2 s."""
    time_of_look = itertools.count(1_000, 0.001)
    for module in (login, read_throttle, rotation_bridge):
        monkeypatch.setattr(module, "monotonic", lambda: next(time_of_look))


@pytest.mark.usefixtures("slow_clock")
@pytest.mark.parametrize("rejected_in", ["the window", "the time after it"])
def test_two_rotations_in_a_row_cause_no_wait(
    registration_environment: RegistrationEnvironment, rotate: Rotate, rejected_in: str
) -> None:
    """The second rejected login also leads to a working connection at once: its versions are read without a pause."""
    env = registration_environment
    database = Database(env.settings())
    database.ping()
    env.secrets_manager.forget_calls()

    def reconnect() -> None:
        database.dispose()
        assert database.ping().writable

    for _ in range(2):
        if rejected_in == "the window":
            rotate(pause_in_window=reconnect)
        else:
            rotate()
            reconnect()
    database.dispose()

    events = database.events
    assert (2, 2, 0) == (
        events.count("login_rejected"),
        events.count("connection_opened", "rotation"),
        events.count("wait"),
    )
    reads = {"the window": (2, 2), "the time after it": (2, 0)}[rejected_in]
    assert reads == (events.count("secret_read", "rotation"), events.count("secret_read", "pending"))
    assert env.secrets_manager.calls.total() == sum(reads)


def test_alternating_users_fail_no_request(
    reconnecting_environment: RegistrationEnvironment, rotate: Rotate, lambda_process: StartLambda
) -> None:
    """Three rotations under load; a process that starts after one of them logs in as the current user."""
    process = lambda_process(handler("load"), environment={"WARM_UP": "1"}, timeout=60)
    process.start({"name": "busy", "seconds": 4, **LOAD, "pause": 0.4})
    names = []
    for _ in range(3):
        rotated = rotate(style="alternating", pause_in_window=0.3)
        names.append(rotated.username)
        cold = lambda_process(handler("sign_up"))
        assert rotated.username == cold.invoke({"key": f"after-{rotated.username}-{len(names)}"})["user"]

    result = process.result()

    assert [
        f"{reconnecting_environment.username}_clone",
        reconnecting_environment.username,
        f"{reconnecting_environment.username}_clone",
    ] == names
    assert [] == failures([result])
    assert_exact(
        reconnecting_environment,
        [{**result, "kept": [*result["kept"], *(f"after-{n}-{i}" for i, n in enumerate(names, 1))]}],
    )


def test_a_running_process_switches_to_the_other_user(
    registration_environment: RegistrationEnvironment, rotate: Rotate
) -> None:
    """When the server rejects the previous user, the process reads the secret and logs in as the other user."""
    env = registration_environment
    database = Database(env.settings())
    assert env.username == user_of(database)

    rotated = rotate(style="alternating")
    with env.connect() as connection:
        connection.execute(f"ALTER ROLE {env.username} NOLOGIN")
    database.dispose()

    assert rotated.username == user_of(database) == f"{env.username}_clone"
    assert database.events.count("connection_opened", "rotation") == 1
    database.dispose()


def user_of(database: Database) -> str:
    """Return the user of a connection of *database*."""
    with database.engine.connect() as connection:
        return str(connection.exec_driver_sql("SELECT current_user").scalar())


def test_rejected_threads_share_the_calls_to_secrets_manager(
    registration_environment: RegistrationEnvironment, rotate: Rotate
) -> None:
    """The server rejects twenty threads at once in the window: each connects, with at most four calls in total."""
    env = registration_environment
    database = Database(env.settings(APP_DATABASE_POOL="service", APP_DATABASE_POOL_SIZE="20"))
    database.ping()
    database.dispose()
    env.secrets_manager.forget_calls()
    opened: list[str] = []

    def in_the_window() -> None:
        threads = [Thread(target=lambda: opened.append(user_of(database))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    rotate(pause_in_window=in_the_window)
    database.dispose()

    assert len(opened) == 20
    assert env.secrets_manager.calls.total() <= 4


def test_threads_of_a_cold_process_share_one_call(registration_environment: RegistrationEnvironment) -> None:
    """Eight threads open the first connections at once, with one call to Secrets Manager."""
    env = registration_environment
    database = Database(env.settings(APP_DATABASE_POOL="service", APP_DATABASE_POOL_SIZE="8"))
    with ThreadPoolExecutor(8) as threads:
        names = list(threads.map(lambda _: user_of(database), range(8)))
    database.dispose()

    assert {env.username} == set(names)
    assert env.secrets_manager.calls.total() == 1


def test_a_successful_login_resets_the_back_off(
    registration_environment: RegistrationEnvironment, rotate: Rotate
) -> None:
    """Earlier rejected logins do not delay the detection of a later rotation."""
    env = registration_environment
    password = env.secrets_manager.read(env.arn)["password"]
    database = Database(env.settings())
    env.server.create_login(env.username, "an unknown password")
    with pytest.raises(CredentialsRejected), deadline(4):
        database.ping()
    env.server.create_login(env.username, password)
    assert database.ping().writable
    database.dispose()

    rotate()
    waits: list[float] = []
    database.events.subscribe(lambda event: waits.append(event.seconds if event.name == "wait" else 0))
    assert database.ping().writable
    assert sum(waits) < 0.6, "the pauses continued to grow"
    database.dispose()


def test_the_pending_version_is_dropped_when_the_secret_changes(
    registration_environment: RegistrationEnvironment, rotate: Rotate
) -> None:
    """The pending version is used only while AWSCURRENT is the version that the server has rejected."""
    env = registration_environment
    credentials = RotationBridge(env.arn, region="eu-west-1", max_age=1)
    database = Database(env.settings(), credentials)
    database.ping()
    adopted: list[str] = []

    def in_the_window() -> None:
        database.dispose()
        database.ping()
        adopted.append(credentials.current().password)

    first = rotate(pause_in_window=in_the_window)
    assert [first.password] == adopted
    second = rotate(style="alternating")
    time.sleep(1.2)
    assert second.password == credentials.current().password
    database.dispose()


def test_the_error_mentions_a_rotation_in_progress(
    registration_environment: RegistrationEnvironment, rotate: Rotate
) -> None:
    """If the server rejects both versions, the error names both."""
    env = registration_environment
    database = Database(env.settings(APP_DATABASE_CONNECT_TIMEOUT="4"))

    def in_the_window() -> None:
        env.server.create_login(env.username, "an unknown password")
        expected = r"AWSCURRENT of arn:.* and .*AWSPENDING of arn:.*, which a rotation is about to make"
        with pytest.raises(CredentialsRejected, match=expected):
            database.ping()

    rotate(pause_in_window=in_the_window)
    assert database.events.count("login_rejected") <= 20


def test_no_log_record_contains_a_password(
    registration_environment: RegistrationEnvironment, rotate: Rotate, caplog: pytest.LogCaptureFixture
) -> None:
    """Every logger is at DEBUG, while a login is rejected, both versions are read, and a connection is opened."""
    env = registration_environment
    database = Database(env.settings())
    with caplog.at_level(logging.DEBUG):
        before = env.secrets_manager.read(env.arn)["password"]
        caplog.clear()  # records of the call above, which the stand-in logs
        database.ping()
        logged: list[str] = []

        def in_the_window() -> None:
            database.dispose()
            caplog.clear()
            database.ping()
            logged.append(caplog.text)

        rotated = rotate(pause_in_window=in_the_window)
    database.dispose()

    assert "AWSPENDING" in logged[0], "nothing was logged"
    for password in (before, rotated.password):
        assert password not in logged[0]
