"""A stand-in for Datadog's API on this machine."""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

API_KEY, APP_KEY = "0123456789abcdef0123456789abcdef", "ddapp_fedcba9876543210FEDCBA9876543210"
KEYS = {"DD_API_KEY": API_KEY, "DD_APP_KEY": APP_KEY}


class FakeDatadog:
    """The requests for monitors and dashboards that the command sends, answered over HTTP from memory.

    Attributes:
        monitors: The stored monitors by id.
        dashboards: The stored dashboards by id.
        requests: The method and path of each request so far.
        fail: Returns status, headers and body of an error to answer with, or `None`. Gets the method and the path.
        filters: Whether a list of monitors is filtered by the tags that were asked for.
        host: The URL of this API.
    """

    def __init__(self) -> None:
        self.monitors: dict[int, dict[str, Any]] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.fail: Callable[[str, str], tuple[int, Mapping[str, str], str] | None] = lambda _method, _path: None
        self.filters = True
        self._next = 100
        handler = type("Handler", (_Handler,), {"datadog": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.host = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def changes(self) -> list[tuple[str, str]]:
        """The requests that change something."""
        return [(method, path) for method, path in self.requests if method != "GET"]

    def named(self, monitor_id: str) -> dict[str, Any]:
        """Return the only monitor with the tag *monitor_id*."""
        (found,) = [one for one in self.monitors.values() if f"monitor_id:{monitor_id}" in one["tags"]]
        return found

    def add_monitor(self, body: Mapping[str, Any]) -> int:
        """Store a monitor with the keys that Datadog adds, and return its id."""
        self._next += 1
        self.monitors[self._next] = self._monitor(self._next, body)
        return self._next

    def add_dashboard(self, body: Mapping[str, Any]) -> str:
        """Store a dashboard with the keys that Datadog adds, and return its id."""
        self._next += 1
        name = f"abc-{self._next}"
        self.dashboards[name] = self._dashboard(name, body)
        return name

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        """Return the status and the body of the answer to a request."""
        kind, _, name = path.removeprefix("/api/v1/").partition("/")
        if kind == "monitor":
            return self._answer_monitor(method, int(name) if name else None, query, body)
        return self._answer_dashboard(method, name, query, body)

    def _answer_monitor(self, method: str, number: int | None, query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        if number is None and method == "POST":
            return 200, self.monitors[self.add_monitor(body)]
        if number is None:
            asked = set(query["monitor_tags"].split(",")) if self.filters else set()
            found = [one for one in self.monitors.values() if asked <= set(one["tags"])]
            return 200, _page(found, int(query["page"]) * int(query["page_size"]), int(query["page_size"]))
        if number not in self.monitors:
            return 404, {"errors": ["Monitor not found"]}
        if method == "DELETE":
            del self.monitors[number]
            return 200, {"deleted_monitor_id": number}
        changed = self._monitor(number, body)
        if changed["type"] != self.monitors[number]["type"]:
            return 400, {"errors": ["The type of a monitor cannot be changed"]}
        self.monitors[number] = changed
        return 200, changed

    def _answer_dashboard(self, method: str, name: str, query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        if method == "POST":
            return 200, self.dashboards[self.add_dashboard(body)]
        if not name:
            listed = ("id", "title", "description", "layout_type")
            summaries = [{key: one.get(key) for key in listed} for one in self.dashboards.values()]
            return 200, {"dashboards": _page(summaries, int(query.get("start", 0)), int(query["count"]))}
        if method == "DELETE":
            del self.dashboards[name]
            return 200, {"deleted_dashboard_id": name}
        if method == "PUT":
            self.dashboards[name] = self._dashboard(name, body)
        return 200, self.dashboards[name]

    @staticmethod
    def _monitor(number: int, body: Mapping[str, Any]) -> dict[str, Any]:
        added = {"id": number, "multi": True, "overall_state": "No Data", "created": "2026-11-28T01:00:00+00:00"}
        kind = "metric alert" if body["type"] == "query alert" else body["type"]
        options = {"notify_audit": False, "silenced": {}, "new_host_delay": 300, **body.get("options", {})}
        tags = sorted(body["tags"], reverse=True)
        return {**deepcopy(dict(body)), **added, "type": kind, "options": options, "tags": tags}

    @staticmethod
    def _dashboard(name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        kept = {**deepcopy(dict(body)), "id": name, "url": f"/dashboard/{name}", "author_handle": "somebody"}
        for number, widget in enumerate(kept["widgets"]):
            widget["id"] = number
        return kept


def _page(found: list[Any], start: int, size: int) -> list[Any]:
    return found[start : start + size]


class _Handler(BaseHTTPRequestHandler):
    datadog: ClassVar[FakeDatadog]

    def answer(self) -> None:
        """Answer any request."""
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.datadog.requests.append((self.command, parts.path))
        failure = self.datadog.fail(self.command, parts.path)
        if (self.headers.get("DD-API-KEY"), self.headers.get("DD-APPLICATION-KEY")) != (API_KEY, APP_KEY):
            failure = 403, {}, '{"errors": ["Forbidden"]}'
        if failure:
            status, headers, text = failure
        else:
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            status, answer = self.datadog.answer(self.command, parts.path, query, body)
            headers, text = {}, json.dumps(answer)
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815  # http.server requires these names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name in the base class
        """Log nothing."""
