"""The metadata with its naming convention, and the column types of the models."""

import uuid
from datetime import datetime
from typing import Annotated, Any, ClassVar

from sqlalchemy import DateTime, LargeBinary, MetaData, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import DeclarativeBase, mapped_column


class Base(DeclarativeBase):
    """The base class of the models; Alembic compares the database with its `metadata`."""

    metadata: ClassVar[MetaData] = MetaData(
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
IdColumn = Annotated[uuid.UUID, mapped_column(UUID)]
TextColumn = Annotated[str, mapped_column(Text)]
ComparisonKeyColumn = Annotated[str, mapped_column(Text(collation="C"))]
HashColumn = Annotated[bytes, mapped_column(LargeBinary)]
SmallIntColumn = Annotated[int, mapped_column(SmallInteger)]
CountColumn = Annotated[int, mapped_column(SmallInteger, server_default=text("0"))]
JsonColumn = Annotated[dict[str, Any], mapped_column(JSONB, server_default=text("'{}'"))]
TimestampColumn = Annotated[datetime, mapped_column(DateTime(timezone=True))]
TimestampNowColumn = Annotated[
    datetime, mapped_column(DateTime(timezone=True), server_default=text("statement_timestamp()"))
]
