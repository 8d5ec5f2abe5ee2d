"""Part `timing`: whether the time of `register` and `find_by_email` reveals what is known about a mailbox.

The kinds of mailboxes take turns in one run, in an order that changes each time, and each ratio is that of a median to
the median of the mailboxes that are unknown. A ratio from 0.97 to 1.03 reveals nothing. If the machine is busy, the
elapsed time varies more than that; the time on the processor, of client and server together, does not.

It runs on Linux only.
"""

import random
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from local_database import create_migrated_database
from measurements import Measurement
from sqlalchemy import text
from sqlalchemy.orm import Session

from registration_persistence import Database, ImportRow, RegistrationRepository, bulk_import
from registration_persistence.outcomes import Registered, TooManyPending
from registration_persistence.sandbox import LocalPostgres, embedded_binaries

_KINDS = ("unknown", "pending", "verified", "limit reached")
_MAX_PENDING = 5
_WARM_UP_CALLS = 50
_NUMBERS = count()

Call = Callable[[Session, str], object]
Times = list[tuple[float, float]]
"""The seconds that elapsed, and the seconds on the processor, of each call."""


def register(session: Session, mailbox: str) -> object:
    """Sign up without a limit."""
    return RegistrationRepository(session).register(mailbox)


def register_with_limit(session: Session, mailbox: str) -> object:
    """Sign up with a limit."""
    return RegistrationRepository(session).register(mailbox, max_pending=_MAX_PENDING)


def find_by_email(session: Session, mailbox: str) -> object:
    """Look the mailbox up."""
    return RegistrationRepository(session).find_by_email(mailbox)


def stored_mailboxes(session: Session, kind: str, number: int) -> list[str]:
    """Return *number* mailboxes with addresses of one length, whose registrations are stored."""
    mailboxes = [f"{kind.replace(' ', '-'):->13}.{next(_NUMBERS):08}@example.com" for _ in range(number)]
    statuses = {"pending": ["pending"], "verified": ["active"], "limit reached": ["pending"] * _MAX_PENDING}
    bulk_import(session, [ImportRow(mailbox, status) for mailbox in mailboxes for status in statuses.get(kind, [])])
    return mailboxes


def timed(call: Call, session: Session, mailbox: str, server: Path) -> tuple[tuple[float, float], object]:
    """Return the two times of a call, and its result; *server* counts the nanoseconds of the server's process."""
    before, started, on_processor = int(server.read_text().split()[0]), time.perf_counter(), time.thread_time()
    outcome = call(session, mailbox)
    on_processor, elapsed = time.thread_time() - on_processor, time.perf_counter() - started
    return (elapsed, on_processor + (int(server.read_text().split()[0]) - before) / 1e9), outcome


def _times_of(database: Database, call: Call, calls: int) -> dict[str, Times]:
    """Return the times of *calls* calls for each kind of mailbox."""
    with database.session() as session:
        mailboxes = {kind: stored_mailboxes(session, kind, calls + _WARM_UP_CALLS) for kind in _KINDS}
    times: dict[str, Times] = {kind: [] for kind in _KINDS}
    with database.session(autocommit=True) as session:
        session.execute(text("VACUUM ANALYZE"))
        server = Path(f"/proc/{session.scalar(text('SELECT pg_backend_pid()'))}/schedstat")
        for position in range(calls + _WARM_UP_CALLS):
            for kind in random.sample(_KINDS, len(_KINDS)):
                both, outcome = timed(call, session, mailboxes[kind][position], server)
                refused = call is register_with_limit and kind == "limit reached"
                if call is not find_by_email and not isinstance(outcome, TooManyPending if refused else Registered):
                    raise SystemExit(f"a mailbox of the kind {kind} got {type(outcome).__name__}")
                if position >= _WARM_UP_CALLS:
                    times[kind].append(both)
    return times


def measure(calls: int) -> tuple[list[Measurement], list[str]]:
    """Return the times of each method for each kind of mailbox, and the version of the server."""
    measurements = []
    with LocalPostgres(embedded_binaries()) as server:
        database = Database(create_migrated_database(server.server))
        for call in (register, register_with_limit, find_by_email):
            name = call.__name__
            elapsed = Measurement(f"{name}_elapsed", f"Elapsed time of {name}", "µs", exact=False, base="unknown")
            processor = Measurement(f"{name}_processor", f"Processor time of {name}", "µs", exact=False, base="unknown")
            for kind, times in _times_of(database, call, calls).items():
                for both in times:
                    elapsed.add(kind, both[0] * 1e6)
                    processor.add(kind, both[1] * 1e6)
            measurements += [elapsed, processor]
        database.dispose()
    return measurements, ["PostgreSQL 18 without TLS"]
