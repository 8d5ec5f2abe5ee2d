"""Which variables leave the sandbox, and how they are hidden in a process with threads."""

import os
import threading

import pytest

from registration_persistence.sandbox.isolation import (
    hidden_variables,
    is_foreign,
    is_of_libpq,
    isolated_environment,
    sandbox_environment,
)


@pytest.mark.parametrize(
    "name",
    ["AWS_PROFILE", "AWS_A_NEW_SETTING", "BOTO_CONFIG", "PGHOSTADDR", "No_Proxy", "HTTP_PROXY", "APP_DATABASE_NEW"],
)
def test_variables_of_the_connections_are_foreign(name: str) -> None:
    """Each variable of this package, libpq, the AWS SDK and proxies is foreign, also one that is not known yet."""
    assert is_foreign(name)


@pytest.mark.parametrize(
    "name", ["AWS_REGION", "AWS_LAMBDA_FUNCTION_NAME", "AWS_ENDPOINT_URL_S3", "AWS_XRAY_SDK_ENABLED"]
)
def test_variables_that_services_set_for_their_tests_stay(name: str) -> None:
    """Regions, endpoints of other services, and the variables of Lambda and X-Ray are not foreign."""
    assert not is_foreign(name)


def test_overlapping_blocks_hide_variables_until_the_last_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable is back when no thread hides it, also if the block raises."""
    monkeypatch.setenv("PGHOST", "db.invalid")
    entered, leave = threading.Event(), threading.Event()

    def hide() -> None:
        with hidden_variables(is_of_libpq):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=hide)
    with pytest.raises(KeyError), hidden_variables(is_of_libpq):
        thread.start()
        entered.wait(10)
        raise KeyError

    assert "PGHOST" not in os.environ
    leave.set()
    thread.join()
    assert os.environ["PGHOST"] == "db.invalid"


def test_a_process_is_isolated_for_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the block it has the environment of the sandbox, and afterwards its own."""
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("AWS_PROFILE", "other-machine")
    before = dict(os.environ)

    with isolated_environment():
        assert dict(os.environ) == sandbox_environment()
        assert os.environ["HOME"] == os.devnull

    assert before == dict(os.environ)
