"""Compares `bulk_import` with `Session.add_all` of the same rows, on this machine.

Each run has its own process, so that its memory can be measured, and its own database. `add_all` makes fewer checks,
and does not get the duplicate rows, because it cannot skip them.
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

from local_database import create_migrated_database
from naive_service import EMAIL_KEY_REVISION, email_and_key, small_profile
from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from registration_persistence import Consent, Database, DatabaseSettings, ImportRow, bulk_import
from registration_persistence.models import RegistrationConsentRow, RegistrationEventRow, RegistrationRow
from registration_persistence.sandbox import LocalPostgres, PostgresServer, embedded_binaries

ROWS = 100_000
# The fastest size from 100 to 10,000.
ADD_ALL_CHUNK_ROWS = 200
# Of forty rows, the first has a mailbox that is verified already, and the twenty-first has that of the row before it.
CYCLE_ROWS, VERIFIED_PLACE, REPEATED_PLACE = 40, 0, 20
DOMAINS = 50
FIRST_SIGN_UP = datetime(2020, 1, 1, tzinfo=UTC)
KILOBYTES_PER_MEGABYTE = 1024

INSERT_VERIFIED_MAILBOXES = """
INSERT INTO registrations (id, email, email_key, email_key_rev, status, verified_at, activated_at)
SELECT gen_random_uuid(), address, address, 1, 'active', now(), now()
FROM generate_series(CAST(:first AS bigint), :rows - 1, :step) AS number,
     LATERAL (SELECT 'verified.' || number || '@example.com' AS address) AS made
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """The result of one run.

    Args:
        stored: The number of registrations that the run added.
        seconds: The duration of the run.
        megabytes: The peak of the resident memory, less the resident memory before the run. `None` if the operating
            system does not report it.
    """

    stored: int
    seconds: float
    megabytes: float | None


def people(rows: int) -> Iterator[tuple[ImportRow, bool]]:
    """Yield a row for each person, and whether its mailbox is a duplicate."""
    for number in range(rows):
        place = number % CYCLE_ROWS
        who = number - 1 if place == REPEATED_PLACE else number
        is_verified = place == VERIFIED_PLACE
        address = f"verified.{who}@example.com" if is_verified else f"person.{who}@example{who % DOMAINS}.com"
        row = ImportRow(
            address,
            profile={"display_name": f"Person {number}", "language": "en"},
            consents=(Consent("terms", "2026-01", source="import"),),
            registered_at=FIRST_SIGN_UP + timedelta(minutes=number),
        )
        yield row, place in {VERIFIED_PLACE, REPEATED_PLACE}


def with_bulk_import(session: Session, rows: int) -> int:
    """Import the rows with this package."""
    return bulk_import(session, (row for row, _ in people(rows))).inserted


def with_add_all(session: Session, rows: int) -> int:
    """Add the same rows as objects, all at once."""
    return add(session, rows, chunk_rows=rows)


def with_add_all_in_chunks(session: Session, rows: int) -> int:
    """Add the same rows as objects, in chunks of the fastest size."""
    return add(session, rows, chunk_rows=ADD_ALL_CHUNK_ROWS)


def add(session: Session, rows: int, *, chunk_rows: int) -> int:
    """Add the rows as objects in chunks of *chunk_rows*, and return the number of registrations."""
    stored = 0
    given = (row for row, is_duplicate in people(rows) if not is_duplicate)
    while chunk := list(islice(given, chunk_rows)):
        registrations = [registration_of(row) for row in chunk]
        session.add_all(registrations)
        session.flush()  # the models have no relationships, so the session does not know that these rows come first
        session.add_all(detail for pair in zip(registrations, chunk, strict=True) for detail in details_of(*pair))
        session.flush()
        session.expunge_all()
        stored += len(chunk)
    return stored


def registration_of(row: ImportRow) -> RegistrationRow:
    """Check *row*, and return its registration."""
    email, email_key = email_and_key(row.email)
    return RegistrationRow(
        id=uuid7(),
        email=email,
        email_key=email_key,
        email_key_rev=EMAIL_KEY_REVISION,
        status=str(row.status),
        profile=small_profile(row.profile),
        created_at=row.registered_at,
        verified_at=row.registered_at,
        activated_at=row.registered_at,
    )


def details_of(
    registration: RegistrationRow, row: ImportRow
) -> Iterator[RegistrationConsentRow | RegistrationEventRow]:
    """Yield the consents and the event of *registration*."""
    for consent in row.consents:
        yield RegistrationConsentRow(
            id=uuid7(), registration_id=registration.id, recorded_at=row.registered_at, **dataclasses.asdict(consent)
        )
    yield RegistrationEventRow(
        registration_id=registration.id,
        seq=1,
        id=uuid7(),
        type="imported",
        data={"status": str(row.status), "consents": [consent.purpose for consent in row.consents]},
        actor="system",
    )


VARIANTS: dict[str, Callable[[Session, int], int]] = {
    "import": with_bulk_import,
    "add_all": with_add_all,
    "add_all in chunks": with_add_all_in_chunks,
}


def run(name: str, rows: int, settings: DatabaseSettings) -> Result:
    """Run one variant in this process, in one transaction."""
    database = Database(settings)
    with database.session() as session:
        session.connection()
        before = resident_megabytes("VmRSS")
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # reset the peak, VmHWM
        started = time.perf_counter()
        stored = VARIANTS[name](session, rows)
        session.commit()
        seconds = time.perf_counter() - started
        peak = resident_megabytes("VmHWM")
    database.dispose()
    return Result(stored, seconds, None if before is None or peak is None else peak - before)


def resident_megabytes(name: str) -> float | None:
    """Return the line *name* of the memory statistics of this process; `None` if there are none."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / KILOBYTES_PER_MEGABYTE
    return None


def create_template(server: PostgresServer, name: str, rows: int) -> DatabaseSettings:
    """Create a database in which some mailboxes are verified, and return its settings."""
    settings = create_migrated_database(server, name)
    database = Database(settings)
    with database.session() as session:
        session.execute(text(INSERT_VERIFIED_MAILBOXES), {"first": VERIFIED_PLACE, "rows": rows, "step": CYCLE_ROWS})
    database.dispose()
    return settings


def measure(server: PostgresServer, template: DatabaseSettings, order: list[str], rows: int) -> None:
    """Print the rows per second and the memory of each variant, and how many times slower than the import it is."""
    results: dict[str, list[Result]] = {name: [] for name in order}
    context = get_context("spawn")
    for number, name in enumerate(order):
        settings = dataclasses.replace(template, name=f"run_{number}")
        server.create_database(settings.name, template=template.name)
        with ProcessPoolExecutor(1, mp_context=context) as process:
            results[name].append(process.submit(run, name, rows, settings).result())
        server.drop_database(settings.name)
    rates = {name: statistics.mean(done.stored / done.seconds for done in runs) for name, runs in results.items()}
    heading = f"{f'{rows:,} rows':<30}{'stored':>12}{'rows/s':>12}{'extra MB':>10}{'slower':>8}"
    print(f"{heading}   order: {', '.join(order)}")
    for name, runs in results.items():
        known = [done.megabytes for done in runs if done.megabytes is not None]
        memory = f"{max(known):.1f}" if known else "unknown"
        ratio = f"{rates['import'] / rates[name]:.1f}" if "import" in rates else ""
        print(f"{name:<30}{runs[0].stored:>12,}{rates[name]:>12,.0f}{memory:>10}{ratio:>8}")


def main() -> int:
    """Start a server, create a database, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="number of rows (default: %(default)s)")
    parser.add_argument("--only", choices=VARIANTS, help="measure only this variant")
    parser.add_argument("--chunks", action="store_true", help="also measure add_all in chunks of the fastest size")
    arguments = parser.parse_args()
    # add_all is slow, so it runs only once.
    order = [arguments.only] if arguments.only else ["import", "add_all", "import"]
    if arguments.chunks:
        order.append("add_all in chunks")
    with LocalPostgres(embedded_binaries()) as server:
        template = create_template(server.server, "template", arguments.rows)
        measure(server.server, template, order, arguments.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
