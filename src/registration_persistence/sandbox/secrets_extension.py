"""`LocalSecretsExtension`: a stand-in for AWS's Parameters and Secrets Lambda Extension, with its cache and faults."""

import hmac
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, get_args
from urllib.parse import parse_qs, urlsplit

from registration_persistence.clock import monotonic
from registration_persistence.durations import Duration, bounded_seconds
from registration_persistence.sandbox.ports import LOOPBACK
from registration_persistence.sandbox.secrets_manager import LocalSecretsManager

ExtensionFault: TypeAlias = Literal[
    "not_ready", "failing", "forbidden", "slow", "dripping", "closing", "garbage", "huge", "redirecting"
]
"""How the extension fails: not yet started, with the status 500 or 403, without an answer, with a byte from time to
time, by closing the connection, with an answer that is not HTTP, with 64 MB, or with a redirection to itself."""

_PATH = "/secretsmanager/get"
_SHUTDOWN_POLL_SECONDS = 0.05
_DRIP_SECONDS = 0.05
_HUGE_BYTES, _CHUNK = 64 * 1024 * 1024, b"x" * 65_536

# The longest time that the extension of AWS keeps a value, which is also its default.
_MAX_AGE_SECONDS = 300.0

_STATUSES: dict[ExtensionFault, tuple[int, bytes]] = {
    "not_ready": (400, b"not ready to serve traffic, please wait"),
    "failing": (500, b"an unexpected error occurred while executing request"),
    "forbidden": (403, b"the token is not accepted"),
}


class LocalSecretsExtension:
    """A local Lambda extension in front of a local Secrets Manager; use it as a context manager.

    Like the extension of AWS, it needs no AWS SDK in its client, answers only requests with the session token of the
    function, and keeps a value, so that it returns the previous one after a rotation.

    Args:
        secrets_manager: The Secrets Manager that it reads.
        max_age: Time that it keeps a value, as a `timedelta` or in seconds, 0 to 300. Defaults to 300 s.

    Attributes:
        secrets_manager: The Secrets Manager that it reads.
        requests: The number of requests, including those that a fault has disturbed.
        port: The TCP port.

    Raises:
        TypeError, ValueError: *max_age* is not a duration in its range.
    """

    def __init__(self, secrets_manager: LocalSecretsManager, *, max_age: Duration = _MAX_AGE_SECONDS) -> None:
        self.secrets_manager: LocalSecretsManager = secrets_manager
        self._max_age = bounded_seconds(max_age, "max_age", most=_MAX_AGE_SECONDS)
        self._token = secrets.token_urlsafe(32)
        self._values: dict[str, tuple[float, bytes]] = {}
        self._fault: ExtensionFault | None = None
        self._is_over = Event()
        self.requests: int = 0
        self._server = ThreadingHTTPServer((LOOPBACK, 0), _handler_of(self._answer))
        self.port: int = self._server.server_address[1]
        self._thread = Thread(
            target=self._server.serve_forever, args=(_SHUTDOWN_POLL_SECONDS,), daemon=True, name="secrets-extension"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which a function of this package reads its secret from this extension.

        They contain the session token, without which the extension answers 403.
        """
        return {
            "APP_DATABASE_SECRET_SOURCE": "extension",
            "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": str(self.port),
            "AWS_SESSION_TOKEN": self._token,
        }

    @contextmanager
    def fault(self, kind: ExtensionFault) -> Iterator[None]:
        """Disturb every request until the block ends.

        Args:
            kind: How the extension fails.

        Raises:
            ValueError: *kind* is not an `ExtensionFault`.
        """
        if kind not in get_args(ExtensionFault):
            raise ValueError(f"kind is unknown: expected one of {', '.join(get_args(ExtensionFault))}")
        before, self._fault = self._fault, kind
        try:
            yield
        finally:
            self._fault = before

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests += 1
        fault, url = self._fault, urlsplit(request.path)
        if fault in _STATUSES:
            _send(request, *_STATUSES[fault])
        elif fault is not None:
            self._disturb(request, fault)
        elif not hmac.compare_digest(request.headers.get("X-Aws-Parameters-Secrets-Token", ""), self._token):
            _send(request, *_STATUSES["forbidden"])
        elif url.path != _PATH or "secretId" not in parse_qs(url.query):
            _send(request, 404, b"not found")
        else:
            _send(request, *self._value_of(parse_qs(url.query)["secretId"][0]))

    def _disturb(self, request: BaseHTTPRequestHandler, fault: ExtensionFault) -> None:
        match fault:
            case "slow":
                self._wait_while(fault)
            case "dripping":
                request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drop: ")
                while self._fault == fault and not self._is_over.wait(_DRIP_SECONDS):
                    request.wfile.write(b"x")
            case "garbage":
                request.wfile.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
            case "huge":
                request.send_response(200)
                request.end_headers()
                for _ in range(_HUGE_BYTES // len(_CHUNK)):
                    request.wfile.write(_CHUNK)
            case "redirecting":
                request.send_response(302)
                request.send_header("Location", request.path)
                request.end_headers()

    def _wait_while(self, fault: ExtensionFault) -> None:
        while self._fault == fault and not self._is_over.wait(_DRIP_SECONDS):
            pass

    def _value_of(self, arn: str) -> tuple[int, bytes]:
        """Return the status and the body for the secret *arn*; the body may be as old as the extension allows."""
        read_at, body = self._values.get(arn, (0.0, b""))
        if not body or monotonic() - read_at >= self._max_age:
            response = self.secrets_manager.response_of(arn)
            if response is None:
                return 400, b"the secret cannot be read"
            body = json.dumps(response, default=str).encode()
            self._values[arn] = (monotonic(), body)
        return 200, body


def _handler_of(answer: Callable[[BaseHTTPRequestHandler], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 the name of the base class
            """Log nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                self.close_connection = True  # the client did not wait for the answer

    return Handler


def _send(request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
