"""A sign-up in one statement, and the same work in separate statements, side by side, on this machine.

The counts are exact; the ratio compares medians that are measured in turns. 1 ms is added to each message to the
server, which is about the latency to another availability zone.
"""

import dataclasses
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from local_database import migrated
from naive_service import KEY_REVISION, mailbox_key, new_id
from sqlalchemy import exists, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

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

LATENCY = 0.001
ROUNDS = 15
PER_ROUND = 20
CONSENTS = (Consent("terms", "2026-01"), Consent("newsletter", "2026-01", granted=False))


def in_one_statement(database: Database, address: str, *, autocommit: bool = True) -> None:
    """Register with this package."""
    with database.session(autocommit=autocommit) as session:
        RegistrationRepository(session).register(address, consents=CONSENTS, idempotency_key=address)


def in_one_statement_and_a_transaction(database: Database, address: str) -> None:
    """Register between BEGIN and COMMIT."""
    in_one_statement(database, address, autocommit=False)


def in_separate_statements(database: Database, address: str) -> None:
    """Insert the same rows with one statement for each table, in one transaction."""
    key, identity, event = mailbox_key(address), new_id(), new_id()
    soon = datetime(2100, 1, 1, tzinfo=UTC)
    with database.session() as session:
        session.execute(
            upsert(RegistrationRow)
            .values(
                id=identity,
                email=address,
                email_key=key,
                email_key_rev=KEY_REVISION,
                status="pending",
                submit_key=secrets.token_bytes(32),
                submit_digest=bytes(32),
                expires_at=soon,
            )
            .on_conflict_do_nothing()
        )
        session.scalar(
            select(exists().where(RegistrationRow.email_key == key, RegistrationRow.status.in_(["verified", "active"])))
        )
        session.execute(
            insert(VerificationTokenRow).values(
                id=new_id(),
                registration_id=identity,
                purpose="verify_email",
                secret_hash=secrets.token_bytes(32),
                hash_key_id=0,
                expires_at=soon,
            )
        )
        for consent in CONSENTS:
            session.execute(
                insert(RegistrationConsentRow).values(
                    id=new_id(), registration_id=identity, **dataclasses.asdict(consent)
                )
            )
        session.execute(
            insert(RegistrationEventRow).values(
                registration_id=identity, seq=1, id=event, type="registered", actor="user"
            )
        )
        session.execute(insert(OutboxRow).values(event_id=event, registration_id=identity, type="registered"))


VARIANTS: Sequence[tuple[str, Callable[[Database, str], None]]] = (
    ("one statement, autocommit", in_one_statement),
    ("one statement, transaction", in_one_statement_and_a_transaction),
    ("separate statements", in_separate_statements),
)


def measure(database: Database, wire: RoundTripCounter) -> None:
    """Print the round trips and the median of each variant, and its ratio to the last."""
    times: dict[str, list[float]] = {name: [] for name, _ in VARIANTS}
    trips: dict[str, int] = {}
    for number in range(ROUNDS + 1):
        for name, variant in VARIANTS:
            wire.round_trips()
            started = time.perf_counter()
            for repeat in range(PER_ROUND):
                variant(database, f"{name.replace(' ', '.').replace(',', '')}.{number}.{repeat}@example.com")
            elapsed = (time.perf_counter() - started) / PER_ROUND
            if number:  # the first round warms up and prepares the statements
                times[name].append(elapsed)
                trips[name] = wire.round_trips() // PER_ROUND
    slowest = statistics.median(times[VARIANTS[-1][0]])
    print(f"{'sign-up':<30}{'round trips':>12}{'median ms':>12}{'ratio':>8}   with {LATENCY * 1000:g} ms of latency")
    for name, _ in VARIANTS:
        median = statistics.median(times[name])
        print(f"{name:<30}{trips[name]:>12}{median * 1000:>12.1f}{median / slowest:>8.2f}")


def main() -> int:
    """Start a server, migrate, measure."""
    with LocalPostgres(embedded_binaries()) as server:
        address = server.server
        settings = migrated(address)
        with RoundTripCounter(address.host, address.port, latency=LATENCY) as wire:
            database = Database(dataclasses.replace(settings, port=wire.port))
            measure(database, wire)
            database.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
