"""Lambda freezes a process between invocations, and servers close its sessions: the next request succeeds."""

from resilience.outcomes import handler

from registration_persistence.testing import Freeze, RegistrationEnvironment, StartLambda


def test_the_first_request_after_a_thaw_succeeds(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda, freeze: Freeze
) -> None:
    """The closed session is detected without a round trip, and the statement is executed once."""
    env = registration_environment
    with env.connect() as connection:
        connection.execute(f"ALTER DATABASE {env.name} SET idle_session_timeout = '500ms'")
    process = lambda_process(handler("sign_up"))
    before = process.invoke({"key": "before"})

    freeze(1.5, process)
    after = process.invoke({"key": "after"})

    assert before["backend"] != after["backend"]
    assert after["events"].get("retry: connection_lost") is None
    assert after["events"]["connection_opened: thaw"] == 1
    with env.connect() as connection:
        assert connection.execute("SELECT count(*) FROM registrations").fetchone() == (2,)
        assert connection.execute("SELECT count(*) FROM registration_events").fetchone() == (2,)


def test_the_connection_survives_a_short_freeze(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda, freeze: Freeze
) -> None:
    """A connection that the server has kept open is used again."""
    process = lambda_process(handler("sign_up"))
    before = process.invoke({"key": "before"})

    freeze(0.5, process)

    assert before["backend"] == process.invoke({"key": "after"})["backend"]
    assert registration_environment.secrets_manager.calls_of(process.name).total() == 1
