"""Part `expiry`: the expiry of registrations in batches, beside separate statements for each row."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from local_database import create_migrated_database
from measurements import Measurement
from sqlalchemy import func, insert, select, text, update
from uuid_utils.compat import uuid7

from registration_persistence import Database, Retention
from registration_persistence.models import OutboxRow, RegistrationEventRow, RegistrationRow
from registration_persistence.sandbox import LocalPostgres, embedded_binaries

ROWS_ONE_BY_ONE = 2000
BATCH_ROWS = 1000

INSERT_OVERDUE_ROWS = (
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
    """Expire all overdue registrations with this package: one statement for each batch."""
    return repeat_until_done(database, lambda retention: retention.expire_due(BATCH_ROWS))


def purge_in_batches(database: Database) -> int:
    """Delete all expired registrations with this package, including tokens and consents."""
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    return repeat_until_done(database, lambda retention: retention.purge_closed(in_an_hour, BATCH_ROWS))


def repeat_until_done(database: Database, batch: Callable[[Retention], int]) -> int:
    """Call *batch* until it has nothing to do, and return the number of rows."""
    done = 0
    with database.session(autocommit=True) as session:
        while number := batch(Retention(session)):
            done += number
    return done


def expire_one_by_one(database: Database) -> int:
    """Expire the same rows with a statement for each table and registration, in a transaction for each batch."""
    done = 0
    while number := expire_batch_one_by_one(database):
        done += number
    return done


def expire_batch_one_by_one(database: Database) -> int:
    """Expire up to `BATCH_ROWS` registrations, and return the number."""
    now = func.statement_timestamp()
    with database.session() as session:
        due = session.execute(
            select(RegistrationRow.id, RegistrationRow.version)
            .where(RegistrationRow.status.in_(["pending", "verified"]), RegistrationRow.expires_at <= now)
            .order_by(RegistrationRow.expires_at)
            .limit(BATCH_ROWS)
            .with_for_update(key_share=True, skip_locked=True)
        ).all()
        for registration_id, version in due:
            event_id = uuid7()
            session.execute(
                update(RegistrationRow)
                .where(RegistrationRow.id == registration_id)
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
                    registration_id=registration_id, seq=version + 1, id=event_id, type="expired", actor="system"
                )
            )
            session.execute(
                insert(OutboxRow).values(
                    event_id=event_id,
                    registration_id=registration_id,
                    type="registration.expired",
                    payload={"seq": version + 1},
                )
            )
    return len(due)


def rows_per_second(database: Database, rows: int, *works: Callable[[Database], int]) -> list[float]:
    """Insert *rows* overdue registrations, call the *works* one after the other, and return the rate of each."""
    with database.session() as session:
        session.execute(text("TRUNCATE registrations, registration_events, outbox CASCADE"))
        for statement in INSERT_OVERDUE_ROWS:
            session.execute(text(statement), {"rows": rows} if ":rows" in statement else {})
    rates = []
    for work in works:
        started = time.perf_counter()
        done = work(database)
        rates.append(done / (time.perf_counter() - started))
        if done != rows:
            raise RuntimeError(f"{done} rows were processed: expected {rows}")
    return rates


def measure(rows: int) -> tuple[list[Measurement], list[str]]:
    """Return the rows per second, and the version of the server."""
    measurement = Measurement(
        "rate",
        f"Retention of {rows:,} rows in batches of {BATCH_ROWS:,}",
        "rows/s",
        exact=False,
        better="higher",
        base="expire in separate statements",
    )
    with LocalPostgres(embedded_binaries()) as server:
        database = Database(create_migrated_database(server.server))
        (one_by_one,) = rows_per_second(database, min(rows, ROWS_ONE_BY_ONE), expire_one_by_one)
        expiring, purging = rows_per_second(database, rows, expire_in_batches, purge_in_batches)
        database.dispose()
    measurement.add("this package, expire", expiring)
    measurement.add("this package, purge", purging)
    measurement.add("expire in separate statements", one_by_one)
    return [measurement], ["PostgreSQL 18 without TLS"]
