"""The handling of HTTP requests in front of the local Secrets Manager: the access key, counted calls, and outages."""

import hmac
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any, Literal, assert_never, get_args

from registration_persistence.durations import Duration, in_seconds
from registration_persistence.sandbox.ports import LOOPBACK

# botocore sends the value of `AWS_SDK_UA_APP_ID` in this form.
_APP_ID = re.compile(r"(?:^| )app/(\S+)")

_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/\d{8}/[a-z0-9-]+/secretsmanager/aws4_request,")

OutageKind = Literal["down", "throttled", "slow"]
"""`down` answers 503, `throttled` answers 400 with a ThrottlingException, `slow` answers correctly but late."""

WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class AccessGuard:
    """Rejects each request to a WSGI application that no AWS SDK with the access key of this server has sent.

    The server of moto accepts every key, lets every web page read its answers, and has pages that list its data.

    Args:
        access_key_id: The access key id that a request must have; it works like a password.
    """

    def __init__(self, access_key_id: str) -> None:
        self._access_key_id = access_key_id.encode()

    def around(self, application: WsgiApplication) -> WsgiApplication:
        """Return an application that answers a request with 403, or passes it to *application*."""

        def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            if not (self._has_key(environ) and _is_call_of_an_sdk(environ)):
                start_response("403 Forbidden", [("Content-Type", "application/x-amz-json-1.1")])
                return [b'{"__type": "UnrecognizedClientException", "message": "the access key is not accepted"}']

            def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
                kept = [header for header in headers if not header[0].lower().startswith("access-control-")]
                return start_response(status, kept, *error)

            return application(environ, start)

        return guarded

    def _has_key(self, environ: dict[str, Any]) -> bool:
        credential = _CREDENTIAL.match(environ.get("HTTP_AUTHORIZATION", ""))
        return credential is not None and hmac.compare_digest(credential[1].encode(), self._access_key_id)


def _is_call_of_an_sdk(environ: dict[str, Any]) -> bool:
    """Return whether a request is a call of Secrets Manager, and neither from a web page nor for another host name."""
    return (
        environ["REQUEST_METHOD"] == "POST"
        and (environ.get("PATH_INFO"), environ.get("QUERY_STRING", "")) == ("/", "")
        and environ.get("HTTP_HOST") == f"{LOOPBACK}:{environ['SERVER_PORT']}"
        and "HTTP_ORIGIN" not in environ
        and environ.get("HTTP_X_AMZ_TARGET", "").startswith("secretsmanager.")
    )


class CallCounter:
    """Counts the calls to a WSGI application, by operation.

    Args:
        ignored_agent: A text; requests with it in their User-Agent are not counted.

    Attributes:
        total: The number of calls of every client, by operation.
    """

    def __init__(self, ignored_agent: str) -> None:
        self.total: Counter[str] = Counter()
        self._by_client: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._ignored_agent = ignored_agent
        self._lock = Lock()

    def around(self, application: WsgiApplication) -> WsgiApplication:
        """Return an application that counts a request, then passes it to *application*."""

        def counted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            agent = environ.get("HTTP_USER_AGENT", "")
            if self._ignored_agent not in agent:
                self._count(environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2], agent)
            return application(environ, start_response)

        return counted

    def of_client(self, app_id: str) -> Counter[str]:
        """Return the number of calls of the clients with this `AWS_SDK_UA_APP_ID`, by operation."""
        with self._lock:
            return Counter(self._by_client[app_id])

    def reset(self) -> None:
        """Set every count to 0."""
        with self._lock:
            self.total.clear()
            self._by_client.clear()

    def _count(self, operation: str, agent: str) -> None:
        client = _APP_ID.search(agent)
        with self._lock:
            self.total[operation] += 1
            if client:
                self._by_client[client[1]][operation] += 1


class OutageSwitch:
    """Disturbs the calls to a WSGI application while an outage is active.

    Args:
        ignored_agent: A text; requests with it in their User-Agent are not disturbed.
    """

    def __init__(self, ignored_agent: str) -> None:
        self._ignored_agent = ignored_agent
        self._active: _Outage | None = None

    @contextmanager
    def outage(self, kind: OutageKind, delay: Duration) -> Iterator[None]:
        """Disturb calls until the block ends; an outage in another one replaces it for its block."""
        if kind not in get_args(OutageKind):
            raise ValueError(f"kind is {kind!r}: expected one of {', '.join(get_args(OutageKind))}")
        before, outage = self._active, _Outage(kind, in_seconds(delay))
        self._active = outage
        try:
            yield
        finally:
            self._active = before
            outage.is_over.set()

    def around(self, application: WsgiApplication) -> WsgiApplication:
        """Return an application that rejects or delays a request during an outage; else *application* answers."""

        def disturbed(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            outage = self._active
            rejection = None
            if outage and self._ignored_agent not in environ.get("HTTP_USER_AGENT", ""):
                rejection = outage.rejection()
            if rejection is None:
                return application(environ, start_response)
            status, body = rejection
            start_response(status, [("Content-Type", "application/x-amz-json-1.1")])
            return [body]

        return disturbed


@dataclass(frozen=True, slots=True)
class _Outage:
    kind: OutageKind
    delay_seconds: float
    is_over: Event = field(default_factory=Event)

    def rejection(self) -> tuple[str, bytes] | None:
        """Return the status and the body of a rejection; wait and return `None` if the call is only delayed."""
        match self.kind:
            case "down":
                return "503 Service Unavailable", b'{"__type": "InternalServiceError", "message": "down"}'
            case "throttled":
                return "400 Bad Request", b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'
            case "slow":
                self.is_over.wait(self.delay_seconds)
                return None
            case _:
                assert_never(self.kind)
