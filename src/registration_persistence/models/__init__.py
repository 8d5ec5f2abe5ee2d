"""The tables as SQLAlchemy models, and the state machine that their trigger enforces.

For Alembic, and for services that read or join the tables with the ORM. A model of a service refers to a registration
with `ForeignKey(RegistrationRow.id)`, also from another `MetaData`. The models have no relationships, so SQLAlchemy
does not order their INSERTs by foreign key: flush a `RegistrationRow` before the rows that refer to it, or declare a
relationship in the model of the service.
"""

from registration_persistence.domain.status import INITIAL_STATUSES, MOVES
from registration_persistence.models.columns import Base
from registration_persistence.models.tables import (
    OutboxRow,
    RegistrationConsentRow,
    RegistrationEventRow,
    RegistrationRow,
    VerificationTokenRow,
)

__all__ = [
    "INITIAL_STATUSES",
    "MOVES",
    "Base",
    "OutboxRow",
    "RegistrationConsentRow",
    "RegistrationEventRow",
    "RegistrationRow",
    "VerificationTokenRow",
]
