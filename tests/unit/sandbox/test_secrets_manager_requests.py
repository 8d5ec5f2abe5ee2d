"""Counted calls and outages in front of the local Secrets Manager."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from registration_persistence.sandbox.secrets_manager_requests import (
    CallCounter,
    OutageKind,
    OutageSwitch,
    WsgiApplication,
)


def answer(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer every request with 200."""
    start_response("200 OK", [])
    return [b"answer"]


def call(application: WsgiApplication, operation: str = "GetSecretValue", agent: str = "Boto3 app/first") -> str:
    """Send a request, and return the status of the answer."""
    statuses: list[str] = []
    environ = {"HTTP_X_AMZ_TARGET": f"secretsmanager.{operation}", "HTTP_USER_AGENT": agent}
    list(application(environ, lambda status, _headers: statuses.append(status)))
    return statuses[0]


def test_calls_are_counted_by_operation_and_client() -> None:
    """Requests of the ignored client are not counted, and `reset` sets every count to 0."""
    counter = CallCounter("own-client")
    application = counter.around(answer)
    for agent in ("Boto3 app/first", "Boto3 app/second x", "Boto3", "own-client app/first"):
        assert call(application, agent=agent) == "200 OK"
    call(application, "DescribeSecret")

    assert counter.total == {"GetSecretValue": 3, "DescribeSecret": 1}
    assert counter.of_client("first") == {"GetSecretValue": 1, "DescribeSecret": 1}
    assert counter.of_client("second") == {"GetSecretValue": 1}
    counter.reset()
    assert (counter.total.total(), counter.of_client("first").total()) == (0, 0)


@pytest.mark.parametrize(
    ("kind", "status"), [("down", "503 Service Unavailable"), ("throttled", "400 Bad Request"), ("slow", "200 OK")]
)
def test_an_outage_lasts_as_long_as_its_block(kind: OutageKind, status: str) -> None:
    """Requests of the ignored client are answered during the outage, and all are after it."""
    switch = OutageSwitch("own-client")
    application = switch.around(answer)
    with switch.outage(kind, delay=0.01):
        assert call(application) == status
        assert call(application, agent="own-client") == "200 OK"

    assert call(application) == "200 OK"


def test_an_unknown_outage_is_an_error() -> None:
    """The error lists the kinds."""
    unknown: Any = "gone"
    with pytest.raises(ValueError, match="kind is 'gone': expected one of down, throttled, slow"):
        OutageSwitch("own-client").outage(unknown, delay=1).__enter__()
