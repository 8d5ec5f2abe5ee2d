"""`bulk_import` and `Session.add_all` of the same rows, side by side, on this machine.

Each runs in a process and a database of its own, so that its memory can be measured. `add_all` does not receive the
rows that conflict, because it cannot skip them, and its rows are checked less.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from local_database import migrated
from naive_service import KEY_REVISION, mailbox_key, new_id
from sqlalchemy import text
from sqlalchemy.orm import Session

from registration_persistence import Consent, Database, DatabaseSettings, ImportRow, bulk_import
from registration_persistence.models import RegistrationConsentRow, RegistrationEventRow, RegistrationRow
from registration_persistence.sandbox import LocalPostgres, PostgresServer, embedded_binaries

ROWS = 100_000
# The fastest size of a chunk for `add_all`, of 100 to 10,000.
FASTEST_CHUNK_ROWS = 200
# Of forty rows, one has a mailbox that was verified before, and one has the mailbox of the previous row.
CYCLE, VERIFIED, REPEATED = 40, 0, 20
DOMAINS = 50
FIRST = datetime(2020, 1, 1, tzinfo=UTC)
KILOBYTES = 1024

VERIFIED_BEFORE = """
INSERT INTO registrations (id, email, email_key, email_key_rev, status, verified_at, activated_at)
SELECT gen_random_uuid(), address, address, 1, 'active', now(), now()
FROM generate_series(CAST(:first AS bigint), :rows - 1, :step) AS number,
     LATERAL (SELECT 'verified.' || number || '@example.com' AS address) AS made
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """The result of one run.

    Args:
        stored: The number of registrations that were added.
        seconds: The duration.
        megabytes: The peak of the resident memory minus its value before; `None` if the system does not report it.
    """

    stored: int
    seconds: float
    megabytes: float | None


def people(rows: int) -> Iterator[tuple[ImportRow, bool]]:
    """Generate rows, each with whether its mailbox is taken."""
    for number in range(rows):
        place = number % CYCLE
        who = number - 1 if place == REPEATED else number
        address = f"verified.{who}@example.com" if place == VERIFIED else f"person.{who}@example{who % DOMAINS}.com"
        row = ImportRow(
            address,
            profile={"display_name": f"Person {number}", "language": "en"},
            consents=(Consent("terms", "2026-01", source="import"),),
            registered_at=FIRST + timedelta(minutes=number),
        )
        yield row, place in {VERIFIED, REPEATED}


def by_bulk_import(session: Session, rows: int) -> int:
    """Import the rows with this package."""
    return bulk_import(session, (row for row, _ in people(rows))).inserted


def by_add_all(session: Session, rows: int) -> int:
    """Add the same rows as objects, all at once."""
    return add(session, rows, chunk_rows=rows)


def by_add_all_in_chunks(session: Session, rows: int) -> int:
    """Add the same rows as objects, in chunks of the fastest size."""
    return add(session, rows, chunk_rows=FASTEST_CHUNK_ROWS)


def add(session: Session, rows: int, *, chunk_rows: int) -> int:
    """Add the rows as objects, *chunk_rows* at once."""
    stored = 0
    given = (row for row, taken in people(rows) if not taken)
    while chunk := list(islice(given, chunk_rows)):
        session.add_all(thing for row in chunk for thing in objects(row))
        session.flush()
        session.expunge_all()
        stored += len(chunk)
    return stored


def objects(row: ImportRow) -> Iterator[RegistrationRow | RegistrationConsentRow | RegistrationEventRow]:
    """Check *row*, and yield the objects for the rows that the import stores."""
    identity = new_id()
    yield RegistrationRow(
        id=identity,
        email=row.email,
        email_key=mailbox_key(row.email),
        email_key_rev=KEY_REVISION,
        status=str(row.status),
        profile=dict(row.profile),
        created_at=row.registered_at,
        verified_at=row.registered_at,
        activated_at=row.registered_at,
    )
    for consent in row.consents:
        yield RegistrationConsentRow(
            id=new_id(), registration_id=identity, recorded_at=row.registered_at, **dataclasses.asdict(consent)
        )
    yield RegistrationEventRow(
        registration_id=identity,
        seq=1,
        id=new_id(),
        type="imported",
        data={"status": str(row.status), "consents": [consent.purpose for consent in row.consents]},
        actor="system",
    )


VARIANTS: dict[str, Callable[[Session, int], int]] = {
    "import": by_bulk_import,
    "add_all": by_add_all,
    "add_all in chunks": by_add_all_in_chunks,
}


def run(name: str, rows: int, settings: DatabaseSettings) -> Result:
    """Run one variant in this process, in one transaction."""
    database = Database(settings)
    with database.session() as session:
        session.connection()
        before = resident("VmRSS")
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak
        started = time.perf_counter()
        stored = VARIANTS[name](session, rows)
        session.commit()
        seconds = time.perf_counter() - started
        peak = resident("VmHWM")
    database.dispose()
    return Result(stored, seconds, None if before is None or peak is None else peak - before)


def resident(name: str) -> float | None:
    """Return a figure of the memory of this process, in MB."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / KILOBYTES
    return None


def prepared(address: PostgresServer, name: str, rows: int) -> DatabaseSettings:
    """Create a database in which some mailboxes are verified, and return its settings."""
    settings = migrated(address, name)
    database = Database(settings)
    with database.session() as session:
        session.execute(text(VERIFIED_BEFORE), {"first": VERIFIED, "rows": rows, "step": CYCLE})
    database.dispose()
    return settings


def measure(address: PostgresServer, template: DatabaseSettings, order: list[str], rows: int) -> None:
    """Print the rows per second and the memory of each variant, and the ratio to the import."""
    results: dict[str, list[Result]] = {name: [] for name in order}
    context = get_context("spawn")
    for number, name in enumerate(order):
        settings = dataclasses.replace(template, name=f"run_{number}")
        address.create_database(settings.name, template=template.name)
        with ProcessPoolExecutor(1, mp_context=context) as process:
            results[name].append(process.submit(run, name, rows, settings).result())
        address.drop_database(settings.name)
    rates = {name: statistics.mean(done.stored / done.seconds for done in runs) for name, runs in results.items()}
    heading = f"{f'{rows:,} rows':<30}{'stored':>12}{'rows/s':>12}{'extra MB':>10}{'slower':>8}"
    print(f"{heading}   in turns: {', '.join(order)}")
    for name, runs in results.items():
        known = [done.megabytes for done in runs if done.megabytes is not None]
        memory = f"{max(known):.1f}" if known else "unknown"
        ratio = f"{rates['import'] / rates[name]:.1f}" if "import" in rates else ""
        print(f"{name:<30}{runs[0].stored:>12,}{rates[name]:>12,.0f}{memory:>10}{ratio:>8}")


def main() -> int:
    """Start a server, migrate, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="number of rows (default: %(default)s)")
    parser.add_argument("--only", choices=VARIANTS, help="measure only this variant")
    parser.add_argument("--chunks", action="store_true", help="also measure add_all in chunks of the fastest size")
    arguments = parser.parse_args()
    # `add_all` takes so long that it runs only once.
    order = [arguments.only] if arguments.only else ["import", "add_all", "import"]
    if arguments.chunks:
        order.append("add_all in chunks")
    with LocalPostgres(embedded_binaries()) as postgres:
        template = prepared(postgres.server, "template", arguments.rows)
        measure(postgres.server, template, order, arguments.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
