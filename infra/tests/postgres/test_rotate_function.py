"""The rotation function, with a real PostgreSQL and Secrets Manager: steps, repetitions, failures and attacks."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import handler
import psycopg
import pytest
from postgres.rotation_environment import STEPS, Environment, environment
from problems import RotationFailed

from registration_persistence import Credentials
from registration_persistence.sandbox import FakeLambdaContext, LocalSecretsManager, PostgresServer


@pytest.fixture
def rotating(
    postgres_server: PostgresServer, secrets_manager: LocalSecretsManager, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Environment]:
    """A database with roles and secrets."""
    with environment(postgres_server, secrets_manager, monkeypatch) as created:
        yield created


def can_log_in(rotating: Environment, login: Credentials) -> bool:
    """Return whether the server accepts a login."""
    try:
        rotating.connect(login).close()
    except psycopg.OperationalError:
        return False
    return True


def test_alternating_users(rotating: Environment) -> None:
    """The users take turns; the previous login works until the next rotation; the privileges stay the same."""
    arn, logins = rotating.application, [rotating.current(rotating.application)]
    base = logins[0].username

    for _ in range(3):
        logins.append(rotating.rotate(arn, alternating=True))
        assert [can_log_in(rotating, login) for login in logins[-2:]] == [True, True]
        with rotating.connect(logins[-1]) as connection:
            assert connection.execute("SELECT count(*) FROM registrations").fetchall() == [(0,)]

    assert [login.username for login in logins] == [base, f"{base}_clone", base, f"{base}_clone"]
    assert [can_log_in(rotating, login) for login in logins[:2]] == [False, False]
    assert len({login.password for login in logins}) == 4
    assert all(len(login.password) == 32 and login.password.isalnum() for login in logins[1:])
    assert rotating.secrets_manager.read(arn)["ssl"] is True


def test_single_user(rotating: Environment) -> None:
    """The user stays, the previous password stops to work, and the secret keeps its other keys."""
    for arn in (rotating.admin, rotating.application):
        before = rotating.current(arn)
        after = rotating.rotate(arn)

        assert (after.username, can_log_in(rotating, after)) == (before.username, True)
        assert not can_log_in(rotating, before)
        assert rotating.secrets_manager.read(arn)["ssl"] is True


@pytest.mark.parametrize("alternating", [False, True])
def test_every_step_can_be_repeated(
    rotating: Environment,
    alternating: bool,  # noqa: FBT001 a parameter of the table
) -> None:
    """Repeated steps change nothing, also after the end; a step that another one must precede is refused."""
    arn = rotating.application
    version = rotating.start(arn)

    def perform(*steps: str) -> None:
        rotating.perform(arn, version, *steps, alternating=alternating)

    with pytest.raises(RotationFailed, match="AWSPENDING has no content: createSecret comes first"):
        perform("setSecret")
    perform("createSecret", "createSecret")
    pending = rotating.pending(arn)
    for early in ("testSecret", "finishSecret"):
        with pytest.raises(RotationFailed, match="the server rejects AWSPENDING"):
            perform(early)
    assert rotating.current(arn) != pending
    perform("setSecret", "createSecret", "setSecret", "testSecret", "testSecret", "finishSecret", *STEPS)

    assert rotating.current(arn) == pending
    assert can_log_in(rotating, pending)


def test_the_pending_login_works_before_it_becomes_current(rotating: Environment) -> None:
    """Alternating users: at every moment the current login works, so no request fails."""
    arn = rotating.application
    for _ in range(2):
        version = rotating.start(arn)
        for step in STEPS:
            rotating.perform(arn, version, step, alternating=True)
            assert can_log_in(rotating, rotating.current(arn)), step


@pytest.mark.parametrize("alternating", [False, True])
def test_steps_at_the_same_time(
    rotating: Environment,
    alternating: bool,  # noqa: FBT001 a parameter of the table
) -> None:
    """Concurrent invocations of `setSecret` all succeed, and the pending login works."""
    arn = rotating.application
    version = rotating.start(arn)
    rotating.perform(arn, version, "createSecret", alternating=alternating)
    event = {"SecretId": arn, "ClientRequestToken": version, "Step": "setSecret"}
    errors: list[BaseException] = []

    def invoke() -> None:
        try:
            handler.handle(event, FakeLambdaContext(timeout=20))
        except RotationFailed as error:
            errors.append(error)

    threads = [threading.Thread(target=invoke) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rotating.perform(arn, version, "testSecret", "finishSecret", alternating=alternating)

    assert errors == []
    assert can_log_in(rotating, rotating.current(arn))


def test_lost_label_is_recovered(rotating: Environment) -> None:
    """If `AWSCURRENT` stopped working because a rotation ended halfway, the previous version sets the password."""
    arn = rotating.application
    old = rotating.current(arn)
    rotating.rotate(arn)
    with rotating.server.connect() as connection:
        verifier = connection.pgconn.encrypt_password(
            old.password.encode(), old.username.encode(), b"scram-sha-256"
        ).decode()
        connection.execute(f"ALTER ROLE {old.username} PASSWORD '{verifier}'")

    assert can_log_in(rotating, rotating.rotate(arn))


def test_wrong_secret_changes_no_role(rotating: Environment) -> None:
    """A secret that names another role cannot make the administrator change the password of that role."""
    arn, admin = rotating.application, rotating.current(rotating.admin)
    current = rotating.current(arn)

    for current_user, pending_user in (
        (current.username, admin.username),
        (f"{admin.username}_clone", admin.username),
        (rotating.monitoring.username, f"{rotating.monitoring.username}_clone"),
    ):
        rotating.secrets_manager.put(arn, {"username": current_user, "password": "wrong"})
        version = rotating.start(arn)
        rotating.secrets_manager._client.put_secret_value(  # noqa: SLF001 with the id of this version
            SecretId=arn,
            ClientRequestToken=version,
            SecretString=f'{{"username": "{pending_user}", "password": "chosen"}}',
            VersionStages=["AWSPENDING"],
        )
        with pytest.raises(RotationFailed, match=r"AWSPENDING names|the server rejects"):
            rotating.perform(arn, version, "setSecret", alternating=True)

    assert can_log_in(rotating, admin)
    assert can_log_in(rotating, rotating.monitoring)


def test_invalid_events_are_refused(rotating: Environment) -> None:
    """The function rotates only its own secret, and only a version that a running rotation creates."""
    arn = rotating.application
    version = rotating.start(arn)
    rotating.perform(arn, version, "createSecret")
    valid = {"SecretId": arn, "ClientRequestToken": version, "Step": "testSecret"}
    changes = (
        *({"SecretId": rotating.admin}, {"SecretId": None}, {"Step": "dropSecret"}, {"Step": ["testSecret"]}),
        *({"ClientRequestToken": ""}, {"ClientRequestToken": rotating.start(rotating.admin)}),
    )

    events: list[Any] = [None, [], "testSecret", {}, *({**valid, **change} for change in changes)]
    for event in events:
        with pytest.raises(RotationFailed, match=r"the event|belongs to no running rotation"):
            handler.handle(event, FakeLambdaContext(timeout=20))


def test_failures_disclose_no_password(
    rotating: Environment, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither messages, log, nor any variable in the frames of an error contain a password; each wait has an end."""
    arn = rotating.application
    version = rotating.start(arn)
    rotating.perform(arn, version, "createSecret", alternating=True)
    passwords = [login(each).password for login, each in ((rotating.pending, arn), (rotating.current, arn))]
    passwords.append(rotating.current(rotating.admin).password)
    errors = []

    def fail(step: str, seconds: float = 20) -> str:
        with pytest.raises(RotationFailed) as caught:
            rotating.perform(arn, version, step, alternating=True, seconds=seconds)
        errors.append(caught.value)
        return str(caught.value)

    monkeypatch.setenv("APP_DATABASE_LOCK_TIMEOUT", "0.3")
    with caplog.at_level(logging.DEBUG, logger="rotation"):
        clone = rotating.pending(arn).username
        with rotating.server.connect() as other, other.transaction():
            other.execute(f"ALTER ROLE {clone} CONNECTION LIMIT 50")  # the row stays locked
            assert "lock timeout" in fail("setSecret")
        with rotating.server.connect() as other:
            other.execute(f"ALTER ROLE {clone} RENAME TO renamed_{clone}")
            assert f'role "{clone}" does not exist' in fail("setSecret")
            other.execute(f"ALTER ROLE renamed_{clone} RENAME TO {clone}")
        with rotating.secrets_manager.outage("down"):
            assert "InternalServiceError" in fail("setSecret")
        with monkeypatch.context() as patch:
            patch.setenv("APP_DATABASE_PORT", "1")
            assert "cannot connect" in fail("testSecret", seconds=3)
        rotating.perform(arn, version, "setSecret", "testSecret", "finishSecret", alternating=True)

    output = caplog.text + "".join(map(str, errors))
    for error in errors:
        assert error.__context__ is None
        trace = error.__traceback__
        while trace is not None:
            output += repr(trace.tb_frame.f_locals) if trace.tb_frame.f_code.co_filename == handler.__file__ else ""
            trace = trace.tb_next
    assert [] == [password for password in passwords if password in output]
    assert "testSecret" in caplog.text
