"""Spans, metrics and log lines for Datadog: a real PostgreSQL, ddtrace in a process of its own, and a UDP socket."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dogstatsd_listener import DogstatsdListener
from embedded_metrics import parse_line
from processes import python_environment
from support import variables_of

from registration_persistence import DatabaseSettings

SERVICE = Path(__file__).parents[2] / "datadog_service.py"

# No data of ddtrace leave this machine, and no variable of this machine names an agent.
QUIET = {
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "DD_TRACE_AGENT_URL": "http://127.0.0.1:9",
    "DD_AGENT_HOST": "",
    "DD_DOGSTATSD_URL": "",
    "DD_SERVICE": "sign-up",
    "DD_ENV": "dev",
}

# Two databases, a unit of work of one inside that of the other, and one whose parent has ended in another thread.
NESTED = """
from threading import Thread
from registration_persistence import Database, DatabaseSettings
from registration_persistence.telemetry import datadog

def created(name):
    database = Database(DatabaseSettings(host="127.0.0.1", name=name, environment=name, user="u", password="p"))
    datadog.instrument(database)
    return database.events

outer, inner = created("test"), created("local")
with outer.observation("unit_of_work", "run"):
    with inner.observation("unit_of_work", "run"):
        pass
    print("inside")
left = outer.observation("unit_of_work", "session")
left.begin()
thread = Thread(target=left.end, args=(None,))
thread.start()
thread.join()
print("left")
with outer.observation("unit_of_work", "run"):
    pass
print("end")
"""

PREFIX = "registration_persistence"
UNIT, CALL, CONNECT = f"{PREFIX}.unit_of_work", f"{PREFIX}.repository_call", f"{PREFIX}.connect"

# The number of each metric in the service's units of work: six of the database, and one of the asynchronous one.
EXPECTED = {
    (f"{UNIT}.seconds", "outcome:kept"): 5,
    (f"{UNIT}.seconds", "outcome:not_kept"): 2,
    (f"{UNIT}.attempts", ""): 7,
    (f"{UNIT}.round_trips", ""): 7,
    (f"{PREFIX}.connection_opened", "cause:cold"): 2,
    (f"{PREFIX}.connection_opened", "cause:lost"): 1,
    (f"{PREFIX}.connect.seconds", "cause:cold"): 2,
    (f"{PREFIX}.connect.seconds", "cause:lost"): 1,
    (f"{PREFIX}.retry", "cause:connection_lost"): 1,
}


@dataclass(frozen=True, slots=True)
class Report:
    """The report of the service, and the lines that it printed."""

    spans: list[dict[str, Any]]
    lines: list[str]
    statements: list[str]
    tokens: list[str]
    refusal: str
    printed: list[str]

    def ours(self, name: str) -> list[dict[str, Any]]:
        """Return the spans of this package with this *name*."""
        return [span for span in self.spans if span["name"] == name]

    def belongs_to_ours(self, span: dict[str, Any]) -> bool:
        """Return whether *span* is in a unit of work."""
        by_id = {each["id"]: each for each in self.spans}
        while span["name"] != UNIT and span["parent"] in by_id:
            span = by_id[span["parent"]]
        return bool(span["name"] == UNIT)


def run_service(settings: DatabaseSettings, folder: Path, mode: str, **variables: str) -> Report:
    """Run the service until it ends."""
    report = folder / "report.json"
    result = subprocess.run(
        [sys.executable, SERVICE, mode, report],
        env=python_environment(**variables_of(settings), **QUIET, **variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return Report(**json.loads(report.read_text("utf-8")), printed=result.stdout.splitlines())


def check_spans(report: Report, settings: DatabaseSettings) -> None:
    """Check the spans of each operation, and which belongs to which."""
    by_id = {span["id"]: span for span in report.spans}
    units, calls, connects = report.ours(UNIT), report.ours(CALL), report.ours(CONNECT)
    assert [(unit["resource"], unit["tags"]["outcome"], unit["error"]) for unit in units] == [
        ("run", "kept", 0),
        ("session", "not_kept", 1),
        ("session", "not_kept", 1),
        ("run", "kept", 0),
        ("run", "kept", 0),
        ("run", "kept", 0),
        ("run", "kept", 0),
    ]
    assert [unit["tags"].get("error.type") for unit in units][:3] == [None, "ValueError", "DataError"]
    assert [(unit["tags"]["attempts"], unit["tags"].get("retry_causes")) for unit in units][2:5] == [
        (1, None),
        (2, "connection_lost"),
        (1, None),
    ]
    assert [units[number]["tags"]["round_trips"] for number in (0, 4)] == [2, 1]
    assert Counter((call["resource"], call["tags"]["outcome"]) for call in calls) == {
        ("RegistrationRepository.register", "done"): 3,
        ("RegistrationRepository.find_by_email", "done"): 2,
        ("RegistrationRepository.find_by_email", "failed"): 1,
    }
    assert [connect["tags"]["cause"] for connect in connects] == ["cold", "lost", "cold"]
    assert [by_id[by_id[by_id[span["parent"]]["parent"]]["parent"]]["name"] for span in (connects[0], connects[2])] == [
        "request",
        "task",
    ]
    for span in [*units, *calls, *connects]:
        tags = span["tags"]
        assert (tags["db.name"], tags["out.host"], tags["component"]) == (settings.name, settings.host, PREFIX)


def check_nothing_personal(report: Report, settings: DatabaseSettings, metrics: str) -> None:
    """Check that no mailbox, token or password is in a span, a log line or a metric, also those of ddtrace itself."""
    assert len(report.tokens) == 3
    everything = json.dumps(report.spans) + "".join(report.lines) + metrics
    for secret in ("ada@", "example.com", str(settings.password), *report.tokens):
        assert secret not in everything


def test_with_the_integrations_of_ddtrace_and_an_agent(database_settings: DatabaseSettings, tmp_path: Path) -> None:
    """Each operation is a span around those of ddtrace; log lines have its ids, statements the name of the service."""
    with DogstatsdListener() as agent:
        variables = {
            "DD_DBM_PROPAGATION_MODE": "service",
            "DD_DOGSTATSD_PORT": str(agent.port),
            "DD_PATCH_MODULES": "sqlalchemy:true",
            "DD_PSYCOPG_TRACE_CONNECT": "true",
        }
        report = run_service(database_settings, tmp_path, "automatic", **variables)
        received = agent.received()

    check_spans(report, database_settings)
    check_nothing_personal(report, database_settings, "".join(agent.packets))
    assert report.printed == []
    assert report.refusal == (
        "the database is of type str: expected a Database or an AsyncDatabase, for example get_db()"
    )
    queries = [span for span in report.spans if span["name"] == "postgres.query"]
    assert {query["tags"]["component"] for query in queries} == {"psycopg", "sqlalchemy"}
    alone = [query for query in queries if not report.belongs_to_ours(query)]
    assert len(alone) == 2, "those of the health check, which is no unit of work"
    # The server shows the comment, and the statement was prepared although it has one.
    running, *prepared = report.statements
    assert running.startswith(f"/*dddb='{database_settings.name}',dddbs='postgres',dde='dev'")
    assert "ddps='sign-up'*/ SELECT query" in running
    assert running in prepared
    check_log_lines(report)
    counted = Counter((each.name, ",".join(each.tags - {"env:dev", "service:sign-up"})) for each in received)
    afterwards = {(f"{UNIT}.seconds", "outcome:kept"): 2, (f"{UNIT}.attempts", ""): 2, (f"{UNIT}.round_trips", ""): 2}
    assert counted == Counter(EXPECTED) + Counter(afterwards)
    assert {each.kind for each in received if "unit_of_work" in each.name or "connect." in each.name} == {"d"}
    # One packet for each unit of work, also for the two after the report.
    assert len([packet for packet in agent.packets if packet.strip()]) == 9


def check_log_lines(report: Report) -> None:
    """Check that each log line, in Lambda's JSON format, has the ids of the span in which it was written."""
    connects, units = report.ours(CONNECT), report.ours(UNIT)
    lines = [json.loads(line) for line in report.lines]
    ids = [
        (line["event"], line["cause"], line["dd.trace_id"], line["dd.span_id"])
        for line in lines
        if line["logger"] == "registration_persistence.database"
    ]
    retry = units[3]
    assert ids == [
        ("connection_opened", "cold", connects[0]["trace"], connects[0]["id"]),
        ("retry", "connection_lost", retry["trace"], retry["id"]),
        ("connection_opened", "lost", connects[1]["trace"], connects[1]["id"]),
        ("connection_opened", "cold", connects[2]["trace"], connects[2]["id"]),
    ]
    assert {(line["dd.service"], line["dd.env"]) for line in lines} == {("sign-up", "dev")}


def test_without_the_integrations_of_ddtrace_and_without_an_agent(
    database_settings: DatabaseSettings, tmp_path: Path
) -> None:
    """The spans are the same; the metrics are lines for CloudWatch, one for each unit of work and further cause."""
    with DogstatsdListener() as closed:
        port = closed.port
    report = run_service(database_settings, tmp_path, "manual", DD_DOGSTATSD_PORT=str(port))

    check_spans(report, database_settings)
    check_nothing_personal(report, database_settings, "".join(report.printed))
    assert {span["name"] for span in report.spans} == {UNIT, CALL, CONNECT, "request", "task"}
    counted = Counter[tuple[str, str]]()
    for line in report.printed:
        for each in parse_line(line):
            assert each.dimensions["environment"] == "test"
            tag = ",".join(f"{name}:{value}" for name, value in each.dimensions.items() if name != "environment")
            counted[each.name, tag] += len(each.values)
    totals = {key: number for key, number in counted.items() if key in EXPECTED}
    assert totals == EXPECTED
    assert set(counted) - set(EXPECTED) == {(name, "") for name, tag in EXPECTED if tag}
    assert len(report.printed) == 8
    # Then nobody read the output any more: the units of work succeeded, and one line says it.
    (line,) = (tmp_path / "report.lines").read_text("utf-8").splitlines()
    assert json.loads(line)["message"].startswith("an observer of database operations failed when it was left")


def test_the_metrics_of_each_outermost_operation_are_written(tmp_path: Path) -> None:
    """That of a database is the outermost one also inside an operation of another database, or of one that ended."""
    with DogstatsdListener() as closed:
        environment = python_environment(**QUIET, DD_DOGSTATSD_PORT=str(closed.port), DD_TRACE_ENABLED="false")
    printed = subprocess.check_output(
        [sys.executable, "-c", NESTED], env=environment, cwd=tmp_path, text=True, timeout=60
    )

    marks = ("inside", "left", "end")
    seen = [line if line in marks else parse_line(line)[0].dimensions["environment"] for line in printed.splitlines()]
    assert seen == ["local", "inside", "test", "test", "left", "test", "end"]
