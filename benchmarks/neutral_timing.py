"""Measures whether the time of `register` and `find_by_email` reveals what is known about a mailbox, on this machine.

The kinds of mailboxes take turns in one run, in an order that changes each time, and the ratio is that of their medians
to the median of a mailbox that is unknown. A ratio from 0.97 to 1.03 reveals nothing.

Run it with `python benchmarks/neutral_timing.py`, or with `--calls 2000`.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from itertools import count

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


def addresses(kind: str, number: int) -> list[str]:
    """Return *number* addresses of one length."""
    return [f"{kind.replace(' ', '-'):->13}.{next(_NUMBERS):08}@example.com" for _ in range(number)]


def prepare(session: Session, kind: str, mailboxes: list[str]) -> None:
    """Store the registrations that the mailboxes of this kind have."""
    pending = {"unknown": 0, "pending": 1, "verified": 0, "limit reached": _MAX_PENDING}[kind]
    rows = [ImportRow(mailbox, "pending") for mailbox in mailboxes for _ in range(pending)]
    rows += [ImportRow(mailbox, "active") for mailbox in mailboxes if kind == "verified"]
    bulk_import(session, rows)


def register(session: Session, mailbox: str) -> object:
    """Sign up with no limit."""
    return RegistrationRepository(session).register(mailbox)


def register_with_limit(session: Session, mailbox: str) -> object:
    """Sign up with a limit."""
    return RegistrationRepository(session).register(mailbox, max_pending=_MAX_PENDING)


def find(session: Session, mailbox: str) -> object:
    """Look the mailbox up."""
    return RegistrationRepository(session).find_by_email(mailbox)


def measured(database: Database, call: Callable[[Session, str], object], calls: int) -> Mapping[str, list[float]]:
    """Return the seconds of *calls* calls for each kind of mailbox."""
    every = {kind: addresses(kind, calls + _WARM_UP_CALLS) for kind in _KINDS}
    with database.session() as session:
        for kind, mailboxes in every.items():
            prepare(session, kind, mailboxes)
    with database.session(autocommit=True) as session:
        session.execute(text("VACUUM ANALYZE"))
    times: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    for position in range(calls + _WARM_UP_CALLS):
        for kind in random.sample(_KINDS, len(_KINDS)):
            with database.session(autocommit=True) as session:
                started = time.perf_counter()
                outcome = call(session, every[kind][position])
                elapsed = time.perf_counter() - started
            refused = call is register_with_limit and kind == "limit reached"
            if call is not find and type(outcome) is not (TooManyPending if refused else Registered):
                raise SystemExit(f"a mailbox that is {kind} got {type(outcome).__name__}")
            if position >= _WARM_UP_CALLS:
                times[kind].append(elapsed)
    return times


def main() -> int:
    """Start a server, create a database, and print the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=500, help="calls for each kind of mailbox (default: 500)")
    calls = parser.parse_args().calls
    print(f"{f'medians of {calls} calls':<34}{'µs':>10}{'ratio':>8}")
    with LocalPostgres(embedded_binaries()) as server:
        database = Database(create_migrated_database(server.server))
        for name, call in {
            "register": register,
            "register, max_pending": register_with_limit,
            "find_by_email": find,
        }.items():
            times = {kind: statistics.median(seconds) for kind, seconds in measured(database, call, calls).items()}
            for kind, median in times.items():
                print(f"{name + ', ' + kind:<34}{median * 1e6:>10.0f}{median / times['unknown']:>8.3f}")
        database.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
