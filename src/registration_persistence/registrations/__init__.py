"""What is stored, and every question that is asked of it. Is handed a session, opens no connection."""

from registration_persistence.registrations.base import Status
from registration_persistence.registrations.outcomes import (
    AlreadyVerified,
    Cancelled,
    Consent,
    EmailTaken,
    Page,
    Registered,
    Registration,
    Replayed,
    TokenExpired,
    TokenUnknown,
    TokenUsable,
    Verified,
)
from registration_persistence.registrations.repository import RegistrationRepository

__all__ = [
    "AlreadyVerified",
    "Cancelled",
    "Consent",
    "EmailTaken",
    "Page",
    "Registered",
    "Registration",
    "RegistrationRepository",
    "Replayed",
    "Status",
    "TokenExpired",
    "TokenUnknown",
    "TokenUsable",
    "Verified",
]
