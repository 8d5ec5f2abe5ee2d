"""`datadog.api_errors`: the message about a request that failed."""

from collections.abc import Mapping

import pytest
from datadog_command import Command
from fake_datadog import APP_KEY, KEYS, FakeDatadog


@pytest.mark.parametrize(
    ("status", "headers", "text", "message"),
    [
        (
            401,
            {},
            '{"errors": ["Unauthorized"]}',
            "401 when asked to list the monitors: Unauthorized (DD_API_KEY and DD",
        ),
        (403, {}, '{"errors": ["Forbidden"]}', "403 when asked to list the monitors: Forbidden (DD_APP_KEY needs mon"),
        (429, {"X-RateLimit-Reset": "7"}, "{}", "Too Many Requests (too many requests, more are accepted in 7 s)"),
        (500, {}, "<html>", "500 when asked to list the monitors: Internal Server Error\n"),
        (400, {}, f'{{"errors": ["bad key {APP_KEY}"]}}', "bad key <DD_APP_KEY>"),
        # A redirect must not be followed, because the keys would be sent elsewhere.
        (302, {"Location": "/api/v1/elsewhere"}, "", "did not answer when asked to list the monitors"),
        (200, {}, "<html>", "Datadog's answer when asked to list the monitors cannot be read"),
    ],
)
def test_an_error_of_datadog_is_reported(
    command: Command, datadog: FakeDatadog, *, status: int, headers: Mapping[str, str], text: str, message: str
) -> None:
    """An error is one line with status, request, reason and hint, without a key, and the request is not repeated."""
    datadog.fail = lambda _method, _path: (status, headers, text)

    code, out, err = command.run(datadog=datadog)

    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert len(datadog.requests) == 1


def test_a_rejected_key_is_not_printed(command: Command, datadog: FakeDatadog) -> None:
    """If Datadog does not know a key, the message has the status and not the key."""
    code, _, err = command.run(datadog=datadog, environ={**KEYS, "DD_APP_KEY": "wrong-but-secret"})

    assert code == 1
    assert "Datadog answered 403" in err
    assert "wrong-but-secret" not in err


def test_an_unreachable_host_is_named(command: Command, datadog: FakeDatadog) -> None:
    """If the host refuses the connection, the message names it."""
    datadog.close()

    code, _, err = command.run(datadog=datadog)

    assert code == 1
    assert err.startswith(f"datadog: {datadog.host} did not answer when asked to list the monitors: ")
