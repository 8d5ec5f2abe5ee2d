"""A folder and a migrated database, in which a test runs commands."""

import csv
import os
import pty
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any
from uuid import UUID, uuid4

from command_line import COMMAND, TIMEOUT_SECONDS, Answer, environment, run, run_each
from sqlalchemy import text
from support import TERMS

from registration_persistence import Database, ImportRow, RegistrationRepository, bulk_import, sandbox
from registration_persistence.outcomes import Registered

# The module with the functions that the workers call.
MAIL_MODULE = """
import time
from pathlib import Path

def record(event, message):
    with Path("deliveries").open("a") as file:
        file.write(f"{event} {message.event_id}\\n")

def deliver(message):
    record("delivered", message)

def deliver_slowly(message):
    record("begin", message)
    while not Path("go").exists():
        time.sleep(0.01)
    record("end", message)

def batch(messages):
    assert len(messages) == 3

def fail(message):
    raise ConnectionResetError("ada@example.com hung up")

word = "deliver"
"""


@dataclass(frozen=True)
class Workspace:
    """A folder and a migrated database, which the test reads through connections of its own."""

    folder: Path
    environ: dict[str, str]
    database: Database

    def run(self, *arguments: str, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command, which must end with *code*."""
        return run(*arguments, environ=self.environ, code=code, folder=self.folder, stdin=stdin)

    def run_each(
        self, *commands: Sequence[str], environ: Mapping[str, str] | None = None, stdin: str = ""
    ) -> list[Answer]:
        """Run several commands one after the other in one process, which is faster than a process for each."""
        return run_each(
            *commands, environ=self.environ if environ is None else environ, folder=self.folder, stdin=stdin
        )[0]

    def run_each_strictly(self, *commands: Sequence[str]) -> tuple[list[Answer], str]:
        """Run several commands in one process with `-W error`; also return what the interpreter says about leaks."""
        options = ("-W", "error", "-X", "dev")
        return run_each(*commands, environ=self.environ, folder=self.folder, options=options)

    def run_on_terminal(self, *arguments: str, typed: str = "", code: int = 0) -> tuple[str, str]:
        """Run the command with a terminal for input and errors; return the terminal's text and standard output."""
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=environment({**self.environ, "COLUMNS": "120", "TERM": "xterm"}),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
        ) as process:
            os.close(theirs)
            watchdog = Timer(TIMEOUT_SECONDS, process.kill)
            watchdog.start()
            try:
                os.write(ours, typed.encode())
                terminal = b"".join(chunks_of(ours)).decode()
                stdout, _ = process.communicate()
            finally:
                watchdog.cancel()
                os.close(ours)
        assert code == process.returncode, terminal
        return terminal, stdout

    @contextmanager
    def start(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start the command, and kill it at the end of the block."""
        with subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=environment(self.environ),
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
        """Return the content of a file, or an empty text if there is no file."""
        file = self.folder / name
        return file.read_text() if file.exists() else ""

    def rejected(self, name: str = "people.rejected.csv") -> list[tuple[int, str]]:
        """Return the lines and reasons of a report of rejected rows."""
        header, *lines = csv.reader(self.read(name).splitlines())
        assert ["line", "reason"] == header
        return [(int(line), reason) for line, reason in lines]

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        with self.database.session() as session:
            return [dict(row) for row in session.execute(text(sql)).mappings()]

    def value(self, sql: str) -> Any:
        """Return the only value of a query."""
        (row,) = self.rows(sql)
        (value,) = row.values()
        return value

    def execute(self, *statements: str) -> None:
        """Execute statements in one transaction."""
        with self.database.session() as session:
            for statement in statements:
                session.execute(text(statement))

    def import_registrations(self, number: int, status: str = "active", *, announce: bool = False) -> list[str]:
        """Import *number* registrations, and return the ids of all registrations, in order."""
        with self.database.session() as session:
            rows = (ImportRow(f"{uuid4()}@example.com", status) for _ in range(number))
            assert number == bulk_import(session, rows, announce=announce).inserted
        return [str(row["id"]) for row in self.rows("SELECT id FROM registrations ORDER BY id")]

    def sign_up(self, email: str, name: str = "Ada") -> str:
        """Register *email* and return the id."""
        with self.database.session() as session:
            outcome = RegistrationRepository(session).register(email, profile={"name": name}, consents=[TERMS])
        assert isinstance(outcome, Registered)
        return str(outcome.registration.id)

    def put_messages(self, number: int) -> list[UUID]:
        """Put *number* messages into the outbox, and the module `mail` into the folder; return their ids."""
        self.write("mail.py", MAIL_MODULE)
        self.import_registrations(number, announce=True)
        return [row["event_id"] for row in self.outbox()]

    def outbox(self) -> list[dict[str, Any]]:
        """Return the messages of the outbox."""
        return self.rows("SELECT *, available_at <= now() AS due FROM outbox ORDER BY event_id")

    def deliveries(self) -> list[str]:
        """Return the deliveries that the module `mail` recorded."""
        return self.read("deliveries").splitlines()


def chunks_of(terminal: int) -> Iterator[bytes]:
    """Yield the output on a terminal, until all processes have closed it."""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # Linux raises EIO instead of returning an empty chunk
            return
        if not chunk:
            return
        yield chunk


def wait_until(condition: Callable[[], object], event: str, process: subprocess.Popen[str] | None = None) -> None:
    """Wait until *condition* holds, which means *event*; fail if *process* ends before, or after a minute."""

    def is_met() -> bool:
        met = bool(condition())
        assert met or process is None or process.poll() is None, f"the command ended before {event}"
        return met

    sandbox.wait_until(is_met, event, timeout=TIMEOUT_SECONDS)
