"""Lambda freezes a process between invocations, and servers do not wait: the first request afterwards succeeds."""

from resilience.outcomes import handler

from registration_persistence.testing import Freeze, RegistrationEnvironment, StartLambda


def test_the_first_request_after_a_thaw_succeeds(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda, freeze: Freeze
) -> None:
    """The server closed the idle session meanwhile; that is seen without asking, and the statement runs once."""
    at = registration_environment
    with at.connect() as connection:
        connection.execute(f"ALTER DATABASE {at.name} SET idle_session_timeout = '500ms'")
    process = lambda_process(handler("sign_up"))
    before = process.invoke({"key": "before"})

    freeze(1.5, process)
    after = process.invoke({"key": "after"})

    assert before["backend"] != after["backend"]
    assert after["happened"].get("retry: connection_lost") is None
    assert after["happened"]["connection_opened: thaw"] == 1
    with at.connect() as connection:
        assert connection.execute("SELECT count(*) FROM registrations").fetchone() == (2,)
        assert connection.execute("SELECT count(*) FROM registration_events").fetchone() == (2,)


def test_a_short_freeze_changes_nothing(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda, freeze: Freeze
) -> None:
    """A connection that the server kept is used on."""
    process = lambda_process(handler("sign_up"))
    before = process.invoke({"key": "before"})

    freeze(0.5, process)

    assert before["backend"] == process.invoke({"key": "after"})["backend"]
    assert registration_environment.secrets_manager.calls_of(process.name).total() == 1
