"""Expiring and purging registrations in batches, and with separate statements for each row, on this machine."""

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from local_database import migrated
from naive_service import new_id
from sqlalchemy import func, insert, select, text, update

from registration_persistence import Database, Retention
from registration_persistence.models import OutboxRow, RegistrationEventRow, RegistrationRow
from registration_persistence.sandbox import LocalPostgres, embedded_binaries

ROWS = 100_000
ROWS_ONE_BY_ONE = 2000
BATCH = 1000

OVERDUE = (
    """
INSERT INTO registrations (id, email, email_key, email_key_rev, status, tokens_issued, created_at, expires_at)
SELECT gen_random_uuid(), number || '@example.com', number || '@example.com', 1, 'pending', 1,
       now() - interval '8 days', now() - number * interval '1 s'
FROM generate_series(1, :rows) AS number
""",
    """
INSERT INTO verification_tokens (id, registration_id, purpose, secret_hash, hash_key_id, created_at, expires_at)
SELECT gen_random_uuid(), id, 'verify_email', sha256(uuid_send(id)), 0, created_at, created_at + interval '1 day'
FROM registrations
""",
    """
INSERT INTO registration_consents (registration_id, purpose, id, document_version, granted, source)
SELECT id, 'terms', gen_random_uuid(), '2026-01', true, 'web' FROM registrations
""",
    """
INSERT INTO registration_events (registration_id, seq, id, type, actor, occurred_at)
SELECT id, 1, gen_random_uuid(), 'registered', 'user', created_at FROM registrations
""",
    "ANALYZE registrations, verification_tokens, registration_consents, registration_events, outbox",
)


def expire_in_batches(database: Database) -> int:
    """Expire with this package: one statement for each batch."""
    return until_done(database, lambda retention: retention.expire_due(BATCH))


def purge_in_batches(database: Database) -> int:
    """Delete the expired registrations, with tokens and consents."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    return until_done(database, lambda retention: retention.purge_closed(soon, BATCH))


def until_done(database: Database, work: Callable[[Retention], int]) -> int:
    """Process batches until none is left."""
    done = 0
    with database.session(autocommit=True) as session:
        while number := work(Retention(session)):
            done += number
    return done


def expire_one_by_one(database: Database) -> int:
    """Expire the same rows with one statement for each table and registration, and one transaction for each batch."""
    done = 0
    while number := _one_by_one(database):
        done += number
    return done


def _one_by_one(database: Database) -> int:
    now = func.statement_timestamp()
    with database.session() as session:
        due = session.execute(
            select(RegistrationRow.id, RegistrationRow.version)
            .where(RegistrationRow.status.in_(["pending", "verified"]), RegistrationRow.expires_at <= now)
            .order_by(RegistrationRow.expires_at)
            .limit(BATCH)
            .with_for_update(key_share=True, skip_locked=True)
        ).all()
        for identity, version in due:
            event = new_id()
            session.execute(
                update(RegistrationRow)
                .where(RegistrationRow.id == identity)
                .values(
                    status="expired",
                    version=version + 1,
                    updated_at=now,
                    closed_at=now,
                    close_reason="ttl",
                    expires_at=None,
                )
                .execution_options(synchronize_session=False)
            )
            session.execute(
                insert(RegistrationEventRow).values(
                    registration_id=identity, seq=version + 1, id=event, type="expired", actor="system"
                )
            )
            session.execute(
                insert(OutboxRow).values(
                    event_id=event,
                    registration_id=identity,
                    type="registration.expired",
                    payload={"seq": version + 1},
                )
            )
    return len(due)


def rate(database: Database, rows: int, *works: Callable[[Database], int]) -> list[float]:
    """Create *rows* lapsed registrations, and return the rows per second of each of *works*."""
    with database.session() as session:
        session.execute(text("TRUNCATE registrations, registration_events, outbox CASCADE"))
        for statement in OVERDUE:
            session.execute(text(statement), {"rows": rows} if ":rows" in statement else {})
    rates = []
    for work in works:
        started = time.perf_counter()
        done = work(database)
        rates.append(done / (time.perf_counter() - started))
        if done != rows:
            raise RuntimeError(f"{done} of {rows} rows were done")
    return rates


def measure(database: Database, rows: int) -> None:
    """Print the rows per second, and the ratio of the two ways to expire."""
    (alone,) = rate(database, ROWS_ONE_BY_ONE, expire_one_by_one)
    expiring, purging = rate(database, rows, expire_in_batches, purge_in_batches)
    print(f"{f'batches of {BATCH:,}':<30}{'rows':>12}{'rows/s':>12}{'ratio':>8}   one round of each")
    print(f"{'expire':<30}{rows:>12,}{expiring:>12,.0f}{expiring / alone:>8.1f}   with events and messages")
    print(f"{'expire in separate statements':<30}{ROWS_ONE_BY_ONE:>12,}{alone:>12,.0f}{1:>8.1f}   the same")
    print(f"{'purge':<30}{rows:>12,}{purging:>12,.0f}{'':>8}   with tokens and consents")


def main() -> int:
    """Start a server, migrate, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="how many rows (default: %(default)s)")
    rows: int = parser.parse_args().rows
    with LocalPostgres(embedded_binaries()) as postgres:
        database = Database(migrated(postgres.server))
        measure(database, rows)
        database.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
