"""`registration-persistence` for what comes after the sign-up: sweeps, one person's rights, imports and the outbox."""

import csv
import itertools
import json
import os
import pty
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Timer
from typing import Any
from uuid import UUID, uuid4

import pytest
from command_line import COMMAND, LOGIN, PASSWORD, one_line, open_command_server, run, variables
from sqlalchemy import text
from support import TERMS

from registration_persistence import Database, DatabaseSettings, ImportRow, RegistrationRepository, bulk_import, schema
from registration_persistence.outcomes import Registered
from registration_persistence.repositories.bulk_import import DUPLICATE
from registration_persistence.sandbox import PostgresServer

TEMPLATE = "command_template"
# Seconds after which a test gives up instead of hanging.
TOO_LONG = 60
THIS_MONTH = datetime.now(UTC).replace(day=1)
PARTITIONS = """
SELECT relname AS name FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = 'registration_events'::regclass AND relname <> 'registration_events_default' ORDER BY relname
"""
NO_TIME = "registered_at is not a time in ISO 8601 with a time zone, like 2024-05-01T09:30:00Z"
NO_STATUS = "the status cannot be imported: expected one of pending, verified, active"
NO_AT = "the e-mail address is not valid: An email address must have an @-sign."
EACH = """
import contextlib, io, json, sys, traceback
from registration_persistence.cli import main

for arguments in json.loads(sys.argv[1]):
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        try:
            code = main(arguments)
        except SystemExit as error:
            code = error.code
        except BaseException:
            traceback.print_exc()
            code = 1
    print(json.dumps([code, printed.getvalue(), said.getvalue()]))
"""
PEAK = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
WITHOUT_RICH = """
import sys
sys.modules["rich"] = None
from registration_persistence.cli import main
print([main(arguments) for arguments in (["expire"], ["partitions"], ["import", "people.csv"])])
"""
# The module that workers are given; each test has one in a folder of its own.
MAIL = """
import time
from pathlib import Path

def note(what, message):
    with Path("deliveries").open("a") as file:
        file.write(f"{what} {message.event_id}\\n")

def deliver(message):
    note("delivered", message)

def slowly(message):
    note("begin", message)
    while not Path("go").exists():
        time.sleep(0.01)
    note("end", message)

def refused(message):
    raise ConnectionResetError("ada@example.com hung up")

word = "deliver"
"""


@dataclass(frozen=True)
class Answer:
    """What became of one of several commands."""

    code: int
    printed: str
    said: str


@dataclass(frozen=True)
class Desk:
    """A folder, and a migrated database of the test's own, seen through connections that the command does not use."""

    folder: Path
    environ: dict[str, str]
    database: Database

    def run(self, *arguments: str, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command to its end, which must be *code*."""
        return run(*arguments, environ=self.environ, code=code, folder=self.folder, stdin=stdin)

    def run_each(
        self, *commands: Sequence[str], environ: Mapping[str, str] | None = None, stdin: str = ""
    ) -> list[Answer]:
        """Run several commands one after the other in one process, which saves starting one for each."""
        done = subprocess.run(
            [sys.executable, "-c", EACH, json.dumps(commands)],
            cwd=self.folder,
            env=self.environ if environ is None else environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TOO_LONG,
            check=True,
        )
        assert PASSWORD not in done.stdout
        return [Answer(*json.loads(line)) for line in done.stdout.splitlines()]

    def run_on_terminal(self, *arguments: str, typed: str = "", code: int = 0) -> tuple[str, str]:
        """Run the command with a terminal for input and errors; return what it showed, and the standard output."""
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env={**self.environ, "COLUMNS": "120", "TERM": "xterm"},
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
        ) as process:
            os.close(theirs)
            watchdog = Timer(TOO_LONG, process.kill)
            watchdog.start()
            try:
                os.write(ours, typed.encode())
                shown = b"".join(chunks_of(ours)).decode()
                printed, _ = process.communicate()
            finally:
                watchdog.cancel()
                os.close(ours)
        assert code == process.returncode, shown
        return shown, printed

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start the command; whatever the test does, it is over afterwards."""
        with subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def write(self, name: str, content: str | bytes) -> str:
        """Write a file and return its name."""
        (self.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    def read(self, name: str) -> str:
        """Return what is in a file, or nothing where it is not there."""
        file = self.folder / name
        return file.read_text() if file.exists() else ""

    def rejected(self, name: str = "people.rejected.csv") -> list[tuple[int, str]]:
        """Return the lines and reasons of a report."""
        header, *lines = csv.reader(self.read(name).splitlines())
        assert ["line", "reason"] == header
        return [(int(line), reason) for line, reason in lines]

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return what a query finds."""
        with self.database.session() as session:
            return [dict(row) for row in session.execute(text(sql)).mappings()]

    def one(self, sql: str) -> Any:
        """Return the one value that a query finds."""
        (row,) = self.rows(sql)
        (value,) = row.values()
        return value

    def change(self, *statements: str) -> None:
        """Change the database behind the command's back."""
        with self.database.session() as session:
            for statement in statements:
                session.execute(text(statement))

    def put(self, number: int, status: str = "active", *, announce: bool = False) -> list[str]:
        """Put so many people into the database, and return the ids of all there are, in order."""
        with self.database.session() as session:
            people = (ImportRow(f"{uuid4()}@example.com", status) for _ in range(number))
            assert number == bulk_import(session, people, announce=announce).inserted
        return [str(row["id"]) for row in self.rows("SELECT id FROM registrations ORDER BY id")]

    def sign_up(self, email: str, name: str = "Ada") -> str:
        """Register somebody and return the id."""
        with self.database.session() as session:
            outcome = RegistrationRepository(session).register(email, profile={"name": name}, consents=[TERMS])
        assert isinstance(outcome, Registered)
        return str(outcome.registration.id)

    def put_messages(self, number: int) -> list[UUID]:
        """Put so many messages into the outbox, and a module to deliver them with into the folder; return their ids."""
        self.write("mail.py", MAIL)
        self.put(number, announce=True)
        return [row["event_id"] for row in self.outbox()]

    def outbox(self) -> list[dict[str, Any]]:
        """Return the messages of the outbox."""
        return self.rows("SELECT *, available_at <= now() AS due FROM outbox ORDER BY event_id")

    def deliveries(self) -> list[str]:
        """Return what the functions of the module `mail` noted."""
        return self.read("deliveries").splitlines()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server for all of these tests, with a migrated database for theirs to be copied from."""
    with open_command_server() as address:
        address.create_database(TEMPLATE, owner=LOGIN)
        database = Database(DatabaseSettings.from_env(variables(address.port, TEMPLATE)))
        schema.upgrade(database)
        database.dispose()
        yield address


@pytest.fixture
def desk(server: PostgresServer, tmp_path: Path) -> Iterator[Desk]:
    """A desk with an empty folder and a database with nobody in it."""
    name = f"life_{secrets.token_hex(8)}"
    server.create_database(name, owner=LOGIN, template=TEMPLATE)
    environ = variables(server.port, name)
    database = Database(DatabaseSettings.from_env(environ))
    yield Desk(tmp_path, environ, database)
    database.dispose()
    server.drop_database(name)


def chunks_of(terminal: int) -> Iterator[bytes]:
    """Yield what is shown on a terminal until nobody has it open any more."""
    while True:
        try:
            shown = os.read(terminal, 65536)
        except OSError:  # Linux says EIO instead of the end
            return
        if not shown:
            return
        yield shown


def wait_until(condition: Callable[[], object], what: str, process: subprocess.Popen[str] | None = None) -> None:
    """Wait for *condition*, which is *what*, as long as *process* runs."""
    deadline = time.monotonic() + TOO_LONG
    while not condition():
        assert process is None or process.poll() is None, f"the command ended before {what}"
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


def counts(printed: str) -> tuple[int, int, int]:
    """Return how many rows the summary of an import calls imported, duplicates and rejected."""
    found = re.findall(r"^ *([\d,]+)  (imported|duplicates|rejected)\b", printed, re.MULTILINE)
    number = {name: int(digits.replace(",", "")) for digits, name in found}
    return number["imported"], number["duplicates"], number["rejected"]


def partition(month: datetime) -> str:
    """Return the name of the partition of the trail for *month*."""
    return f"registration_events_y{month:%Y}m{month:%m}"


def months_after(month: datetime, number: int) -> datetime:
    """Return the month so many months after *month*."""
    years, months = divmod(month.month - 1 + number, 12)
    return month.replace(year=month.year + years, month=months + 1)


def test_expire_sweeps_batch_by_batch(desk: Desk) -> None:
    """`expire` goes on until nothing is overdue, leaves everybody else alone, and says how many there were."""
    desk.put(14, "pending")
    desk.put(6, "verified")
    desk.change("UPDATE registrations SET expires_at = now()")
    desk.put(3, "pending")
    desk.put(2)

    done = desk.run("expire", "--batch", "5")

    assert re.fullmatch(r"expired 20 registrations in \d+\.\d s\n", done.stdout)
    assert done.stderr == ""
    assert {"expired": 20, "pending": 3, "active": 2} == {
        row["status"]: row["count"] for row in desk.rows("SELECT status, count(*) FROM registrations GROUP BY status")
    }
    assert re.fullmatch(r"expired 0 registrations in \d+\.\d s\n", desk.run("expire").stdout)


def test_purge_keeps_what_is_young(desk: Desk) -> None:
    """`purge` deletes what was closed, and tokens that ended, longer ago than so many days, 30 by default."""
    closed = {desk.sign_up(f"closed{n}@example.com"): days for n, days in enumerate((29, 31, 31))}
    opened = {desk.sign_up(f"open{n}@example.com"): days for n, days in enumerate((0, 29, 31, 31))}
    desk.change(
        *(
            f"UPDATE registrations SET status = 'expired', expires_at = NULL, close_reason = 'ttl',"
            f" closed_at = now() - interval '{days} d' WHERE id = '{person}'"
            for person, days in closed.items()
        ),
        *(
            f"UPDATE verification_tokens SET created_at = now() - interval '1 y',"
            f" expires_at = now() - interval '{days} d' WHERE registration_id = '{person}'"
            for person, days in opened.items()
        ),
    )

    done = desk.run("purge", "--batch", "1")

    young = list(closed)[:1]
    assert re.fullmatch(r"deleted 2 closed registrations in \d+\.\d s\ndeleted 2 tokens in \d+\.\d s\n", done.stdout)
    assert done.stderr == ""
    assert young + list(opened) == [str(row["id"]) for row in desk.rows("SELECT id FROM registrations ORDER BY id")]
    assert 3 == desk.one("SELECT count(*) FROM verification_tokens")

    answers = desk.run_each(
        ("purge", "--closed-days", "30", "--token-days", "28"), ("purge", "--closed-days", "28", "--token-days", "30")
    )

    assert [["0", "1"], ["1", "0"]] == [re.findall(r"deleted (\d+)", answer.printed) for answer in answers]


def test_a_sweep_draws_a_bar_on_a_terminal(desk: Desk) -> None:
    """The bar is on the terminal, gone at the end, and the summary is in the standard output alone."""
    desk.put(3, "pending")
    desk.change("UPDATE registrations SET expires_at = now()")

    shown, printed = desk.run_on_terminal("expire", "--batch", "1")

    assert "Expiring registrations" in shown
    assert "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in shown
    assert shown.endswith("\x1b[2K")
    assert re.fullmatch(r"expired 3 registrations in \d+\.\d s\n", printed)


def test_numbers_and_months_that_make_no_sense_are_wrong_use(desk: Desk) -> None:
    """Each ends with 2 and the usage of its command, and nothing is printed."""
    wrong = [
        ("expire", "--batch", "0"),
        ("expire", "--batch", "10001"),
        ("expire", "--batch", "many"),
        ("purge", "--batch", "1.5"),
        ("purge", "--closed-days", "-1"),
        ("purge", "--closed-days", "36501"),
        ("purge", "--token-days", "-1"),
        ("purge", "--token-days", "month"),
        ("partitions", "--drop-before", "2024"),
        ("partitions", "--drop-before", "2024-13"),
        ("partitions", "--drop-before", "2024-01-01"),
        ("import", "people.csv", "--open-days", "-1"),
        ("outbox", "run", "--deliver", "mail:deliver", "--lease", "0"),
        ("outbox", "run", "--deliver", "mail:deliver", "--lease", "nan"),
        ("outbox", "run", "--deliver", "mail:deliver", "--poll", "inf"),
        ("outbox", "run"),
        ("outbox", "revive", "ada"),
        ("erase", "ada@example.com"),
    ]

    for command, answer in zip(wrong, desk.run_each(*wrong, environ={}), strict=True):
        assert (2, "") == (answer.code, answer.printed), command
        assert answer.said.startswith(f"usage: registration-persistence {command[0]}"), command
        assert re.match(rf"registration-persistence {command[0]}[a-z ]*: error: ", answer.said.splitlines()[-1]), (
            command
        )


def test_partitions_are_made_once(desk: Desk) -> None:
    """`partitions` makes those of this month and the months ahead, names what it made, and finds nothing more to do."""
    names = [partition(months_after(THIS_MONTH, ahead)) for ahead in range(15)]

    answers = desk.run_each(("partitions", "--months", "14"), ("partitions", "--months", "14"))

    assert [
        Answer(0, f"partitions made: 2\n  {names[13]}\n  {names[14]}\n", ""),
        Answer(0, "partitions made: 0\n", ""),
    ] == answers
    assert names == [row["name"] for row in desk.rows(PARTITIONS)]


def test_whole_months_are_dropped(desk: Desk) -> None:
    """`--drop-before` drops the partitions of the months before and keeps that month; a month to come is refused."""
    before = [row["name"] for row in desk.rows(PARTITIONS)]
    old = [datetime(2020, month, 1, tzinfo=UTC) for month in (1, 2, 3)]
    desk.change(
        *(
            f"CREATE TABLE {partition(month)} PARTITION OF registration_events"
            f" FOR VALUES FROM ('{month:%Y-%m-%d}Z') TO ('{months_after(month, 1):%Y-%m-%d}Z')"
            for month in old
        )
    )
    future = months_after(THIS_MONTH, 1)

    refused, dropped = desk.run_each(
        ("partitions", "--drop-before", f"{future:%Y-%m}"), ("partitions", "--drop-before", "2020-03")
    )

    assert 2 == refused.code
    assert "in the future" in one_line(refused.said)
    assert "" == refused.printed
    assert (0, "") == (dropped.code, dropped.said)
    assert dropped.printed.endswith(f"partitions dropped: 2\n  {partition(old[0])}\n  {partition(old[1])}\n")
    assert [partition(old[2]), *before] == [row["name"] for row in desk.rows(PARTITIONS)]


def test_partitions_wait_for_a_table_that_is_in_use(desk: Desk) -> None:
    """Where a lock is not free in time, `partitions` tries again instead of failing."""
    desk.environ["APP_DATABASE_LOCK_TIMEOUT"] = "0.5"
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with desk.database.session() as session:
        session.execute(text("LOCK TABLE registration_events_default IN ACCESS EXCLUSIVE MODE"))
        with desk.started("partitions", "--months", "13") as process:
            wait_until(lambda: desk.rows(waiting), "the command waits", process)
            wait_until(lambda: not desk.rows(waiting), "the command gives up", process)
            wait_until(lambda: desk.rows(waiting), "the command tries again", process)
            session.rollback()
            printed, said = process.communicate(timeout=TOO_LONG)

    assert (0, "") == (process.returncode, said)
    assert f"partitions made: 1\n  {partition(months_after(THIS_MONTH, 13))}\n" == printed


def test_erase_takes_ids_and_a_mailbox(desk: Desk) -> None:
    """All that holds the mailbox is erased, in whatever spelling, and the ids too; nothing shows the mailbox."""
    ada, also_ada, bob, eve = (
        desk.sign_up(email) for email in ("ada@example.com", "Ada@EXAMPLE.com", "bob@example.com", "eve@example.com")
    )

    answers = desk.run_each(
        ("erase", bob, "--email", "--yes", "--actor", "admin:kim"),
        ("erase", ada, bob, ada, "--yes"),
        ("erase", "--email", "--yes"),
        stdin=" ADA@Example.Com \nada@example.com",
    )

    assert [
        Answer(0, f"{bob} erased\n{ada} erased\n{also_ada} erased\n", ""),
        Answer(0, f"{ada} was erased before\n{bob} was erased before\n", ""),
        Answer(0, "no registration has this mailbox\n", ""),
    ] == answers
    trail = desk.rows("SELECT registration_id, actor FROM registration_events WHERE type = 'erased' ORDER BY 1")
    assert [(UUID(person), "admin:kim") for person in (ada, also_ada, bob)] == [tuple(row.values()) for row in trail]
    assert [{"id": UUID(eve)}] == desk.rows("SELECT id FROM registrations WHERE status <> 'erased'")


def test_erase_asks_on_a_terminal(desk: Desk) -> None:
    """What is not confirmed changes nothing and ends with 1; the mailbox is asked for, too, and only y erases."""
    ada, bob = desk.sign_up("ada@example.com"), desk.sign_up("bob@example.com")
    erased = "SELECT id FROM registrations WHERE status = 'erased'"

    shown, printed = desk.run_on_terminal("erase", ada, bob, typed="n\n", code=1)

    assert f"{ada}\r\n{bob}\r\nerase these for good? [y/N] " in shown
    assert "nothing was erased\n" == printed
    assert [] == desk.rows(erased)

    shown, printed = desk.run_on_terminal("erase", "--email", typed="ada@example.com\ny\n")

    assert "e-mail address: " in shown
    assert f"{ada}\r\nerase these for good? [y/N] " in shown
    assert f"{ada} erased\n" == printed
    assert [{"id": UUID(ada)}] == desk.rows(erased)


def test_erase_and_export_refuse_what_they_cannot_do(desk: Desk) -> None:
    """What cannot be asked, is not chosen or is unknown is one line and the right code, and nothing is erased."""
    ada, unknown = desk.sign_up("ada@example.com"), str(uuid4())
    cases: dict[tuple[str, ...], tuple[int, str]] = {
        ("erase",): (2, "nothing is chosen"),
        ("erase", "--yes"): (2, "nothing is chosen"),
        ("erase", ada): (2, "pass --yes if there is no terminal to ask on"),
        ("erase", ada, "--yes", "--actor", "kim"): (2, "the actor is unknown"),
        ("erase", unknown, "--yes"): (1, f"there is no registration {unknown}"),
        ("erase", "--email", "--yes"): (2, "the e-mail address is not valid"),
        ("export",): (2, "nothing is chosen"),
        ("export", ada, unknown): (1, f"there is no registration {unknown}"),
        ("export", "--email"): (2, "the e-mail address is not valid"),
    }

    answers = desk.run_each(*cases)

    for (command, (code, problem)), answer in zip(cases.items(), answers, strict=True):
        assert code == answer.code, command
        assert problem in one_line(answer.said), command
        assert answer.printed == "", command
    done = desk.run("erase", "--email", code=2, stdin="ada@example.com\n")
    assert "" == done.stdout
    assert "pass --yes" in one_line(done.stderr)
    assert [{"status": "pending"}] == desk.rows("SELECT status FROM registrations")


def test_export_prints_everything(desk: Desk) -> None:
    """`export` prints a JSON array that people can read too, by id and by mailbox, and an empty one for nobody."""
    ada = desk.sign_up("Ada@example.com", "Zo\u00eb \u65e5\u672c")

    printed = desk.run("export", "--email", ada, stdin="ada@EXAMPLE.com\n").stdout
    by_id, nobody = desk.run_each(("export", ada), ("export", "--email"), stdin="bob@example.com\n")

    assert [Answer(0, printed, ""), Answer(0, "[]\n", "")] == [by_id, nobody]
    assert '"name": "Zo\u00eb \u65e5\u672c"' in printed
    (held,) = json.loads(printed)
    assert {"registration", "tokens", "consents", "events"} == set(held)
    registration = held["registration"]
    assert (ada, "pending", "Ada@example.com", "ada@example.com") == tuple(
        registration[name] for name in ("id", "status", "email", "email_key")
    )
    assert [("terms", "2026-01", True, "web")] == [
        (row["purpose"], row["document_version"], row["granted"], row["source"]) for row in held["consents"]
    ]
    assert [("registered", "user")] == [(event["type"], event["actor"]) for event in held["events"]]
    assert ["verify_email"] == [token["purpose"] for token in held["tokens"]]


def test_import_reads_csv_as_it_comes(desk: Desk) -> None:
    """A mark of the byte order, CRLF, line breaks in quotes and every kind of column are understood."""
    desk.write(
        "people.csv",
        "\ufeff email ,status,registered_at,idempotency_key,profile.name,profile.town,consent.terms,declined.news\r\n"
        'Ada@example.com,active,2024-05-01T11:30:00+02:00,,"Ada\r\nLovelace","Z\u00fcrich, ""City""",24-01,24-02\r\n'
        "\r\n"
        "bob@example.com, pending ,,crm-4711,Bob,,,\r\n"
        "nobody at home,,,,,,,\r\n"
        "eve@example.com,verified,2024-05-01T09:30:00Z,,,,,1\r\n"
        "mia@example.com,,,,,,,",
    )

    done = desk.run("import", "people.csv", code=1)

    assert (4, 0, 1) == counts(done.stdout)
    assert done.stderr == ""
    assert [6] == [line for line, _ in desk.rejected()]
    registered_at = datetime(2024, 5, 1, 9, 30, tzinfo=UTC)
    people = {row["email"]: row for row in desk.rows("SELECT * FROM registrations")}
    assert {
        "Ada@example.com": ("active", {"name": "Ada\r\nLovelace", "town": 'Z\u00fcrich, "City"'}, False),
        "bob@example.com": ("pending", {"name": "Bob"}, True),
        "eve@example.com": ("verified", {}, False),
        "mia@example.com": ("active", {}, False),
    } == {email: (row["status"], row["profile"], row["submit_key"] is not None) for email, row in people.items()}
    ada, bob, eve = (people[email] for email in ("Ada@example.com", "bob@example.com", "eve@example.com"))
    assert [registered_at] * 3 == [ada["created_at"], ada["verified_at"], ada["activated_at"]]
    assert [registered_at, registered_at, None] == [eve["created_at"], eve["verified_at"], eve["activated_at"]]
    assert bob["created_at"] > datetime.now(UTC) - timedelta(days=1)
    assert [
        ("Ada@example.com", "news", "24-02", False, "import", registered_at),
        ("Ada@example.com", "terms", "24-01", True, "import", registered_at),
        ("eve@example.com", "news", "1", False, "import", registered_at),
    ] == [
        tuple(row.values())
        for row in desk.rows(
            "SELECT email, purpose, document_version, granted, source, recorded_at"
            " FROM registration_consents JOIN registrations r ON r.id = registration_id ORDER BY email, purpose"
        )
    ]


def test_import_reads_json_lines_as_they_come(desk: Desk) -> None:
    """Every field is understood, empty lines are left out, and the last line needs no end."""
    whole = {
        "email": "Ada@example.com",
        "status": "verified",
        "registered_at": "2024-05-01T09:30:00Z",
        "idempotency_key": "crm-4711",
        "profile": {"name": "Zo\u00eb", "age": 36, "tags": ["a", {"b": None}]},
        "consents": [
            {"purpose": "terms", "document_version": "2024-01", "granted": False, "source": "crm"},
            {"purpose": "news", "document_version": "1"},
        ],
    }
    nulls = dict.fromkeys(whole) | {"email": "bob@example.com"}
    desk.write(
        "people.ndjson",
        "\ufeff" + json.dumps(whole, ensure_ascii=False) + "\r\n \r\n\n[]\n" + json.dumps(nulls),
    )

    done = desk.run("import", "people.ndjson", code=1)

    assert (2, 0, 1) == counts(done.stdout)
    assert done.stderr == ""
    assert [(4, "the line is not a JSON object")] == desk.rejected()
    ada, bob = desk.rows("SELECT * FROM registrations ORDER BY email")
    assert ("Ada@example.com", "verified", whole["profile"]) == (ada["email"], ada["status"], ada["profile"])
    assert datetime(2024, 5, 1, 9, 30, tzinfo=UTC) == ada["created_at"] == ada["verified_at"]
    assert ada["submit_key"] is not None
    assert ("bob@example.com", "active", {}) == (bob["email"], bob["status"], bob["profile"])
    assert [("news", "1", True, "import"), ("terms", "2024-01", False, "crm")] == [
        tuple(row.values())
        for row in desk.rows(
            "SELECT purpose, document_version, granted, source FROM registration_consents ORDER BY purpose"
        )
    ]


def test_each_rejected_row_of_csv_is_in_the_report(desk: Desk) -> None:
    """Line and reason of each, and nothing of the row itself; the others are imported."""
    reasons: dict[bytes, str | None] = {
        b"ada@example.com,active,,Ada,1": None,
        b"bob@example.com,active": "the row has 2 fields: expected 5",
        b"bob@example.com,active,,Bob,1,": "the row has 6 fields: expected 5",
        b"bob.example.com,active,,Bob,1": NO_AT,
        b"bob@example.com,gone,,Bob,1": NO_STATUS,
        b'bob@example.com,active,,"Bob\nBuilder\n",1': None,
        b"ADA@example.com,active,,Ada,1": DUPLICATE,
        b"carl@example.com,active,2024-05-01T09:30:00,Carl,1": NO_TIME,
        b"carl@example.com,active,yesterday,Carl,1": NO_TIME,
        b"carl@example.com,active,2999-05-01T09:30:00Z,Carl,1": "registered_at is in the future",
        b"carl@example.com,active,,C\xe4rl,1": "the row is not UTF-8",
        b"carl@example.com,active,,C\0rl,1": "the profile contains NUL, which PostgreSQL cannot store",
        b"carl@example.com,active,,Carl,carl@example.com": (
            "the document_version of the consent to terms is not printable ASCII of 1 to 64 characters without @"
        ),
        b"carl@example.com,active,," + b"x" * 9000 + b",1": (
            "the profile takes 9012 octets of JSON: expected at most 8192"
        ),
        b"carl@example.com,active,,Carl,1": None,
    }
    header = b"email,status,registered_at,profile.name,consent.terms"
    desk.write("people.csv", b"\n".join([header, *reasons]))
    lines = itertools.accumulate((row.count(b"\n") + 1 for row in reasons), initial=2)
    expected = [(line, reason) for line, reason in zip(lines, reasons.values(), strict=False) if reason is not None]

    done = desk.run("import", "people.csv", code=1)

    assert expected == desk.rejected()
    assert (3, 1, len(expected) - 1) == counts(done.stdout)
    assert f"             2  {NO_TIME}\n" in done.stdout
    assert done.stderr == ""
    assert "example.com" not in done.stdout + desk.read("people.rejected.csv")


def test_each_rejected_line_of_json_is_in_the_report(desk: Desk) -> None:
    """Line and reason of each, and nothing of the line itself; the others are imported."""
    unknown_field = "has a field that is unknown: expected"
    reasons: dict[bytes, str | None] = {
        b'{"email": "ada@example.com"}': None,
        b'{"email": "bob.example.com"}': NO_AT,
        b'{"email": "bob@example.com", "status": "gone"}': NO_STATUS,
        b'{"email": "bob@example.com", "status": ["active"]}': NO_STATUS,
        b'{"email": "bob@example.com", "registered_at": "2024-05-01T09:30:00"}': NO_TIME,
        b'{"email": "bob@example.com", "registered_at": 1714555800}': NO_TIME,
        b'{"email": "b\xf6b@example.com"}': "the line is not UTF-8",
        b'{"email": "bob@example.com"': "the line is not JSON",
        b"bob@example.com": "the line is not JSON",
        b"[" * 100_000: "the line is not JSON",
        b'["bob@example.com"]': "the line is not a JSON object",
        b'{"email": "bob@example.com", "mail": ""}': (
            f"the row {unknown_field} email, status, registered_at, idempotency_key, profile, consents"
        ),
        b'{"email": "bob@example.com", "profile": ["bob@example.com"]}': "the profile is a list: expected an object",
        b'{"email": "bob@example.com", "profile": {"name": "\\ud800"}}': (
            "the profile cannot be written as JSON (UnicodeEncodeError)"
        ),
        b'{"email": "bob@example.com", "consents": {"terms": "1"}}': "the consents are not a list",
        b'{"email": "bob@example.com", "consents": ["terms"]}': "a consent is not an object",
        b'{"email": "bob@example.com", "consents": [{"purpose": "terms", "version": "1"}]}': (
            f"a consent {unknown_field} purpose, document_version, granted, source"
        ),
        b'{"email": "bob@example.com", "consents": [{"purpose": "bob@example.com", "document_version": "1"}]}': (
            "the purpose of a consent is not a name like terms or marketing_mail"
        ),
        b'{"email": "bob@example.com", "idempotency_key": 4711}': (
            "the idempotency key is not text of 1 to 255 octets of UTF-8"
        ),
        b'{"email": "' + b"x" * 3_500_000 + b'"}': "the line is longer than 1000000 bytes",
        b'{"email": "ADA@example.com"}': DUPLICATE,
        b'{"email": "bob@example.com"}': None,
        b'{"email": "eve@example.com' + b" " * 999_950 + b'"}': None,
        b'{"email": "' + b"x" * 1_000_000: "the line is longer than 1000000 bytes",
    }
    desk.write("people.jsonl", b"\n".join(reasons))

    done = desk.run("import", "people.jsonl", "--rejected", "report.csv", code=1)

    expected = [(line, reason) for line, reason in enumerate(reasons.values(), 1) if reason is not None]
    assert expected == desk.rejected("report.csv")
    assert (3, 1, len(expected) - 1) == counts(done.stdout)
    assert done.stdout.endswith("are in report.csv\n")
    assert done.stderr == ""
    assert "example.com" not in done.stdout + desk.read("report.csv")
    assert "" == desk.read("people.rejected.csv")


def test_importing_again_stores_nothing(desk: Desk) -> None:
    """What is there is a duplicate, pending rows without a key too; duplicates alone are no failure."""
    desk.write(
        "people.csv",
        "email,status,registered_at\nada@example.com,,\nbob@example.com,pending,\n"
        "bob@example.com,pending,2024-05-01T09:30:00Z\n",
    )
    everything = "SELECT * FROM registrations ORDER BY id"

    first = desk.run("import", "people.csv")
    stored = desk.rows(everything)
    second = desk.run("import", "people.csv")

    assert [(3, 0, 0), (0, 3, 0)] == [counts(first.stdout), counts(second.stdout)]
    assert "people.rejected.csv" not in first.stdout
    assert second.stdout.endswith("line and reason of each row that was not stored are in people.rejected.csv\n")
    assert [(2, DUPLICATE), (3, DUPLICATE), (4, DUPLICATE)] == desk.rejected()
    assert len(stored) == 3
    assert stored == desk.rows(everything)
    assert [] == desk.outbox()


def test_options_of_an_import(desk: Desk) -> None:
    """`--announce` puts a message for each row into the outbox, and `--open-days` says how long rows stay open."""
    desk.write("people.txt", "email,status\nada@example.com,\nbob@example.com,pending\neve@example.com,verified\n")
    open_days = "SELECT round(extract(epoch FROM expires_at - now()) / 86400) AS days FROM registrations ORDER BY email"

    desk.run("import", "people.txt", "--format", "csv", "--announce", "--open-days", "3")

    assert [None, 3, 3] == [row["days"] for row in desk.rows(open_days)]
    assert ["registration.imported"] * 3 == [message["type"] for message in desk.outbox()]
    assert desk.rows("SELECT id FROM registrations ORDER BY id") == [
        {"id": row["registration_id"]} for row in desk.rows("SELECT registration_id FROM outbox ORDER BY 1")
    ]


def test_a_dry_run_keeps_nothing(desk: Desk) -> None:
    """It counts what an import would count, duplicates of a row further up than one batch too, and changes nothing."""
    people = [f"person{number}@example.com\n" for number in range(1100)]
    desk.write("people.csv", "".join(["email\n", *people, "nobody\n", "PERSON0@example.com\n"]))

    done = desk.run("import", "people.csv", "--dry-run", "--announce", code=1)

    assert done.stdout.splitlines()[0].endswith(", none of them kept: this was a dry run")
    assert (1100, 1, 1) == counts(done.stdout)
    assert [(1102, NO_AT), (1103, DUPLICATE)] == desk.rejected()
    assert [[], [], []] == [
        desk.rows(f"SELECT FROM {table}") for table in ("registrations", "registration_events", "outbox")
    ]


def test_files_that_cannot_be_used_are_one_line(desk: Desk) -> None:
    """They end with 2 and the file's name, an older report keeps its content, and no database is needed."""
    headers: dict[str, str | bytes] = {
        "none.csv": "",
        "blank.csv": "\n",
        "no-mailbox.csv": "status,profile.name\nactive,Ada\n",
        "unknown.csv": "email,name\nada@example.com,Ada\n",
        "twice.csv": "email,status,email\nada@example.com,active,ada@example.com\n",
        "semicolons.csv": "email;status\nada@example.com;active\n",
        "utf-16.csv": "email\nada@example.com\n".encode("utf-16"),
    }
    for name, content in headers.items():
        desk.write(name, content)
    desk.write("people.csv", "email\nada@example.com\n")
    desk.write("people.txt", "email\nada@example.com\n")
    (desk.folder / "link.csv").symlink_to("people.csv")
    (desk.folder / "folder.csv").mkdir()
    desk.write("old.csv", "what was rejected before\n")
    overwritten = "is the file to import: name another one for the rejected rows"
    cases: dict[tuple[str, ...], str] = {
        **{(name, "--rejected", "old.csv"): f"{name}, line 1: the header is wrong: expected email" for name in headers},
        ("nowhere.csv",): "cannot read nowhere.csv: No such file or directory",
        ("folder.csv",): "cannot read folder.csv: Is a directory",
        ("people.txt",): "people.txt: neither .csv nor .jsonl: name the format with --format",
        ("people.csv", "--rejected", "people.csv"): f"people.csv {overwritten}",
        ("people.csv", "--rejected", "link.csv"): f"link.csv {overwritten}",
        ("link.csv", "--rejected", "people.csv"): f"people.csv {overwritten}",
        ("people.csv", "--rejected", "no/where.csv"): "cannot write no/where.csv: No such file or directory",
        ("people.csv", "--rejected", "folder.csv"): "cannot write folder.csv: Is a directory",
    }

    answers = desk.run_each(*(("import", *arguments) for arguments in cases), environ={})

    for (arguments, problem), answer in zip(cases.items(), answers, strict=True):
        assert (2, "") == (answer.code, answer.printed), arguments
        assert one_line(answer.said).startswith(f"registration-persistence: {problem}"), arguments
    assert "what was rejected before\n" == desk.read("old.csv")
    assert "email\nada@example.com\n" == desk.read("people.csv")
    assert [] == list(desk.folder.glob("*.rejected.csv"))


def test_an_import_goes_on_after_the_file_was_mended(desk: Desk) -> None:
    """A quote that is never closed ends it with the line; what was imported before is kept, and known the next time."""
    people = [f"person{number}@example.com,x\n" for number in range(1500)]
    rest = [f"more{number}@example.com,x\n" for number in range(200)]
    start = ["email,profile.name\n", *people]
    desk.write("people.csv", "".join([*start, 'ada@example.com,"Ada\n', *rest]))

    broken = desk.run("import", "people.csv", code=2)

    assert "people.csv, line 1502: not CSV" in one_line(broken.stderr)
    assert "can be imported again" in broken.stderr
    kept = desk.one("SELECT count(*) FROM registrations")
    assert 1000 <= kept <= 1500
    assert (kept, 0, 0) == counts(broken.stdout)

    desk.write("people.csv", "".join([*start, 'ada@example.com,"Ada"\n', *rest]))
    mended = desk.run("import", "people.csv")

    assert (1701 - kept, kept, 0) == counts(mended.stdout)
    assert 1701 == desk.one("SELECT count(DISTINCT email) FROM registrations")
    assert 1701 == desk.one("SELECT count(*) FROM registrations")


def test_an_import_that_was_killed_is_finished_by_another(desk: Desk) -> None:
    """After SIGKILL the same file can be imported again, and each row is there once."""
    number = 20_000
    desk.write("people.csv", "email,status\n" + "".join(f"{n}@example.com,pending\n" for n in range(number)))
    stored = "SELECT count(*) FROM registrations"
    with desk.started("import", "people.csv") as process:
        wait_until(lambda: desk.one(stored), "a batch is there", process)
        process.kill()
    others = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    wait_until(lambda: not desk.rows(others), "the server has noticed")
    before = desk.one(stored)

    done = desk.run("import", "people.csv")

    assert 0 < before < number
    assert (number - before, before, 0) == counts(done.stdout)
    for table in ("registrations", "registration_events"):
        assert number == desk.one(f"SELECT count(*) FROM {table}")
    assert number == desk.one("SELECT count(DISTINCT email) FROM registrations")


def test_an_import_takes_no_more_memory_for_more_rows(desk: Desk) -> None:
    """60,000 rows, duplicates and wrong ones among them, take at most 20 MB more than 2,000."""
    unit = 1 if sys.platform == "darwin" else 1024
    name = "x" * 1500
    peaks = []
    for number in (2000, 60_000):
        with (desk.folder / "people.csv").open("w") as file:
            file.write("email,profile.name\n")
            for n in range(number // 5):
                file.write(f"{number}-{n}@example.com,{name}\nada@example.com,{name}\nbob@example.com\n,,\nbob\n")
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *COMMAND, "import", "people.csv"],
            cwd=desk.folder,
            env=desk.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TOO_LONG,
            check=True,
        )
        code, peak = done.stdout.split()
        assert (1, "") == (int(code), done.stderr)
        peaks.append(int(peak) * unit)

    assert (2000 + 60_000) // 5 + 1 == desk.one("SELECT count(*) FROM registrations")
    assert peaks[1] - peaks[0] < 20_000_000


def test_an_import_without_a_server_is_one_line(desk: Desk) -> None:
    """Where nothing listens, it ends with 1, says what could not be reached, and imported nothing."""
    desk.write("people.csv", "email\n" + "ada@example.com\n" * 3000)
    desk.environ.update(APP_DATABASE_PORT="1", APP_DATABASE_CONNECT_TIMEOUT="2")

    done = desk.run("import", "people.csv", code=1)

    assert (0, 0, 0) == counts(done.stdout)
    assert one_line(done.stderr).startswith("registration-persistence: cannot connect to ")


def test_an_import_draws_a_bar_on_a_terminal(desk: Desk) -> None:
    """The bar is on the terminal, gone at the end, and the summary is in the standard output alone."""
    desk.write("people.csv", "email\nada@example.com\n")

    shown, printed = desk.run_on_terminal("import", "people.csv")

    assert "Importing" in shown
    assert "100 %" in shown
    assert shown.endswith("\x1b[2K")
    assert "imported" not in shown
    assert (1, 0, 0) == counts(printed)


def test_a_missing_file_is_one_line_where_there_is_a_report(desk: Desk) -> None:
    """A name that was typed wrong ends with 2, and the report of an earlier import keeps its content."""
    desk.write("old.csv", "what was rejected before\n")

    (answer,) = desk.run_each(("import", "nowhere.csv", "--rejected", "old.csv"), environ={})

    problem = "registration-persistence: cannot read nowhere.csv: No such file or directory\n"
    assert Answer(2, "", problem) == answer
    assert "what was rejected before\n" == desk.read("old.csv")


def test_a_report_that_cannot_be_written_is_one_line(desk: Desk) -> None:
    """A disk that is full ends the import with 2, and what was rejected is counted all the same."""
    if not Path("/dev/full").exists():
        pytest.skip("the system has no /dev/full")
    desk.write("people.csv", "email\nada@example.com\nbob\n")

    done = desk.run("import", "people.csv", "--rejected", "/dev/full", code=2)

    assert (1, 0, 1) == counts(done.stdout)
    assert "/dev/full: No space left on device" in one_line(done.stderr)


def test_open_days_that_make_no_sense_are_wrong_use(desk: Desk) -> None:
    """None, and more than ten years, end with 2 and name the option, and nothing is counted."""
    desk.write("people.csv", "email\nada@example.com\n")

    answers = desk.run_each(*(("import", "people.csv", "--open-days", days) for days in ("0", "3651")))

    assert [(2, "", True)] * 2 == [(answer.code, answer.printed, "--open-days" in answer.said) for answer in answers]
    assert "" == desk.read("people.rejected.csv")


def test_the_reader_of_a_short_answer_may_go_away(desk: Desk) -> None:
    """What fits into a buffer is written at the very end, and ends quietly too where nobody reads it."""
    with desk.started("partitions") as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        said = process.stderr.read()

    assert (128 + signal.SIGPIPE, "") == (process.returncode, said)


def test_the_worker_delivers_everything_once(desk: Desk) -> None:
    """`outbox run --once` hands each message to a function of the current folder, counts, and ends."""
    event_ids = desk.put_messages(25)

    done = desk.run("outbox", "run", "--once", "--deliver", "mail:deliver", "--batch", "10")

    assert "25 delivered, 0 retried, 0 buried, 0 released\n" == done.stdout
    assert done.stderr == ""
    assert [f"delivered {event_id}" for event_id in event_ids] == desk.deliveries()
    assert [] == desk.outbox()


def test_what_was_given_up_can_be_revived(desk: Desk) -> None:
    """`outbox dead` prints it with the class of the error alone, and `outbox revive` has it delivered after all."""
    first, second, third = desk.put_messages(3)

    done = desk.run("outbox", "run", "--once", "--deliver", "mail:refused", "--max-attempts", "1")

    assert "0 delivered, 0 retried, 3 buried, 0 released\n" == done.stdout
    assert 3 == done.stderr.count("builtins.ConnectionResetError")
    assert "@" not in done.stderr
    lines = [
        f"{row['event_id']} {row['dead_at'].isoformat(timespec='seconds')} registration.imported"
        f" {row['registration_id']} builtins.ConnectionResetError\n"
        for row in desk.rows("SELECT * FROM outbox ORDER BY dead_at, event_id")
    ]

    answers = desk.run_each(
        ("outbox", "dead"),
        ("outbox", "dead", "--limit", "2"),
        ("outbox", "revive", str(second), str(uuid4())),
        ("outbox", "dead"),
        ("outbox", "revive", "--all"),
        ("outbox", "dead"),
        ("outbox", "revive"),
    )

    assert [
        Answer(0, "".join(lines), ""),
        Answer(0, "".join(lines[:2]), ""),
        Answer(1, "revived 1 of 2\n", ""),
        Answer(0, lines[0] + lines[2], ""),
        Answer(0, "revived 2\n", ""),
        Answer(0, "", "no message was given up\n"),
        Answer(2, "", "registration-persistence: nothing is chosen: expected ids, or --all\n"),
    ] == answers
    assert [(first, True, 0), (second, True, 0), (third, True, 0)] == [
        (row["event_id"], row["due"], row["attempts"]) for row in desk.outbox()
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_delivery_finish(desk: Desk, number: signal.Signals) -> None:
    """The message at hand is delivered and removed, the others are due at once, and the worker ends with 0."""
    first, *others = desk.put_messages(4)
    with desk.started("outbox", "run", "--deliver", "mail:slowly") as process:
        wait_until(desk.deliveries, "a delivery has begun", process)
        process.send_signal(number)
        desk.write("go", "")
        printed, said = process.communicate(timeout=TOO_LONG)

    assert 0 == process.returncode
    assert "1 delivered, 0 retried, 0 buried, 3 released\n" == printed
    assert "delivering: SIGTERM or Ctrl-C ends it after the current message" == one_line(said)
    assert [f"begin {first}", f"end {first}"] == desk.deliveries()
    assert [(event_id, True, 0) for event_id in others] == [
        (row["event_id"], row["due"], row["attempts"]) for row in desk.outbox()
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_worker_that_waits(desk: Desk, number: signal.Signals) -> None:
    """Where nothing is due, the worker ends without waiting for its next look."""
    desk.write("mail.py", MAIL)
    with desk.started("outbox", "run", "--deliver", "mail:deliver", "--poll", "3600") as process:
        assert process.stderr
        assert process.stderr.readline().startswith("delivering: ")
        process.send_signal(number)
        printed, said = process.communicate(timeout=TOO_LONG)

    assert (0, "0 delivered, 0 retried, 0 buried, 0 released\n", "") == (process.returncode, printed, said)


def test_a_worker_that_was_killed_loses_nothing(desk: Desk) -> None:
    """When its lease is over, the next one delivers what it had claimed, the message at hand too."""
    event_ids = desk.put_messages(3)
    with desk.started("outbox", "run", "--deliver", "mail:slowly", "--lease", "1") as process:
        wait_until(desk.deliveries, "a delivery has begun", process)
        process.kill()
    assert event_ids == [row["event_id"] for row in desk.outbox()]
    wait_until(lambda: all(row["due"] for row in desk.outbox()), "the lease is over")

    done = desk.run("outbox", "run", "--once", "--deliver", "mail:deliver")

    assert "3 delivered, 0 retried, 0 buried, 0 released\n" == done.stdout
    assert [f"begin {event_ids[0]}", *(f"delivered {event_id}" for event_id in event_ids)] == desk.deliveries()
    assert [] == desk.outbox()


def test_a_function_that_is_not_there_is_one_line(desk: Desk) -> None:
    """What `--deliver` names wrongly ends with 2 and the reason, before the database is asked for anything."""
    for name, content in {
        "mail.py": MAIL,
        "needs.py": "import nothing_of_that_name\n",
        "syntax.py": "def (\n",
        "leaves.py": "raise SystemExit(3)\n",
        "settings.py": "raise RuntimeError('MAIL_HOST is not set')\n",
    }.items():
        desk.write(name, content)
    form = "expected module:function, for example myservice.mail:deliver"
    cases = {
        "mail": form,
        "mail:": form,
        ":deliver": form,
        "nowhere:deliver": "ModuleNotFoundError: No module named 'nowhere'",
        "mail.more:deliver": "ModuleNotFoundError: No module named 'mail.more'",
        "needs:deliver": "ModuleNotFoundError: No module named 'nothing_of_that_name'",
        "syntax:deliver": "SyntaxError: ",
        "settings:deliver": "RuntimeError: MAIL_HOST is not set",
        ".mail:deliver": form,
        "leaves:deliver": "SystemExit: 3",
        "mail:nothing": "AttributeError: module 'mail' has no attribute 'nothing'",
        "mail:word": "word cannot be called",
    }

    answers = desk.run_each(*(("outbox", "run", "--deliver", name) for name in cases), environ={})

    for (name, problem), answer in zip(cases.items(), answers, strict=True):
        assert (2, "") == (answer.code, answer.printed), name
        assert one_line(answer.said).startswith(f"registration-persistence: --deliver {name}: {problem}"), name


def test_what_to_install_is_told(tmp_path: Path) -> None:
    """Without rich, the commands that draw a bar end with 2 and name the extra that brings it."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RICH],
        cwd=tmp_path,
        env={},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TOO_LONG,
        check=True,
    )

    assert "[2, 2, 2]\n" == done.stdout
    hint = r"registration-persistence: this needs rich(\.\w+)?: pip install 'registration-persistence\[cli\]'\n"
    assert re.fullmatch(f"({hint}){{3}}", done.stderr)


def test_an_import_from_a_pipe(desk: Desk) -> None:
    """What another program writes is imported as it comes, without a size that is known before."""
    lines = "".join(f'{{"email": "person{number}@example.com"}}\n' for number in range(2500))

    desk.run("import", "/dev/stdin", "--format", "jsonl", stdin=lines)

    assert [{"n": 2500}] == desk.rows("SELECT count(*) AS n FROM registrations")


def test_an_erasure_goes_on_where_somebody_is_gone(desk: Desk) -> None:
    """An id that is unknown, or was purged meanwhile, is told, and the others are erased all the same."""
    ada, unknown = desk.sign_up("ada@example.com"), str(uuid4())

    done = desk.run("erase", unknown, ada, "--yes", code=1)

    assert f"{ada} erased\n" == done.stdout
    assert f"there is no registration {unknown}\n" == done.stderr
