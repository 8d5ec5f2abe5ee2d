"""The content of the database, as the model of a registration's life sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from registration_persistence import Status

Row = Mapping[str, Any]
TABLES: Mapping[str, tuple[str, ...]] = {
    "registrations": ("id",),
    "verification_tokens": ("id",),
    "registration_consents": ("id",),
    "registration_events": ("registration_id", "seq"),
    "outbox": ("event_id",),
}
MAILBOXES = ("ada@example.com", "Ada@Example.COM", "bob@example.com", "jürgen@bücher.example", "eve@example.org")
OPEN = (Status.PENDING, Status.VERIFIED)
CLOSED = (Status.EXPIRED, Status.CANCELLED, Status.ERASED)


@dataclass(frozen=True, slots=True)
class World:
    """The content of the database, by table and key."""

    now: datetime
    tables: Mapping[str, Mapping[Any, Row]]

    def __getattr__(self, table: str) -> Mapping[Any, Row]:
        return self.tables[table]

    def status(self, registration_id: UUID) -> Status:
        """Return the status of a registration, which is expired if it has lapsed."""
        row = self.registrations[registration_id]
        lapsed = row["expires_at"] is not None and row["expires_at"] <= self.now
        return Status.EXPIRED if lapsed else Status(row["status"])

    def is_verified(self, key: str | None) -> bool:
        """Tell whether the mailbox *key* is verified by a registration."""
        return any(
            row["email_key"] == key and self.status(identity) in (Status.VERIFIED, Status.ACTIVE)
            for identity, row in self.registrations.items()
        )

    def of(self, table: str, registration_id: UUID) -> list[Row]:
        """Return the rows of *table* that belong to a registration."""
        return [row for row in self.tables[table].values() if row["registration_id"] == registration_id]


def rows(connection: Connection, table: str, key: tuple[str, ...]) -> dict[Any, Row]:
    """Return the rows of *table* by their key."""
    found = connection.execute(text(f"SELECT * FROM {table}")).mappings()
    return {(row[key[0]] if len(key) == 1 else tuple(row[name] for name in key)): dict(row) for row in found}


def events_of(world: World, registration_id: UUID) -> list[Row]:
    """Return the events of a registration in their order."""
    return sorted(world.of("registration_events", registration_id), key=lambda row: row["seq"])
