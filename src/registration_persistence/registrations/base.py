"""The metadata with its naming convention, and the vocabulary that the models' columns are written in."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any

import uuid_utils
from sqlalchemy import DateTime, LargeBinary, MetaData, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import DeclarativeBase, mapped_column
from uuid_utils.compat import uuid7


class Status(StrEnum):
    """Where a registration stands."""

    PENDING = "pending"
    VERIFIED = "verified"
    ACTIVE = "active"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Move:
    """A change of status that is allowed.

    Args:
        sources: The statuses that it may start from.
        target: The status that it leads to.
    """

    sources: tuple[Status, ...]
    target: Status


MOVES: Mapping[str, Move] = MappingProxyType(
    {
        "verified": Move((Status.PENDING,), Status.VERIFIED),
        "activated": Move((Status.VERIFIED,), Status.ACTIVE),
        "cancelled": Move((Status.PENDING, Status.VERIFIED), Status.CANCELLED),
        "expired": Move((Status.PENDING, Status.VERIFIED), Status.EXPIRED),
        "erased": Move(tuple(status for status in Status if status != Status.ERASED), Status.ERASED),
    }
)
"""The moves by the type of their event; a trigger of the schema refuses all others."""


BEGINNINGS: Mapping[str, tuple[Status, ...]] = MappingProxyType(
    {"registered": (Status.PENDING,), "imported": (Status.PENDING, Status.VERIFIED, Status.ACTIVE)}
)
"""The statuses that a registration may begin with, by the type of its first event."""


def new_id() -> uuid.UUID:
    """Return a UUIDv7: ordered by time, and within the same millisecond too (RFC 9562, section 6.2)."""
    return uuid7()


def new_id_text() -> str:
    """Return one as text, which costs an eighth of `str(new_id())`."""
    return str(uuid_utils.uuid7())


class Base(DeclarativeBase):
    """The base of the models; `metadata` is what Alembic compares the database with."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )

    def __repr__(self) -> str:
        identity = ", ".join(repr(value) for value in self._identity())
        return f"<{type(self).__name__} {identity}>"

    def _identity(self) -> list[Any]:
        return [self.__dict__.get(column.key) for column in self.__table__.primary_key]


IdPrimaryKey = Annotated[uuid.UUID, mapped_column(UUID, primary_key=True)]
Id = Annotated[uuid.UUID, mapped_column(UUID)]
String = Annotated[str, mapped_column(Text)]
ComparisonKey = Annotated[str, mapped_column(Text(collation="C"))]
Hash = Annotated[bytes, mapped_column(LargeBinary)]
Small = Annotated[int, mapped_column(SmallInteger)]
Json = Annotated[dict[str, Any], mapped_column(JSONB, server_default=text("'{}'"))]
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]
MomentNow = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=text("statement_timestamp()"))]
Counter = Annotated[int, mapped_column(SmallInteger, server_default=text("0"))]
