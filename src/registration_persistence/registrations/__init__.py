"""What is stored, and every question that is asked of it. Is handed a session, opens no connection."""

from registration_persistence.registrations.base import (
    Status,
)
from registration_persistence.registrations.bulk import (
    bulk_import,
)
from registration_persistence.registrations.codes import (
    Peppers,
)
from registration_persistence.registrations.consents import (
    ConsentRepository,
)
from registration_persistence.registrations.events import (
    EventRepository,
)
from registration_persistence.registrations.outbox import (
    OutboxRepository,
)
from registration_persistence.registrations.outcomes import (
    AlreadyVerified,
    Cancelled,
    Consent,
    ConsentRecord,
    EmailTaken,
    Erased,
    Event,
    ImportReport,
    ImportRow,
    Issued,
    LockedOut,
    NotPending,
    OutboxMessage,
    Page,
    Registered,
    Registration,
    Replayed,
    Throttled,
    TokenExpired,
    TokenUnknown,
    TokenUsable,
    Verified,
    WrongCode,
)
from registration_persistence.registrations.repository import (
    RegistrationRepository,
)
from registration_persistence.registrations.retention import (
    Retention,
)

__all__ = [
    "AlreadyVerified",
    "Cancelled",
    "Consent",
    "ConsentRecord",
    "ConsentRepository",
    "EmailTaken",
    "Erased",
    "Event",
    "EventRepository",
    "ImportReport",
    "ImportRow",
    "Issued",
    "LockedOut",
    "NotPending",
    "OutboxMessage",
    "OutboxRepository",
    "Page",
    "Peppers",
    "Registered",
    "Registration",
    "RegistrationRepository",
    "Replayed",
    "Retention",
    "Status",
    "Throttled",
    "TokenExpired",
    "TokenUnknown",
    "TokenUsable",
    "Verified",
    "WrongCode",
    "bulk_import",
]
