"""`HttpApi`: an HTTP API of API Gateway on this machine, which invokes a function with events of format 2.0."""

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

Invoke = Callable[[dict[str, Any]], dict[str, Any]]

_TEXT = ("text/", "application/json", "application/javascript", "application/xml")


class HttpApi:
    """An HTTP API; use it as a context manager.

    Args:
        routes: The route keys, such as `GET /registrations/{id}`.
        invoke: Returns the response of the function to an event; it is called by one thread at a time.

    Attributes:
        url: The address, without a slash at its end.
        events: The events so far.
    """

    def __init__(self, routes: Iterable[str], invoke: Invoke) -> None:
        # A route without a variable is chosen first.
        self._routes = sorted(routes, key=lambda route: "{" in route)
        self._invoke, self._lock = invoke, Lock()
        self.events: list[dict[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """Return the response to a request, in the format of functions."""
        path = unquote(urlsplit(target).path)
        for route in self._routes:
            if (variables := _variables(route, f"{method} {path}")) is not None:
                event = _event(route, target, variables, headers, body)
                with self._lock:
                    self.events.append(event)
                    return self._invoke(event)
        return {"statusCode": 404, "body": json.dumps({"message": "Not Found"})}


def _variables(route: str, request: str) -> dict[str, str] | None:
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(route))
    match = re.fullmatch(pattern, request)
    return None if match is None else match.groupdict()


def _event(
    route: str, target: str, variables: dict[str, str], headers: Mapping[str, str], body: bytes
) -> dict[str, Any]:
    lower = {name.lower(): value for name, value in headers.items()}
    cookies = lower.pop("cookie", "")
    method, _, _ = route.partition(" ")
    is_text = lower.get("content-type", "text/plain").startswith(_TEXT)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": urlsplit(target).path,
        "rawQueryString": urlsplit(target).query,
        "headers": lower,
        "requestContext": {"stage": "$default", "http": {"method": method, "path": urlsplit(target).path}},
        "isBase64Encoded": bool(body) and not is_text,
    }
    if variables:
        event["pathParameters"] = variables
    if cookies:
        event["cookies"] = [cookie.strip() for cookie in cookies.split(";")]
    if body:
        event["body"] = body.decode() if is_text else base64.b64encode(body).decode()
    return event


def _handler(api: HttpApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the name of the standard library
            """Print nothing."""

        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            response = api.answer(self.command, self.path, dict(self.headers.items()), body)
            content = response.get("body", "").encode()
            self.send_response(response["statusCode"])
            for name, value in {"Content-Type": "application/json", **response.get("headers", {})}.items():
                self.send_header(name, value)
            for cookie in response.get("cookies", []):
                self.send_header("Set-Cookie", cookie)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _respond  # noqa: N815 the names of the standard library

    return Handler
