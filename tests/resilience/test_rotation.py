"""The secret rotates while requests go on: none fails, and none waits for the end of the window."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest
from resilience.outcomes import assert_exact, failures, handler, run_all

from registration_persistence import Database, deadline
from registration_persistence.database.credentials.secrets_manager import SecretsManagerCredentials
from registration_persistence.errors import CredentialsRejected
from registration_persistence.sandbox import LambdaProcess
from registration_persistence.testing import RegistrationEnvironment, Rotate, StartLambda

WINDOW = 15.0
DEADLINE = 10.0


@pytest.fixture
def impatient(registration_environment: RegistrationEnvironment) -> RegistrationEnvironment:
    """An environment whose server closes what idles for 0.3 s, so that connections are opened all the time."""
    at = registration_environment
    with at.connect() as connection:
        connection.execute(f"ALTER DATABASE {at.name} SET idle_session_timeout = '300ms'")
    return at


def test_no_request_fails_in_a_window_that_outlasts_it(
    impatient: RegistrationEnvironment, rotate: Rotate, lambda_process: StartLambda
) -> None:
    """Warm processes, and cold ones that start in the window, find the password in AWSPENDING."""
    warm = [lambda_process(handler("load"), environment={"WARM_UP": "1"}, timeout=60) for _ in range(2)]
    for process in warm:
        process.wait_ready()
    cold: list[LambdaProcess] = []

    def put_under_load() -> None:
        cold.extend(lambda_process(handler("load"), environment={"WARM_UP": "1"}, timeout=60) for _ in range(2))
        for process in [*warm, *cold]:
            process.start(
                {"name": process.name, "seconds": WINDOW, "deadline": DEADLINE, "pause": 0.6, "idempotent": True}
            )
        results.extend(run_all([*warm, *cold]))

    results: list[dict[str, object]] = []
    rotate(pause_in_window=put_under_load)

    assert [] == failures(results)
    assert_exact(impatient, results)
    for result in results:
        happened = result["happened"]
        assert isinstance(happened, dict)
        assert happened["secret_read: pending"] == 1
        assert happened["connection_opened: rotation"] == 1
        assert happened["connection_opened: thaw"] > 5, "the server closed no connection in the window"
        assert happened["login_rejected: password"] == 1, "the right password is not kept"
    calls = [impatient.secrets_manager.calls_of(process.name).total() for process in [*warm, *cold]]
    assert calls == [3, 3, 2, 2], "a cold process has read AWSCURRENT a moment ago"
    assert max(float(str(result["slowest"])) for result in results) < 1.0


def test_alternating_users_fail_no_request(
    impatient: RegistrationEnvironment, rotate: Rotate, lambda_process: StartLambda
) -> None:
    """Three rotations in a row under load; whoever starts afterwards logs in as the user of the moment."""
    process = lambda_process(handler("load"), environment={"WARM_UP": "1"}, timeout=60)
    process.start({"name": "busy", "seconds": 4, "deadline": DEADLINE, "pause": 0.4, "idempotent": True})
    names = []
    for _ in range(3):
        made = rotate(style="alternating", pause_in_window=0.3)
        names.append(made.username)
        fresh = lambda_process(handler("sign_up"))
        assert made.username == fresh.invoke({"key": f"after-{made.username}-{len(names)}"})["user"]

    result = process.result()

    assert [f"{impatient.username}_clone", impatient.username, f"{impatient.username}_clone"] == names
    assert [] == failures([result])
    assert_exact(
        impatient, [{**result, "kept": [*result["kept"], *(f"after-{n}-{i}" for i, n in enumerate(names, 1))]}]
    )


def test_the_name_follows_in_a_process_that_lives_on(
    registration_environment: RegistrationEnvironment, rotate: Rotate
) -> None:
    """When the user of before is refused, or the cached secret is looked at again, the other one is taken."""
    at = registration_environment
    database = Database(at.settings())
    assert at.username == user_of(database)

    made = rotate(style="alternating")
    with at.connect() as connection:
        connection.execute(f"ALTER ROLE {at.username} NOLOGIN")
    database.dispose()

    assert made.username == user_of(database) == f"{at.username}_clone"
    assert database.events.count("connection_opened", "rotation") == 1
    database.dispose()


def user_of(database: Database) -> str:
    """Who logs in."""
    with database.engine.connect() as connection:
        return str(connection.exec_driver_sql("SELECT current_user").scalar())


def test_one_thread_asks_for_all(registration_environment: RegistrationEnvironment, rotate: Rotate) -> None:
    """Twenty threads are refused at once in the window: each connects, with one or two calls for all together."""
    at = registration_environment
    database = Database(at.settings(APP_DATABASE_POOL="service", APP_DATABASE_POOL_SIZE="20"))
    database.ping()
    database.dispose()
    at.secrets_manager.forget_calls()
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
    assert at.secrets_manager.calls.total() <= 4


def test_one_thread_asks_for_all_in_a_cold_process(registration_environment: RegistrationEnvironment) -> None:
    """Eight threads open the first connections at once, with one call."""
    at = registration_environment
    database = Database(at.settings(APP_DATABASE_POOL="service", APP_DATABASE_POOL_SIZE="8"))
    with ThreadPoolExecutor(8) as threads:
        names = list(threads.map(lambda _: user_of(database), range(8)))
    database.dispose()

    assert {at.username} == set(names)
    assert at.secrets_manager.calls.total() == 1


def test_a_pause_is_over_with_the_first_success(
    registration_environment: RegistrationEnvironment, rotate: Rotate
) -> None:
    """Refused logins of before do not keep a rotation of later from being found."""
    at = registration_environment
    password = at.secrets_manager.read(at.arn)["password"]
    database = Database(at.settings())
    at.address.create_login(at.username, "what nobody knows")
    with pytest.raises(CredentialsRejected), deadline(2):
        database.ping()
    at.address.create_login(at.username, password)
    assert database.ping().writable
    database.dispose()

    rotate()
    waits: list[float] = []
    database.events.subscribe(lambda event: waits.append(event.seconds if event.name == "wait" else 0))
    assert database.ping().writable
    assert sum(waits) < 0.6, "the pauses went on to grow"
    database.dispose()


def test_what_was_adopted_is_left_when_the_secret_moves_on(
    registration_environment: RegistrationEnvironment, rotate: Rotate
) -> None:
    """The pending version stays in use only while the current one is that which was refused."""
    at = registration_environment
    credentials = SecretsManagerCredentials(at.arn, region="eu-west-1", max_age=1)
    database = Database(at.settings(), credentials)
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


def test_an_error_says_that_a_rotation_is_under_way(
    registration_environment: RegistrationEnvironment, rotate: Rotate
) -> None:
    """Where neither version is accepted, both are named."""
    at = registration_environment
    database = Database(at.settings(APP_DATABASE_CONNECT_TIMEOUT="2"))

    def in_the_window() -> None:
        at.address.create_login(at.username, "what nobody knows")
        expected = r"AWSCURRENT of arn:.* and .*AWSPENDING of arn:.*, which a rotation is about to make"
        with pytest.raises(CredentialsRejected, match=expected):
            database.ping()

    rotate(pause_in_window=in_the_window)
    assert database.events.count("login_rejected") <= 12


def test_nothing_that_is_written_holds_a_password(
    registration_environment: RegistrationEnvironment, rotate: Rotate, caplog: pytest.LogCaptureFixture
) -> None:
    """Every logger at DEBUG, on the way through a refused login, both versions of the secret and a fresh connection."""
    at = registration_environment
    database = Database(at.settings())
    with caplog.at_level(logging.DEBUG):
        before = at.secrets_manager.read(at.arn)["password"]
        caplog.clear()  # what the stand-in itself reads
        database.ping()
        written: list[str] = []

        def in_the_window() -> None:
            database.dispose()
            caplog.clear()
            database.ping()
            written.append(caplog.text)

        made = rotate(pause_in_window=in_the_window)
    database.dispose()

    assert "AWSPENDING" in written[0], "the loggers were silent"
    for password in (before, made.password):
        assert password not in written[0]
