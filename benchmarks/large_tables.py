"""Compares look-ups, sign-ups and expiry in a database with 10,000 registrations with the same calls in a large one.

The number of buffers that a call reads is exact on every machine. It grows by one for each B-tree that has one level
more in the large database. The times are measured in turn in the small database, in the large one, and in the small one
again; each second ratio, "again", shows how much of the first one is noise. Rows that were never read would measure the
disk: of the four buffers of `get`, two are then not in the cache of the server. So each row is read once before.

Run it with `python benchmarks/large_tables.py`, or with `--rows 1000000`. A million registrations, with their tokens,
consents and events, need 1.5 GB in the temporary folder, and 10 million 15 GB. Storing a million took nine minutes on
a busy machine with two cores.
"""

import argparse
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import mean, quantiles
from uuid import UUID

from large_tables_rows import OVERDUE, email_of, fill
from local_database import create_migrated_database
from sqlalchemy import text
from sqlalchemy.orm import Session

from registration_persistence import Consent, Database, RegistrationRepository, Retention
from registration_persistence.sandbox import LocalPostgres, PostgresServer, embedded_binaries

SMALL_ROWS = 10_000
_BATCH = 100
_COUNTED_CALLS = 20
_EXPIRIES = OVERDUE // _BATCH // 2  # the small database is measured twice
_CONSENTS = [Consent("terms", "2026-01"), Consent("newsletter", "2026-01")]

# The number of buffers of tables and indexes of the package that this transaction has read so far.
_BUFFERS = """
SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) FROM pg_class
WHERE relnamespace = CAST('public' AS regnamespace) AND relkind IN ('r', 'i')
"""

Call = Callable[[Session], object]


class FilledDatabase:
    """A database with registrations, and the calls to measure.

    Args:
        server: The server.
        name: The name of the database.
        rows: The number of registrations.
        calls: The number of calls of each kind.
    """

    def __init__(self, server: PostgresServer, name: str, rows: int, calls: int) -> None:
        settings = create_migrated_database(server, name)
        began = time.perf_counter()
        fill(server, settings, rows)
        self.database = Database(settings)
        with self.database.session() as session:
            size = session.scalar(text("SELECT pg_size_pretty(pg_database_size(current_database()))"))
        print(f"{rows} registrations, {size}, stored in {time.perf_counter() - began:.0f} s", flush=True)
        chosen = random.Random(rows)  # noqa: S311 a sample
        self.emails = [email_of(20 * chosen.randrange(rows // 20) + 1) for _ in range(calls)]
        self.ids: list[UUID] = [self._id_of(email) for email in self.emails]
        self._sign_ups = 0

    def _id_of(self, email: str) -> UUID:
        with self.database.session(autocommit=True) as session:
            found = RegistrationRepository(session).find_by_email(email)
            assert found is not None
            RegistrationRepository(session).get(found.id)
        return found.id

    def calls(self, number: int) -> Mapping[str, Call]:
        """Return the calls with the number *number* of the sample."""
        at = number % len(self.ids)
        self._sign_ups += 1
        new = f"new-{self._sign_ups}@example.org"
        return {
            "get by id": lambda session: RegistrationRepository(session).get(self.ids[at]),
            "find by mailbox": lambda session: RegistrationRepository(session).find_by_email(self.emails[at]),
            "find an unknown mailbox": lambda session: RegistrationRepository(session).find_by_email(new),
            "register": lambda session: RegistrationRepository(session).register(
                new, idempotency_key=new, consents=_CONSENTS
            ),
            f"expire {_BATCH}": lambda session: Retention(session).expire_due(_BATCH),
        }

    def buffers(self, number: int) -> dict[str, int]:
        """Return how many buffers each call reads, in transactions that are rolled back."""
        read = {}
        for name, call in self.calls(number).items():
            with self.database.session() as session:
                before = session.scalar(text(_BUFFERS))
                call(session)
                read[name] = int(session.scalar(text(_BUFFERS)) - before)
                session.rollback()
        return read

    def seconds(self, name: str, number: int) -> float:
        """Make one call, and return its time."""
        call = self.calls(number)[name]
        began = time.perf_counter()
        with self.database.session(autocommit=True) as session:
            call(session)
        return time.perf_counter() - began


@dataclass(frozen=True)
class Comparison:
    """The calls of one kind.

    Attributes:
        name: The call.
        buffers: The mean number of buffers that a call reads in the small database, and in the large one.
        p50: The median of the times in seconds: in the small database, in the large one, and in the small one again.
        p99: The 99th percentile of these times.
    """

    name: str
    buffers: tuple[float, float]
    p50: tuple[float, float, float]
    p99: tuple[float, float, float]


def compare(small: FilledDatabase, large: FilledDatabase, calls: int) -> Iterator[Comparison]:
    """Make *calls* calls of each kind in each database; fewer of those that expire a batch."""
    counted = [[one.buffers(number) for number in range(_COUNTED_CALLS)] for one in (small, large)]
    for name in small.calls(0):
        few, many = (mean(read[name] for read in of_one) for of_one in counted)
        times: tuple[list[float], ...] = ([], [], [])
        for number in range(min(calls, _EXPIRIES if name.startswith("expire") else calls)):
            for place, one in zip(times, (small, large, small), strict=True):
                place.append(one.seconds(name, number))
        first, second, again = (quantiles(of_one, n=100, method="inclusive") for of_one in times)
        p50, p99 = ((first[at], second[at], again[at]) for at in (49, 98))
        yield Comparison(name, (few, many), p50, p99)


def print_line(compared: Comparison) -> None:
    """Print a line."""
    (few, many), p50, p99 = compared.buffers, compared.p50, compared.p99
    print(
        f"{compared.name:24} {few:14.1f} {many:6.1f} {many / few:6.2f} {1000 * p50[0]:16.2f} {1000 * p50[1]:6.2f}"
        f" {p50[1] / p50[0]:6.2f} {p50[2] / p50[0]:6.2f} {p99[1] / p99[0]:12.2f} {p99[2] / p99[0]:6.2f}",
        flush=True,
    )


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000, help="registrations (default: 10 million)")
    parser.add_argument("--calls", type=int, default=1000, help="calls of each kind (default: 1000)")
    parser.add_argument("--shared-buffers", default="4GB", help="cache of the server (default: 4GB)")
    options = parser.parse_args()
    settings = {"shared_buffers": options.shared_buffers, "max_wal_size": "512MB", "wal_level": "minimal"}
    settings |= {"max_wal_senders": "0", "autovacuum": "off"}
    with LocalPostgres(embedded_binaries(), settings=settings) as server:
        small, large = (
            FilledDatabase(server.server, name, rows, options.calls)
            for name, rows in (("small", SMALL_ROWS), ("large", options.rows))
        )
        print(f"{'buffers, small':>39}  large  ratio    p50 ms, small  large  ratio  again    p99 ratio  again")
        for compared in compare(small, large, options.calls):
            print_line(compared)
        for one in (small, large):
            one.database.dispose()


if __name__ == "__main__":
    main()
