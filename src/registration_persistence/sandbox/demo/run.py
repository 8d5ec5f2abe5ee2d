"""`demo`: real sign-ups travel the way that a Lambda's do, through everything but AWS itself."""

import csv
import os
import secrets
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from sqlalchemy.exc import SQLAlchemyError

from registration_persistence import schema
from registration_persistence.database import get_db, session_scope
from registration_persistence.domain.codes import Peppers
from registration_persistence.domain.records import Registration
from registration_persistence.errors import (
    IdempotencyConflict,
    InvalidInput,
    RegistrationPersistenceError,
    UnreadableFile,
)
from registration_persistence.outbox_worker import OutboxWorker
from registration_persistence.outcomes import (
    CodeOutcome,
    Issued,
    Registered,
    RegisterOutcome,
    Throttled,
    Verified,
    WrongCode,
)
from registration_persistence.repositories.privacy import PrivacyRepository
from registration_persistence.repositories.registrations import RegistrationRepository
from registration_persistence.repositories.verification import VerificationRepository
from registration_persistence.sandbox import LocalPostgres, LocalSecretsManager, embedded_binaries
from registration_persistence.sandbox.demo.signups import HEADER, Signup, SignupRow, read_signups

if TYPE_CHECKING:
    import _csv

_DATABASE = "registration"

_LOGIN = "registration_app"

# One in so many never opens the link, asks for another mail at once, gets a code and mistypes it, stops before the last
# step, or leaves for good, as people do.
_NEVER_VERIFIES = 10

_ASKS_AGAIN = 4

_TYPES_A_CODE = 3

_NEVER_ACTIVATES = 15

_LEAVES = 20

# Reasons for rejection that the summary lists; the file has them all.
_REASONS = 12

_PEPPERS = Peppers({1: secrets.token_bytes(32)})

_QUESTION = "SELECT status, count(*) FROM registrations GROUP BY status"


@dataclass(slots=True)
class Tally:
    """What happened to the rows of the file."""

    counts: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def run_demo(signups: Path, rejected: Path, *, keep: bool) -> int:
    """Register the people of *signups*, rotate the password halfway, print what happened.

    Returns how many sign-ups failed though nothing was wrong with them.

    Args:
        signups: The CSV file.
        rejected: Where the rows go that could not be registered, with line and reason.
        keep: Whether to leave the server running until Enter is pressed, to look at the rows.

    Raises:
        UnreadableFile: *signups* cannot be read, or *rejected* not written.
        RegistrationPersistenceError: Something failed that a service would have to handle.
    """
    console = Console()
    rows = read_signups(signups)
    if rejected.exists() and rejected.samefile(signups):
        raise UnreadableFile(f"{rejected} is the file with the sign-ups: name another one for the rejected rows")
    with ExitStack() as stack:
        report = stack.enter_context(_rejections(rejected))
        console.print("Starting PostgreSQL and Secrets Manager on this machine ...")
        server = stack.enter_context(LocalPostgres(embedded_binaries()))
        secrets_manager = stack.enter_context(LocalSecretsManager())
        arn = _set_up(server, secrets_manager)
        revision = schema.upgrade(get_db())
        console.print(f"PostgreSQL {get_db().ping().server_version}, schema at revision {revision}")
        get_db().dispose()

        tally = Tally()
        started = time.monotonic()
        for position, row in enumerate(_with_progress(console, rows)):
            if position == len(rows) // 2:
                _rotate(server, secrets_manager, arn)
                tally.counts["password changed"] += 1
            _handle(row, tally, report)
        tally.seconds = time.monotonic() - started
        tally.counts["delivered"] = _deliver()

        _print_summary(console, len(rows), tally, secrets_manager, rejected)
        if keep:
            _wait(console, server, stack)
        else:
            console.print("To look at the rows with psql, run it again with --keep (make demo ARGS=--keep).")
        get_db().dispose()
    return tally.failed.total()


def _set_up(server: LocalPostgres, secrets_manager: LocalSecretsManager) -> str:
    """Make the database, its login and the secret, and the environment that a Lambda would find."""
    password = secrets.token_urlsafe(24)
    server.address.create_login(_LOGIN, password)
    server.address.create_database(_DATABASE, owner=_LOGIN)
    arn = secrets_manager.create("registration/app", {"username": _LOGIN, "password": password})
    os.environ.update(
        secrets_manager.environment,
        APP_ENVIRONMENT="local",
        APP_DATABASE_HOST=server.address.host,
        APP_DATABASE_PORT=str(server.address.port),
        APP_DATABASE_NAME=_DATABASE,
        APP_DATABASE_SECRET_ARN=arn,
        APP_DATABASE_SSLMODE="disable",  # the embedded server is built without TLS
        APP_DATABASE_POOL="lambda",
    )
    return arn


def _deliver() -> int:
    """Hand the messages of the outbox to a service that does nothing with them; return how many there were."""
    worker = OutboxWorker(get_db(), lambda _message: None, batch=100)
    while worker.run_once():
        pass
    return worker.counts["delivered"]


def _rotate(server: LocalPostgres, secrets_manager: LocalSecretsManager, arn: str) -> None:
    """Change the password and the secret, as every 30 days, and close the connection, as when a Lambda is recycled."""
    password = secrets.token_urlsafe(24)
    server.address.create_login(_LOGIN, password)
    secrets_manager.put(arn, {"username": _LOGIN, "password": password})
    get_db().dispose()


def _handle(row: SignupRow, tally: Tally, report: "Rejections") -> None:
    """Take one person through the whole way; whatever keeps them from it is counted and written down."""
    try:
        outcome = _register(row.signup())
        if not isinstance(outcome, Registered):
            tally.counts["replayed"] += 1
            return
        tally.counts["registered"] += 1
        number = tally.counts["registered"]
        if number % _ASKS_AGAIN == 0:
            _ask_again(outcome.registration.id, tally)
        if number % _NEVER_VERIFIES:
            proven = _prove_by_code if number % _TYPES_A_CODE == 0 else _prove_by_link
            _finish(proven(outcome, tally), tally)
    except (InvalidInput, IdempotencyConflict) as error:
        tally.rejected[str(error)] += 1
        report.add(row, str(error))
    except (RegistrationPersistenceError, SQLAlchemyError) as error:
        tally.failed[type(error).__name__] += 1
        report.add(row, f"failed: {error}")


def _register(signup: Signup) -> RegisterOutcome:
    with session_scope(autocommit=True) as session:
        return RegistrationRepository(session).register(
            signup.email, profile=signup.profile, consents=signup.consents, idempotency_key=signup.idempotency_key
        )


def _ask_again(registration_id: UUID, tally: Tally) -> None:
    with session_scope(autocommit=True) as session:
        outcome = VerificationRepository(session).issue_token(registration_id)
    tally.counts["resend throttled"] += isinstance(outcome, Throttled)


def _prove_by_link(registered: Registered, tally: Tally) -> Registration | None:
    with session_scope(autocommit=True) as session:
        return _proven(VerificationRepository(session).verify_by_token(registered.token), tally)


def _prove_by_code(registered: Registered, tally: Tally) -> Registration | None:
    """Type a wrong code, then the right one; the repository counts the first in a transaction of its own."""
    identity = registered.registration.id
    with session_scope(autocommit=True) as session:
        verification = VerificationRepository(session, peppers=_PEPPERS)
        issued = verification.issue_code(identity, min_gap=timedelta(0))
        assert isinstance(issued, Issued)
        mistyped = issued.secret[:-1] + str((int(issued.secret[-1]) + 1) % 10)
        tally.counts["wrong code"] += isinstance(verification.verify_by_code(identity, mistyped), WrongCode)
        return _proven(verification.verify_by_code(identity, issued.secret), tally)


def _proven(outcome: CodeOutcome, tally: Tally) -> Registration | None:
    if not isinstance(outcome, Verified):
        tally.counts["mailbox taken"] += 1
        return None
    tally.counts["verified"] += 1
    return outcome.registration


def _finish(registration: Registration | None, tally: Tally) -> None:
    if registration is None or tally.counts["verified"] % _NEVER_ACTIVATES == 0:
        return
    with session_scope(autocommit=True) as session:
        RegistrationRepository(session).activate(registration.id, expected_version=registration.version)
        tally.counts["activated"] += 1
        if tally.counts["activated"] % _LEAVES == 0:
            tally.counts["erased"] += PrivacyRepository(session).erase(registration.id).changed


class Rejections:
    """The file with the rows that could not be registered."""

    def __init__(self, lines: "_csv.Writer") -> None:
        self._lines = lines

    def add(self, row: SignupRow, reason: str) -> None:
        """Write one row, with the line it stood on and why it was rejected."""
        self._lines.writerow([row.line, reason, *row.values])


@contextmanager
def _rejections(file: Path) -> Iterator[Rejections]:
    try:
        handle = file.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise UnreadableFile(f"cannot write {file}: {error.strerror}") from error
    with handle:
        lines = csv.writer(handle)
        lines.writerow(["line", "reason", *HEADER])
        yield Rejections(lines)


def _with_progress(console: Console, rows: Sequence[SignupRow]) -> Iterator[SignupRow]:
    columns = (TextColumn("Registering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(rows)


def _print_summary(
    console: Console, rows: int, tally: Tally, secrets_manager: LocalSecretsManager, rejected: Path
) -> None:
    calls = secrets_manager.calls
    sections: tuple[list[tuple[str, str, int | str]], ...] = (
        [
            ("registered", "new, one statement each", tally.counts["registered"]),
            ("replayed", "the same form sent again: nothing changed", tally.counts["replayed"]),
            ("verified", "mailbox proven, by the link or by a code", tally.counts["verified"]),
            ("mailbox taken", "somebody else had proven it", tally.counts["mailbox taken"]),
            ("activated", "the whole way", tally.counts["activated"]),
            ("erased", "left: nothing of the person is held any more", tally.counts["erased"]),
        ],
        [
            ("resend throttled", "asked for another mail within a minute", tally.counts["resend throttled"]),
            ("wrong code", "counted, and the right one taken afterwards", tally.counts["wrong code"]),
            ("delivered", "messages of the outbox, each one then removed", tally.counts["delivered"]),
        ],
        [("rejected", reason, number) for reason, number in tally.rejected.most_common(_REASONS)],
        [
            ("password changed", "halfway, with its secret", tally.counts["password changed"]),
            ("login rejected", "and repeated with the new password", get_db().events.count("login_rejected")),
            ("Secrets Manager", "calls: " + ", ".join(sorted(calls)), calls.total()),
            ("failed", ", ".join(tally.failed) or "no request did", tally.failed.total()),
            ("throughput", "sign-ups per second", f"{rows / max(tally.seconds, 0.001):.0f}"),
        ],
    )
    table = Table("outcome", "what it means", Column("number", justify="right"), box=SIMPLE_HEAD)
    for section in sections:
        for line in section:
            table.add_row(*map(str, line))
        table.add_section()
    console.print(f"{rows} sign-ups in {tally.seconds:.1f} s", table)
    if written := tally.rejected.total() + tally.failed.total():
        console.print(f"{written} rows, with line and reason, are in {rejected}", soft_wrap=True)


def _wait(console: Console, server: LocalPostgres, stack: ExitStack) -> None:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="registration-psql-")))
    passfile = folder / "pgpass"
    address = server.address
    passfile.touch(mode=0o600)
    passfile.write_text(f"{address.host}:{address.port}:*:{address.user}:{address.password}\n")
    console.print("Look at the rows in another terminal, for example:")
    login = f"-h {address.host} -p {address.port} -U {address.user} -d {_DATABASE}"
    print(f"  PGPASSFILE={passfile} {server.psql} {login} -c '{_QUESTION}'")
    console.print("Press Enter to stop the server.")
    if not sys.stdin.readline():
        threading.Event().wait()
