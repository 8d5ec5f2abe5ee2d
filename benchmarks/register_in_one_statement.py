"""Part `statements`: a sign-up in one statement, beside the same work in separate statements.

The counts of round trips are exact. The variants take turns, and the ratio is that of their medians. Each message to
the server is delayed by 1 ms, which is about the latency between two availability zones.
"""

import dataclasses
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from local_database import create_migrated_database
from measurements import Measurement
from naive_service import EMAIL_KEY_REVISION, email_and_key
from sqlalchemy import exists, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from uuid_utils.compat import uuid7

from registration_persistence import Consent, Database, RegistrationRepository
from registration_persistence.models import (
    OutboxRow,
    RegistrationConsentRow,
    RegistrationEventRow,
    RegistrationRow,
    VerificationTokenRow,
)
from registration_persistence.sandbox import LocalPostgres, embedded_binaries
from registration_persistence.testing import RoundTripCounter

LATENCY_SECONDS = 0.001
SIGN_UPS_PER_ROUND = 20
CONSENTS = (Consent("terms", "2026-01"), Consent("newsletter", "2026-01", granted=False))


def in_one_statement(database: Database, address: str, *, autocommit: bool = True) -> None:
    """Sign up with this package."""
    with database.session(autocommit=autocommit) as session:
        RegistrationRepository(session).register(address, consents=CONSENTS, idempotency_key=address)


def in_one_statement_in_a_transaction(database: Database, address: str) -> None:
    """Sign up with this package, between BEGIN and COMMIT."""
    in_one_statement(database, address, autocommit=False)


def in_separate_statements(database: Database, address: str) -> None:
    """Insert the same rows with a statement for each table, in one transaction."""
    email, email_key = email_and_key(address)
    registration_id, event_id, expires_at = uuid7(), uuid7(), datetime(2100, 1, 1, tzinfo=UTC)
    with database.session() as session:
        session.execute(
            upsert(RegistrationRow)
            .values(
                id=registration_id,
                email=email,
                email_key=email_key,
                email_key_rev=EMAIL_KEY_REVISION,
                status="pending",
                submit_key=secrets.token_bytes(32),
                submit_digest=bytes(32),
                expires_at=expires_at,
            )
            .on_conflict_do_nothing()
        )
        session.scalar(
            select(
                exists().where(
                    RegistrationRow.email_key == email_key, RegistrationRow.status.in_(["verified", "active"])
                )
            )
        )
        session.execute(
            insert(VerificationTokenRow).values(
                id=uuid7(),
                registration_id=registration_id,
                purpose="verify_email",
                secret_hash=secrets.token_bytes(32),
                hash_key_id=0,
                expires_at=expires_at,
            )
        )
        for consent in CONSENTS:
            session.execute(
                insert(RegistrationConsentRow).values(
                    id=uuid7(), registration_id=registration_id, **dataclasses.asdict(consent)
                )
            )
        session.execute(
            insert(RegistrationEventRow).values(
                registration_id=registration_id, seq=1, id=event_id, type="registered", actor="user"
            )
        )
        session.execute(insert(OutboxRow).values(event_id=event_id, registration_id=registration_id, type="registered"))


VARIANTS: Sequence[tuple[str, Callable[[Database, str], None]]] = (
    ("one statement, autocommit", in_one_statement),
    ("one statement, transaction", in_one_statement_in_a_transaction),
    ("separate statements", in_separate_statements),
)


def measure(runs: int) -> tuple[list[Measurement], list[str]]:
    """Return the round trips and the time of each variant, and the version of the server."""
    with LocalPostgres(embedded_binaries()) as server:
        address = server.server
        settings = create_migrated_database(address)
        with RoundTripCounter(address.host, address.port, latency=LATENCY_SECONDS) as wire:
            database = Database(dataclasses.replace(settings, port=wire.port))
            measurements = _measured(database, wire, runs)
            database.dispose()
    return measurements, ["PostgreSQL 18 without TLS"]


def _measured(database: Database, wire: RoundTripCounter, runs: int) -> list[Measurement]:
    base = VARIANTS[-1][0]
    trips = Measurement("round_trips", "Round trips of a sign-up", "round trips", exact=True, base=base)
    times = Measurement("times", f"Time of a sign-up at {LATENCY_SECONDS * 1000:g} ms", "ms", exact=False, base=base)
    for number in range(runs + 1):
        for name, variant in VARIANTS:
            wire.round_trips()
            started = time.perf_counter()
            for repeat in range(SIGN_UPS_PER_ROUND):
                variant(database, f"{name.replace(' ', '.').replace(',', '')}.{number}.{repeat}@example.com")
            elapsed = (time.perf_counter() - started) / SIGN_UPS_PER_ROUND
            if number:  # the first round warms up and prepares the statements
                times.add(name, elapsed * 1000)
                trips.add(name, wire.round_trips() / SIGN_UPS_PER_ROUND)
    return [trips, times]
