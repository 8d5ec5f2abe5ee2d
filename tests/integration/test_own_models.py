"""The models of a service refer to our models: foreign keys, their names, and the order of the inserts."""

from uuid import UUID, uuid4

import pytest
from campaigns.models import Base
from sqlalchemy import ForeignKey, MetaData, func, select
from sqlalchemy.exc import NoReferencedTableError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.schema import CreateTable

from registration_persistence import Database
from registration_persistence.models import RegistrationRow


class ServiceBase(DeclarativeBase):
    """The metadata of another service, whose convention uses the name of the table that is referred to."""

    metadata = MetaData(naming_convention={"fk": "fk_%(table_name)s_%(referred_table_name)s_%(column_0_name)s"})


class Order(ServiceBase):
    """An order, with a relationship to the registration."""

    __tablename__ = "orders"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    person_id: Mapped[UUID] = mapped_column(ForeignKey(RegistrationRow.id, ondelete="CASCADE"))
    person: Mapped[RegistrationRow] = relationship()


def test_a_foreign_key_refers_to_the_model() -> None:
    """It needs no copy of our table in the service's metadata, and can have any name; a text finds no table."""
    ddl = str(CreateTable(ServiceBase.metadata.tables["orders"]))
    assert (
        "CONSTRAINT fk_orders_registrations_person_id FOREIGN KEY(person_id) REFERENCES registrations (id) "
        "ON DELETE CASCADE" in ddl
    )
    assert list(ServiceBase.metadata.tables) == ["orders"]
    assert list(Base.metadata.tables) == ["campaign_members"]

    class Other(DeclarativeBase):
        """A metadata without our tables."""

    class Invoice(Other):
        __tablename__ = "invoices"
        person_id: Mapped[UUID] = mapped_column(ForeignKey("registrations.id"), primary_key=True)

    with pytest.raises(NoReferencedTableError):
        str(CreateTable(Other.metadata.tables["invoices"]))


def test_a_relationship_orders_the_inserts(database: Database) -> None:
    """With a relationship, one flush inserts the registration first, and a query joins both tables."""
    with database.session() as session:
        ServiceBase.metadata.create_all(session.connection())
    with database.session() as session:
        person = RegistrationRow(
            id=uuid4(), email="ada@example.com", email_key="ada@example.com", email_key_rev=1, status="active",
            verified_at=func.now(), activated_at=func.now(),
        )  # fmt: skip
        session.add(Order(id=uuid4(), person=person))
    with database.session() as session:
        assert ["ada@example.com"] == emails(session)
        ServiceBase.metadata.drop_all(session.connection())
        assert session.scalar(select(func.count()).select_from(RegistrationRow)) == 1


def emails(session: Session) -> list[str | None]:
    """Return the addresses of all orders."""
    return list(session.scalars(select(RegistrationRow.email).join(Order)))
