"""Measures whether the time of `register` and `find_by_email` reveals what is known about a mailbox, on this machine.

The kinds of mailboxes take turns in one run, in an order that changes each time, and each ratio is that of a median to
the median of the mailboxes that are unknown. A ratio from 0.97 to 1.03 reveals nothing. If the machine is busy, the
elapsed time varies more than that; the time on the processor, of client and server together, does not.

Run it on Linux with `python benchmarks/neutral_timing.py`, or with `--calls 2000`.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median

from local_database import create_migrated_database
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


def measure(database: Database, call: Call, calls: int) -> dict[str, Times]:
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


def main() -> int:
    """Start a server, create a database, and print the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=500, help="calls for each kind of mailbox (default: 500)")
    calls = parser.parse_args().calls
    print(f"{f'medians of {calls} calls':<36}{'elapsed µs':>12}{'ratio':>8}{'processor µs':>14}{'ratio':>8}")
    with LocalPostgres(embedded_binaries()) as server:
        database = Database(create_migrated_database(server.server))
        for call in (register, register_with_limit, find_by_email):
            medians = {
                kind: [median(values) for values in zip(*times, strict=True)]
                for kind, times in measure(database, call, calls).items()
            }
            for kind, (elapsed, processor) in medians.items():
                ratios = [elapsed / medians["unknown"][0], processor / medians["unknown"][1]]
                name = f"{call.__name__}, {kind}"
                print(f"{name:<36}{elapsed * 1e6:>12.0f}{ratios[0]:>8.3f}{processor * 1e6:>14.0f}{ratios[1]:>8.3f}")
        database.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
