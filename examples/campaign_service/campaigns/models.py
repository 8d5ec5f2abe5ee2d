"""The table of the service."""

from uuid import UUID

from sqlalchemy import ForeignKey, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from registration_persistence.models import RegistrationRow


class Base(DeclarativeBase):
    """The service's own metadata, so that Alembic creates the service's tables alone."""

    metadata = MetaData(naming_convention={"pk": "pk_%(table_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s"})


class CampaignMember(Base):
    """A person who takes part in a campaign; the nickname is personal data."""

    __tablename__ = "campaign_members"

    registration_id: Mapped[UUID] = mapped_column(ForeignKey(RegistrationRow.id, ondelete="CASCADE"), primary_key=True)
    campaign: Mapped[str] = mapped_column(primary_key=True)
    nickname: Mapped[str]
