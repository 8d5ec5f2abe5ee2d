"""`sync_datadog`: what the shipped files ask of Datadog, what is refused in what words, and what `--apply` changes."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
import sync_datadog
from registration_infra import ENVIRONMENTS, load

from registration_persistence import DatabaseEvent

INFRA = Path(__file__).parents[2]
DOCS = INFRA.parent / "docs"
RUNBOOKS = {
    "restore-to-a-point-in-time.md",
    "restore-from-the-central-backup.md",
    "rotate-at-once.md",
    "raise-capacity.md",
    "upgrade-postgresql.md",
}
API_KEY, APP_KEY = "0123456789abcdef0123456789abcdef", "ddapp_fedcba9876543210FEDCBA9876543210"
KEYS = {"DD_API_KEY": API_KEY, "DD_APP_KEY": APP_KEY}
OWNER = "managed_by:registration_persistence"
YES = True
REQUEST = ("widgets", 0, "definition", "widgets", 0, "definition", "requests", 0)


class FakeDatadog:
    """Datadog's monitors and dashboards over HTTP on this machine, as much of them as is asked for here."""

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
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def changes(self) -> list[tuple[str, str]]:
        """The requests that were to change something."""
        return [(method, path) for method, path in self.requests if method != "GET"]

    def named(self, monitor_id: str) -> dict[str, Any]:
        """Return the only monitor with the tag *monitor_id*."""
        (found,) = [one for one in self.monitors.values() if f"monitor_id:{monitor_id}" in one["tags"]]
        return found

    def add_monitor(self, body: Mapping[str, Any]) -> int:
        """Keep a monitor as Datadog does, with what it adds by itself."""
        self._next += 1
        self.monitors[self._next] = self._monitor(self._next, body)
        return self._next

    def add_dashboard(self, body: Mapping[str, Any]) -> str:
        """Keep a dashboard as Datadog does, with what it adds by itself."""
        self._next += 1
        name = f"abc-{self._next}"
        self.dashboards[name] = self._dashboard(name, body)
        return name

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        """Return status and body of an answer."""
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
        self.monitors[number] = self._monitor(number, body)
        return 200, self.monitors[number]

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

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815  # the names that http.server asks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name in the class above
        """Log nothing."""


@pytest.fixture
def datadog() -> Iterator[FakeDatadog]:
    """Return an empty Datadog."""
    server = FakeDatadog()
    yield server
    server.close()


class Sync:
    """The command in a copy of the shipped files."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys

    def run(
        self, *arguments: str, datadog: FakeDatadog | None = None, environ: Mapping[str, str] = KEYS
    ) -> tuple[int, str, str]:
        """Return the exit code of the command and what it wrote; with *datadog*, it applies."""
        words = ["--environment", "dev", *arguments] if "--environment" not in arguments else list(arguments)
        apply = ["--apply"] if datadog else []
        host = datadog.host if datadog else None
        code = sync_datadog.main([*words, *apply], folder=self.folder, environ=environ, host=host)
        written = self._capsys.readouterr()
        for key in (API_KEY, APP_KEY):
            assert key not in written.out + written.err
        return code, written.out, written.err

    def apply(self, datadog: FakeDatadog, *arguments: str) -> list[str]:
        """Apply without an error, and return the changes that were told."""
        code, out, err = self.run("--notify", "@ops", *arguments, datadog=datadog)
        assert (code, err) == (0, "")
        return out.splitlines()[:-1]

    def bodies(self, environment: str = "dev") -> dict[str, dict[str, Any]]:
        """Return what would be sent, by file."""
        code, out, err = self.run("--environment", environment, "--json", "--notify", "@ops")
        assert (code, err) == (0, "")
        return {f"{one['kind']}s/{one['file']}": one["body"] for one in json.loads(out)}

    def edit(self, file: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change what *file* holds."""
        path = self.folder / f"{file}.json"
        body = json.loads(path.read_text(encoding="utf-8"))
        change(body)
        path.write_text(json.dumps(body), encoding="utf-8")

    def environment(self, old: str, new: str) -> None:
        """Replace *old* by *new* in the file of dev."""
        path = self.folder / "environments" / "dev.toml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def problems(self, *arguments: str, apply: bool = False, environ: Mapping[str, str] = KEYS) -> list[str]:
        """Return the problems that the command lists when it refuses to send anything."""
        code, out, err = self.run(*arguments, *(["--apply"] if apply else []), environ=environ)
        assert (code, out) == (2, "")
        first, *problems = err.splitlines()
        assert first == "sync_datadog.py: nothing was sent:"
        return [problem.removeprefix("  - ") for problem in problems]


@pytest.fixture
def shipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Sync:
    """Return the command in a copy of the shipped files."""
    for name in ("environments", "monitors", "dashboards"):
        shutil.copytree(INFRA / name, tmp_path / name)
    return Sync(tmp_path, capsys)


@pytest.fixture
def sync(shipped: Sync) -> Sync:
    """Return the same with a short dashboard: checking all of it takes most of a run."""
    shipped.edit("dashboards/database", _shorten)
    return shipped


def _shorten(dashboard: dict[str, Any]) -> None:
    del dashboard["widgets"][2:]
    for group in dashboard["widgets"]:
        del group["definition"]["widgets"][1:]


# What is shipped.


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_shipped_file_is_valid_in_each_environment(shipped: Sync, environment: str) -> None:
    """Every file is accepted, leaves no placeholder, and watches the cluster of its environment and no other."""
    bodies = shipped.bodies(environment)

    files = {f"{kind}/{path.stem}" for kind in ("monitors", "dashboards") for path in (INFRA / kind).glob("*.json")}
    assert files - bodies.keys() == {"monitors/replica-lag"}
    text = json.dumps(bodies)
    assert "${" not in text
    for scope in re.findall(r"aws\.rds\.\w+\{(.*?)\}", text):
        assert scope == f"dbclusteridentifier:registration-{environment}"
    for scope in re.findall(r"aws\.lambda\.\w+\{(.*?)\}", text):
        assert scope.startswith(f"functionname:registration-{environment}-")
    for other in set(ENVIRONMENTS) - {environment}:
        assert f"registration-{other}" not in text
        assert f"env:{other}" not in text


def test_each_need_is_watched(shipped: Sync) -> None:
    """Capacity, connections, memory, deadlocks, transaction ids, CPU, rotation, migration and the package's events."""
    assert shipped.bodies().keys() == {
        "dashboards/database",
        *(
            f"monitors/{name}"
            for name in (
                "acu-utilisation",
                "commit-outcome-unknown",
                "connections",
                "connections-lost",
                "cpu",
                "database-not-ready",
                "deadlocks",
                "freeable-memory",
                "logins-rejected",
                "migration-errors",
                "no-slot",
                "retries",
                "rotation-errors",
                "secret-stale",
                "transaction-id-age",
            )
        ),
    }


@pytest.mark.parametrize("path", sorted((INFRA / "monitors").glob("*.json")), ids=lambda path: path.stem)
def test_each_message_says_what_to_do(path: Path) -> None:
    """A message says what is wrong, what it means for users, and which page to open, which is there or to come."""
    message = json.loads(path.read_text(encoding="utf-8"))["message"]

    assert re.match(r"What is wrong: .+\n\nFor users: .+\n\nOpen: docs/.+\n\n\$\{notify\}$", message)
    pages = re.findall(r"docs/([a-z/-]+\.md)", message)
    assert pages
    for page in pages:
        assert (DOCS / page).exists() or page.removeprefix("runbooks/") in RUNBOOKS
    for page, section in re.findall(r'docs/([a-z/-]+\.md), "(.+?)"', message):
        assert f"\n## {section}\n" in (DOCS / page).read_text(encoding="utf-8")


def test_logs_are_searched_for_what_the_package_emits(shipped: Sync) -> None:
    """Each event and cause that is searched for is one of the package's own list, and they belong together."""
    emitted: dict[str, set[str]] = {}
    listed = (DatabaseEvent.__doc__ or "").partition("Why.")[2].partition("seconds:")[0]
    for line in re.split(r"\n\s+- ", listed)[1:]:
        event, *causes = re.findall(r"`([^`]+)`", re.sub(r"\n\s+", " ", line))
        emitted[event] = set(causes)
    found = list(_searches(shipped.bodies()))

    assert emitted["connection opened"] >= {"cold", "rotation", "thaw", "writer moved", "lost"}
    assert len(found) > 20
    for search in found:
        start, _, rest = search.partition(" @event:")
        asked, _, causes_asked = rest.partition(" @cause:")
        assert start == "env:dev @logger:registration_persistence.database"
        words = re.findall(r'"([^"]+)"|(\w+)', causes_asked)
        assert {quoted or word for quoted, word in words} - {"OR"} <= emitted[asked.strip('"')], search


def _searches(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "query" and isinstance(item, str) and item.startswith("env:"):
                yield item
            else:
                yield from _searches(item)
    elif isinstance(value, list):
        for item in value:
            yield from _searches(item)
    elif isinstance(value, str) and value.startswith('logs("'):
        yield value.removeprefix('logs("').partition('").index(')[0].replace('\\"', '"')


def test_limits_follow_the_capacity(sync: Sync) -> None:
    """What a monitor warns at is a share of what the maximum capacity gives, in the query and in the thresholds."""
    assert sync.bodies()["monitors/connections"]["options"]["thresholds"] == {"critical": 151, "warning": 132}

    sync.environment("max_capacity = 1", "max_capacity = 4")

    bodies = sync.bodies()
    assert bodies["monitors/connections"]["options"]["thresholds"] == {"critical": 658, "warning": 576}
    assert bodies["monitors/connections"]["query"].endswith(" > 658")
    assert "It allows 823," in bodies["monitors/connections"]["message"]
    critical = bodies["monitors/freeable-memory"]["options"]["thresholds"]["critical"]
    assert critical == int(4 * 2 * 1024**3 * 0.05)
    assert bodies["monitors/freeable-memory"]["query"].endswith(f" < {critical}")


def test_the_lag_of_readers_is_watched_where_there_are_some(sync: Sync) -> None:
    """An environment without readers gets no monitor for their lag."""
    assert "monitors/replica-lag" not in sync.bodies()

    sync.environment("max_capacity = 1", "max_capacity = 1\nreaders = 1")

    assert "monitors/replica-lag" in sync.bodies()


def test_whom_to_notify_is_in_each_message(sync: Sync) -> None:
    """Each monitor notifies who was named; nobody, and a word about that, where nobody was."""
    code, out, _ = sync.run("--notify", "@slack-a", "--notify", "@b@example.org", "--json")
    assert code == 0
    for one in json.loads(out)[:-1]:
        assert one["body"]["message"].endswith("\n\n@slack-a @b@example.org")

    assert "nobody is notified" in sync.run()[1]
    for one in json.loads(sync.run("--json")[1])[:-1]:
        assert one["body"]["message"] == one["body"]["message"].strip()


# The dry run.


def test_a_dry_run_needs_no_network_and_no_keys() -> None:
    """The command as a program, without --apply, looks up and connects to nothing, and says that it sent nothing."""
    guarded = (
        "import os, runpy, sys\n"
        "def hook(event, _):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'socket.sendto'):\n"
        "        os.write(2, event.encode()); os._exit(99)\n"
        "sys.addaudithook(hook)\n"
        f"sys.argv = ['sync_datadog.py', '--environment', 'dev']; sys.path.insert(0, {str(INFRA)!r})\n"
        f"runpy.run_path({str(INFRA / 'sync_datadog.py')!r}, run_name='__main__')\n"
    )

    ran = subprocess.run([sys.executable, "-c", guarded], capture_output=True, text=True, env={}, check=False)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert "16 checked for dev, none sent" in ran.stdout
    assert re.search(r"^monitor +connections +avg\(last_15m\):.* > 151$", ran.stdout, re.MULTILINE)


def test_a_dry_run_asks_datadog_nothing(sync: Sync, datadog: FakeDatadog) -> None:
    """Without --apply not even a list is fetched, although the keys are there."""
    code = sync_datadog.main(["--environment", "dev"], folder=sync.folder, environ=KEYS, host=datadog.host)

    assert (code, datadog.requests) == (0, [])


# What is refused before anything is sent.


def _pop(*keys: str) -> Callable[[dict[str, Any]], object]:
    def change(body: dict[str, Any]) -> None:
        for key in keys[:-1]:
            body = body[key]
        del body[keys[-1]]

    return change


def _put(value: Any, *keys: str | int) -> Callable[[dict[str, Any]], object]:
    def change(body: Any) -> None:
        for key in keys[:-1]:
            body = body[key]
        body[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("monitors/cpu", _put(1, "colour"), "colour is not a key: expected one of assets, created,"),
        ("monitors/cpu", _put(1, "options", "renotfy_interval"), "options.renotfy_interval is not a key: expected one"),
        ("monitors/cpu", _put(1, "options", "thresholds", "fatal"), "options.thresholds.fatal is not a key: expected"),
        ("monitors/cpu", _put("metric alarm", "type"), 'type is "metric alarm": expected one of audit alert, ci-'),
        ("monitors/cpu", _put("keep", "options", "on_missing_data"), 'options.on_missing_data is "keep": expected one'),
        (
            "monitors/cpu",
            _put(["oops"], "options", "renotify_statuses"),
            'renotify_statuses[0] is "oops": expected one',
        ),
        ("monitors/cpu", _pop("query"), "query is missing: expected it in every Monitor"),
        ("monitors/cpu", _pop("type"), "type is missing: expected it in every Monitor"),
        ("monitors/cpu", _pop("name"), "name is missing: expected text"),
        ("monitors/cpu", _pop("message"), "message is missing: expected text"),
        ("monitors/cpu", _pop("options"), "options.thresholds.critical is missing: expected 90, as in the query"),
        ("monitors/cpu", _put(7, "id"), "id is 7: expected nothing, as Datadog sets it"),
        (
            "monitors/cpu",
            _put("90", "options", "thresholds", "critical"),
            'thresholds.critical is "90": expected a num',
        ),
        ("monitors/cpu", _put("no", "options", "include_tags"), 'options.include_tags is "no": expected true or false'),
        ("monitors/cpu", _put(YES, "options", "evaluation_delay"), "options.evaluation_delay is true: expected"),
        ("monitors/cpu", _put("a,b", "tags"), 'tags is "a,b": expected a list'),
        ("monitors/cpu", _put([1], "options"), "options is [1]: expected an object"),
        ("monitors/cpu", _put(95, "options", "thresholds", "critical"), "critical is 95: expected 90, as in the query"),
        (
            "monitors/cpu",
            _put(91, "options", "thresholds", "warning"),
            "warning is 91: expected less than critical, 90",
        ),
        (
            "monitors/freeable-memory",
            _put(9, "options", "thresholds", "warning"),
            "warning is 9: expected more than cr",
        ),
        ("monitors/cpu", _put("avg:x{*}", "query"), 'query is "avg:x{*}": expected a comparison with a number at its'),
        ("monitors/cpu", _put(["env:dev"], "tags"), 'tags[0] is "env:dev": expected none of managed_by:, monitor_id:'),
        ("monitors/cpu", _put("${clutser}", "name"), 'name has the placeholder "${clutser}": expected one of environ'),
        ("monitors/cpu", _put("${clutser}", "priority"), 'priority has the placeholder "${clutser}": expected one of'),
        ("monitors/cpu", _put("x${}", "options", "escalation_message"), 'has the placeholder "${}": expected one of'),
        ("monitors/cpu", _put("${cluster", "name"), 'name is "${cluster": expected a closing brace after each ${'),
        ("monitors/cpu", _put("${environment}", "priority"), 'priority is "dev": expected'),
        ("dashboards/database", _pop("title"), "title is missing: expected it in every Dashboard"),
        ("dashboards/database", _put("grid", "layout_type"), 'layout_type is "grid": expected one of free, ordered'),
        (
            "dashboards/database",
            _put(1, "widgets", 0, "definition", "colour"),
            "widgets[0].definition.colour is not a k",
        ),
        (
            "dashboards/database",
            _put("grup", "widgets", 0, "definition", "type"),
            'definition.type is "grup": expected',
        ),
        (
            "dashboards/database",
            _put("metrix", *REQUEST, "queries", 0, "data_source"),
            'widgets[0].definition.requests[0].queries[0].data_source is "metrix": expected one of',
        ),
        (
            "dashboards/database",
            _put("dots", *REQUEST, "display_type"),
            'widgets[0].definition.widgets[0].definition.requests[0].display_type is "dots": expected one of area, bar',
        ),
    ],
)
def test_a_wrong_file_is_refused(
    sync: Sync, file: str, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    """A wrong file stops everything, by a message with file, key, value and rule."""
    sync.edit(file, change)

    problems = sync.problems()

    assert len(problems) == 1
    assert problems[0].startswith(f"{file}.json: ")
    assert message in problems[0]


def test_the_client_has_the_last_word(sync: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    """What our own walk through the models lets pass is still refused if the client does not understand it."""
    monkeypatch.setattr(sync_datadog, "model_problems", lambda _model, _value, _key: iter(()))
    sync.edit("monitors/cpu", _put("metric alarm", "type"))
    sync.edit("monitors/deadlocks", _put("text", "options", "evaluation_delay"))

    unclear, wrong_type = sync.problems()

    assert unclear == "monitors/cpu.json: the client does not understand it, without saying where"
    assert wrong_type.startswith("monitors/deadlocks.json: Invalid type for variable 'evaluation_delay'")


def test_a_widget_is_held_against_the_kind_that_it_names(sync: Sync) -> None:
    """A graph with many wrong keys is told about those, and not that it makes a better note."""
    wrong = {"type": "timeseries", "content": "x", "tick_pos": "1"}
    sync.edit("dashboards/database", _put(wrong, *REQUEST[:5], "definition"))
    sync.edit("dashboards/database", _put("grup", "widgets", 1, "definition", "type"))

    missing, content, tick, kind = sync.problems()

    graph = "dashboards/database.json: widgets[0].definition.widgets[0].definition"
    assert missing == f"{graph}.requests is missing: expected it in every TimeseriesWidgetDefinition"
    assert content.startswith(f"{graph}.content is not a key: expected one of custom_links, description,")
    assert tick.startswith(f"{graph}.tick_pos is not a key: expected one of custom_links, description,")
    assert kind.startswith('dashboards/database.json: widgets[1].definition.type is "grup": expected one of alert_gr')
    assert {"group", "note", "timeseries"} <= set(kind.partition("expected one of ")[2].split(", "))


def test_a_wrong_file_stops_apply_too(sync: Sync, datadog: FakeDatadog) -> None:
    """With --apply, one wrong file of sixteen keeps the others from being sent, and Datadog from being asked."""
    sync.edit("dashboards/database", _pop("title"))

    assert sync.run(datadog=datadog)[0] == 2
    assert datadog.requests == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it cannot be read as JSON: Expecting property name"),
        ('{"name": "a", "name": "b"}', "it cannot be read as JSON: the key name is there twice"),
        ("[]", "the file is []: expected an object"),
    ],
)
def test_a_file_that_is_no_object_is_refused(sync: Sync, text: str, message: str) -> None:
    """What is not JSON, has a key twice or is no object is refused by name."""
    (sync.folder / "monitors" / "cpu.json").write_text(text, encoding="utf-8")

    (problem,) = sync.problems()

    assert problem.startswith(f"monitors/cpu.json: {message}")


def test_all_problems_are_told_at_once(sync: Sync) -> None:
    """Two wrong keys and a wrong file are one error with three lines."""
    sync.edit("monitors/cpu", _put(1, "colour"))
    sync.edit("monitors/cpu", _put(1, "options", "size"))
    sync.edit("dashboards/database", _pop("title"))

    assert len(sync.problems()) == 3


def test_a_name_that_is_no_tag_is_refused(sync: Sync) -> None:
    """A file's name becomes a tag, which Datadog writes in lower case and without spaces."""
    (sync.folder / "monitors" / "cpu.json").rename(sync.folder / "monitors" / "CPU high.json")

    (problem,) = sync.problems()

    assert problem.startswith('monitors/CPU high.json: the name is "CPU high": expected a-z')


def test_an_empty_folder_removes_nothing(sync: Sync, datadog: FakeDatadog) -> None:
    """A folder without files is taken for a mistake, not for the wish to have no monitors."""
    sync.apply(datadog)
    shutil.rmtree(sync.folder / "monitors")

    (problem,) = sync.problems()

    assert problem == "monitors: *.json is missing: expected at least one file"
    assert sync.run(datadog=datadog)[0] == 2
    assert len(datadog.monitors) == 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--environment", "qa"), '--environment is "qa": expected one of dev, staging, prod'),
        (("--environment", "../prod"), '--environment is "../prod": expected one of dev, staging, prod'),
        (("--notify", "ops"), '--notify is "ops": expected an address of Datadog\'s'),
        (("--notify", "@${cluster}"), '--notify is "@${cluster}": expected an address of Datadog\'s'),
    ],
)
def test_a_wrong_argument_is_refused(sync: Sync, arguments: tuple[str, ...], message: str) -> None:
    """An environment or address that cannot be is refused by name and rule."""
    (problem,) = sync.problems(*arguments)

    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("environ", "messages"),
    [
        ({}, ["DD_API_KEY is missing: expected", "DD_APP_KEY is missing: expected"]),
        ({"DD_API_KEY": API_KEY}, ["DD_APP_KEY is missing: expected letters, digits, - and _, for --apply"]),
        ({**KEYS, "DD_APP_KEY": f"{APP_KEY}\n"}, ["DD_APP_KEY is no key: expected letters, digits"]),
        ({**KEYS, "DD_SITE": "datadog.example"}, ['DD_SITE is "datadog.example": expected one of ap1.datadoghq.com']),
    ],
)
def test_wrong_keys_are_refused(sync: Sync, environ: Mapping[str, str], messages: list[str]) -> None:
    """--apply without a key, with one that cannot be, or for a site that is not Datadog's, sends nothing."""
    problems = sync.problems(apply=True, environ=environ)

    assert len(problems) == len(messages)
    for problem, message in zip(problems, messages, strict=True):
        assert problem.startswith(message)


def test_a_wrong_environment_file_is_refused(sync: Sync) -> None:
    """What is wrong with the environment's own file is told as it is everywhere."""
    sync.environment("max_capacity = 1", "max_capacity = 0.5")

    code, _, err = sync.run()

    assert code == 2
    assert "dev.toml is wrong:" in err
    assert "max_capacity is 0.5: expected" in err


def test_an_environment_without_a_cluster_is_refused(sync: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody else provisions the database, there is nothing of ours to watch."""

    class Elsewhere:
        name = "dev"
        provision_aurora = False
        aurora = None

    monkeypatch.setattr(sync_datadog, "load", lambda _path: Elsewhere())

    (problem,) = sync.problems()

    assert problem == (
        "environments/dev.toml: provision_aurora is false: expected true, as there is no cluster of ours to watch"
    )


def test_facts_are_those_of_the_environment() -> None:
    """What the placeholders stand for comes from the environment's file."""
    config = load(INFRA / "environments" / "prod.toml")

    known = sync_datadog.facts(config)

    assert (known["environment"], known["cluster"], known["max_connections"]) == ("prod", "registration-prod", 189)


# What --apply does.


def test_the_first_run_creates_everything_and_the_second_changes_nothing(sync: Sync, datadog: FakeDatadog) -> None:
    """Everything that was checked is there after a run, and a second run only reads."""
    assert len(sync.apply(datadog)) == 16
    assert (len(datadog.monitors), len(datadog.dashboards)) == (15, 1)
    assert {OWNER, "monitor_id:cpu", "env:dev", "service:registration"} <= set(datadog.named("cpu")["tags"])
    datadog.requests.clear()

    assert sync.apply(datadog) == []
    assert datadog.changes == []
    assert datadog.requests != []


def test_more_monitors_than_a_page_holds_are_found(sync: Sync, datadog: FakeDatadog) -> None:
    """What is ours is found behind a hundred and fifty monitors and dashboards of others."""
    datadog.filters = False
    for number in range(150):
        datadog.add_monitor({"name": f"{number}", "type": "log alert", "query": "x > 1", "tags": []})
        datadog.add_dashboard({"title": f"{number}", "layout_type": "ordered", "widgets": []})
    assert len(sync.apply(datadog)) == 16

    assert sync.apply(datadog) == []


def test_a_changed_file_is_one_update(sync: Sync, datadog: FakeDatadog) -> None:
    """The monitor and the dashboard of a file that was changed are updated in place, and nothing else."""
    sync.apply(datadog)
    before = datadog.named("cpu")["id"]
    sync.edit("monitors/cpu", _put("new name", "name"))
    sync.edit("dashboards/database", _put("new title", "title"))

    assert sync.apply(datadog) == ["updated monitor cpu", "updated dashboard database"]
    assert datadog.named("cpu")["name"] == "new name"
    assert datadog.named("cpu")["id"] == before
    assert [one["title"] for one in datadog.dashboards.values()] == ["new title"]
    assert sync.apply(datadog) == []


def test_a_key_that_was_taken_out_is_an_update(sync: Sync, datadog: FakeDatadog) -> None:
    """A key that a file no longer has is a change, although all that is left is there already."""
    sync.apply(datadog)
    sync.edit("monitors/cpu", _pop("options", "thresholds", "warning"))

    assert sync.apply(datadog) == ["updated monitor cpu"]
    assert datadog.named("cpu")["options"]["thresholds"] == {"critical": 90.0}


def test_what_was_changed_in_datadog_is_changed_back(sync: Sync, datadog: FakeDatadog) -> None:
    """A threshold, a tag and a widget that somebody edited by hand become what the files say."""
    sync.apply(datadog)
    datadog.named("acu-utilisation")["options"]["thresholds"].pop("warning")
    datadog.named("cpu")["options"]["thresholds"]["critical"] = 99
    datadog.named("deadlocks")["tags"].append("team:other")
    (dashboard,) = datadog.dashboards.values()
    del dashboard["widgets"][0]["definition"]["widgets"][0]

    assert sync.apply(datadog) == [
        "updated monitor acu-utilisation",
        "updated monitor cpu",
        "updated monitor deadlocks",
        "updated dashboard database",
    ]
    assert sync.apply(datadog) == []


def test_what_has_no_file_any_more_is_removed(sync: Sync, datadog: FakeDatadog) -> None:
    """A monitor and a dashboard whose files are gone are removed, in this environment and no other."""
    other = json.loads((sync.folder / "dashboards" / "database.json").read_text(encoding="utf-8"))
    (sync.folder / "dashboards" / "more.json").write_text(json.dumps(other), encoding="utf-8")
    sync.apply(datadog)
    sync.apply(datadog, "--environment", "prod")
    assert (len(datadog.monitors), len(datadog.dashboards)) == (30, 4)
    (sync.folder / "monitors" / "cpu.json").unlink()
    (sync.folder / "dashboards" / "more.json").unlink()

    assert sync.apply(datadog) == ["deleted monitor cpu", "deleted dashboard more"]
    assert "env:prod" in datadog.named("cpu")["tags"]
    assert (len(datadog.monitors), len(datadog.dashboards)) == (29, 3)
    assert sync.apply(datadog) == []


@pytest.mark.parametrize("filters", [True, False])
def test_monitors_of_others_stay_as_they_are(sync: Sync, datadog: FakeDatadog, *, filters: bool) -> None:
    """A monitor without all three tags of ours is neither changed nor removed, whatever Datadog's filter lets pass."""
    datadog.filters = filters
    for tags in (
        [],
        [OWNER, "monitor_id:gone", "env:prod"],
        [OWNER, "monitor_id:gone"],
        [OWNER, "env:dev"],
        [OWNER, "env:dev", "monitor_id:gone", "monitor_id:cpu"],
        ["managed_by:somebody", "monitor_id:gone", "env:dev"],
        ["monitor_id:gone", "env:dev"],
    ):
        datadog.add_monitor({"name": "theirs", "type": "log alert", "query": "x > 1", "tags": tags})
    theirs = deepcopy(datadog.monitors)

    assert len(sync.apply(datadog)) == 16
    assert sync.apply(datadog) == []

    assert {number: datadog.monitors[number] for number in theirs} == theirs
    assert {method for method, _ in datadog.changes} == {"POST"}


def test_dashboards_of_others_stay_as_they_are(sync: Sync, datadog: FakeDatadog) -> None:
    """A dashboard that does not end with our line for this environment is neither changed nor removed."""
    for description in (
        None,
        "theirs",
        f"{OWNER} dashboard_id:gone env:prod digest:0",
        f"{OWNER} dashboard_id:gone env:dev",
        f"copied from {OWNER} dashboard_id:gone env:dev digest:0\nand changed",
        "managed_by:somebody dashboard_id:gone env:dev digest:0",
    ):
        body: dict[str, Any] = {"title": "theirs", "description": description, "layout_type": "ordered", "widgets": []}
        datadog.add_dashboard(body)
    theirs = deepcopy(datadog.dashboards)

    assert len(sync.apply(datadog)) == 16
    assert sync.apply(datadog) == []

    assert {name: datadog.dashboards[name] for name in theirs} == theirs
    assert {method for method, _ in datadog.changes} == {"POST"}


def test_a_copy_is_not_guessed_about(sync: Sync, datadog: FakeDatadog) -> None:
    """Where somebody cloned a monitor or a dashboard with its mark, nothing is changed, and both are named."""
    sync.apply(datadog)
    first = datadog.named("cpu")["id"]
    second = datadog.add_monitor({**datadog.named("cpu"), "name": "clone"})
    (dashboard,) = datadog.dashboards.values()
    clone = datadog.add_dashboard({**dashboard, "title": "clone"})
    sync.edit("monitors/deadlocks", _put("new name", "name"))
    datadog.requests.clear()

    code, _, err = sync.run(datadog=datadog)

    assert code == 2
    assert f"monitors {first} and {second} both say that they are cpu: expected one; take the tag {OWNER} from" in err
    assert (
        f"dashboards {dashboard['id']} and {clone} both say that they are database: expected one; take the last" in err
    )
    assert datadog.changes == []


# What Datadog answers.


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
        # Followed, it would take the keys elsewhere.
        (302, {"Location": "/api/v1/elsewhere"}, "", "did not answer when asked to list the monitors"),
        (200, {}, "<html>", "Datadog's answer when asked to list the monitors is not understood"),
    ],
)
def test_a_failure_is_told(
    sync: Sync, datadog: FakeDatadog, *, status: int, headers: Mapping[str, str], text: str, message: str
) -> None:
    """An error of Datadog's is one line with status, request, reason and what to do, once, and without a key."""
    datadog.fail = lambda _method, _path: (status, headers, text)

    code, out, err = sync.run(datadog=datadog)

    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert len(datadog.requests) == 1


def test_wrong_keys_are_told_as_such(sync: Sync, datadog: FakeDatadog) -> None:
    """Keys that Datadog does not know end in its answer, and are not in the message."""
    code, _, err = sync.run(datadog=datadog, environ={**KEYS, "DD_APP_KEY": "wrong-but-secret"})

    assert code == 1
    assert "Datadog answered 403" in err
    assert "wrong-but-secret" not in err


def test_a_host_that_is_not_there_is_told(sync: Sync, datadog: FakeDatadog) -> None:
    """A host that refuses the connection is named."""
    datadog.close()

    code, _, err = sync.run(datadog=datadog)

    assert code == 1
    assert err.startswith(f"sync_datadog.py: {datadog.host} did not answer when asked to list the monitors: ")


def test_a_failure_half_way_is_finished_by_the_next_run(sync: Sync, datadog: FakeDatadog) -> None:
    """Where the fourth change fails, three are told as made, and the next run makes the others and none twice."""
    datadog.fail = lambda method, _path: (500, {}, "{}") if method == "POST" and len(datadog.changes) == 4 else None

    code, out, err = sync.run("--notify", "@ops", datadog=datadog)

    assert code == 1
    assert out.splitlines()[-1] == "3 of 16 changes were made; run it again, what is done is not done twice"
    assert "500 when asked to create monitor connections-lost" in err or "when asked to create monitor" in err
    assert len(datadog.monitors) == 3
    datadog.fail = lambda _method, _path: None
    assert len(sync.apply(datadog)) == 13
    assert (len(datadog.monitors), len(datadog.dashboards)) == (15, 1)
    assert sync.apply(datadog) == []
