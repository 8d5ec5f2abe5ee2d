"""The tables as SQLAlchemy models: for Alembic, and for services that read or join them with the ORM."""

from registration_persistence.models.columns import Base
from registration_persistence.models.tables import (
    OutboxRow,
    RegistrationConsentRow,
    RegistrationEventRow,
    RegistrationRow,
    VerificationTokenRow,
)

__all__ = [
    "Base",
    "OutboxRow",
    "RegistrationConsentRow",
    "RegistrationEventRow",
    "RegistrationRow",
    "VerificationTokenRow",
]
