"""The outcomes of business operations: frozen, usable after the session has closed, no mailbox in `repr`.

A union lists the outcomes of each operation, for `match` and for annotations.
"""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime

from registration_persistence.domain.records import ConsentRecord, Event, OutboxMessage, Page, Registration
from registration_persistence.domain.status import Status
from registration_persistence.light_dataclass import dataclass

__all__ = [
    "AlreadyVerified",
    "Cancelled",
    "CodeOutcome",
    "ConsentRecord",
    "EmailTaken",
    "Erased",
    "Event",
    "ImportReport",
    "IssueOutcome",
    "Issued",
    "LockedOut",
    "NotPending",
    "OutboxMessage",
    "Page",
    "PeekOutcome",
    "RegisterOutcome",
    "Registered",
    "Registration",
    "Replayed",
    "Throttled",
    "TokenExpired",
    "TokenUnknown",
    "TokenUsable",
    "TooManyPending",
    "Verified",
    "VerifyOutcome",
    "WrongCode",
]


@dataclass(frozen=True, slots=True)
class Registered:
    """`register` created a registration.

    Args:
        registration: The registration, which is pending.
        token: The token for the verification link. Only its hash is stored, so this is the only time to read it.
        email_verified_elsewhere: Whether another registration has verified this mailbox. The mail should say so; the
            response to the client should not.
    """

    registration: Registration
    token: str = field(repr=False)
    email_verified_elsewhere: bool


@dataclass(frozen=True, slots=True)
class Replayed:
    """`register` was called before with the same idempotency key and payload; nothing was changed.

    Args:
        registration: The registration of the earlier call, as it is now. Do not show it: the key and the payload do not
            prove that the mailbox belongs to the person.
        email_verified_elsewhere: Whether another registration has verified this mailbox.
    """

    registration: Registration
    email_verified_elsewhere: bool


@dataclass(frozen=True, slots=True)
class TooManyPending:
    """The mailbox has `max_pending` pending registrations, so this one was closed at once; no token works for it.

    Answer the client exactly as for `Registered`, and send no mail.

    Args:
        registration: The registration, which is cancelled with the reason `superseded`.
        email_verified_elsewhere: Whether another registration has verified this mailbox.
    """

    registration: Registration
    email_verified_elsewhere: bool


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token or code was issued; the previous ones no longer work.

    Args:
        registration: The registration, which is pending. Send the mail to its `email`, never to an address that was
            typed now.
        secret: The token for the link, or the six digits. Only its hash is stored.
        expires_at: The time until which the secret can be used.
    """

    registration: Registration
    secret: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Throttled:
    """Nothing was issued, because it is too early or too many were issued.

    Args:
        retry_at: The time from which it is allowed, by the clock of the database; `None` if `max_issued` is reached,
            so that only a new registration helps.
    """

    retry_at: datetime | None


@dataclass(frozen=True, slots=True)
class NotPending:
    """Nothing was issued, because the registration does not wait for verification.

    Args:
        status: The status of the registration; `expired` also if it has lapsed and the sweep has not changed its row.
    """

    status: Status


@dataclass(frozen=True, slots=True)
class Verified:
    """The mailbox is verified now; a lapsed registration that had verified it is expired.

    Args:
        registration: The registration, which is verified.
    """

    registration: Registration


@dataclass(frozen=True, slots=True)
class AlreadyVerified:
    """The token or code that verified the mailbox was sent again before it expired.

    It is a success for a person who clicks twice. Never sign anybody in on it, and show nothing of the registration:
    a link stays in mailboxes, histories and logs, so its second use proves nothing.

    Args:
        registration: The registration, which is verified or active.
    """

    registration: Registration


@dataclass(frozen=True, slots=True)
class TokenUsable:
    """`verify_by_token` would verify the mailbox.

    Args:
        registration: The registration, which is pending.
    """

    registration: Registration


@dataclass(frozen=True, slots=True)
class TokenUnknown:
    """No such token was issued, or its registration was erased."""


@dataclass(frozen=True, slots=True)
class TokenExpired:
    """The token or code has expired, was replaced by a newer token, or its registration is expired or cancelled.

    It does not matter whether the token was used, or whether the mailbox is verified meanwhile. Also if no code was
    issued, or if its pepper was dropped. A code that was replaced by a newer code is a wrong code.
    """


@dataclass(frozen=True, slots=True)
class WrongCode:
    """The code is wrong. The attempt counts, also if the transaction is rolled back.

    Args:
        left: The number of further wrong codes that will be judged before `LockedOut`.
    """

    left: int


@dataclass(frozen=True, slots=True)
class LockedOut:
    """Too many wrong codes were tried, so even the right code is rejected; a new code has new attempts."""


@dataclass(frozen=True, slots=True)
class EmailTaken:
    """Another registration has verified this mailbox; only for a token or code that could have verified it."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The registration is cancelled.

    Args:
        registration: The registration as it is now.
        changed: Whether this call cancelled it; false if it was cancelled before.
    """

    registration: Registration
    changed: bool


@dataclass(frozen=True, slots=True)
class Erased:
    """The registration is erased: only its id, its times, its consents and its events are left.

    Args:
        registration: The registration as it is now.
        changed: Whether this call erased it; false if it was erased before.
    """

    registration: Registration
    changed: bool


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of an import.

    Args:
        inserted: The number of rows that became registrations.
        duplicates: The number of rows whose mailbox was verified already, or whose idempotency key was used before.
        rejected: The number of rows that are not valid.
        reasons: The number of rejected rows for each reason; no reason quotes a row.
    """

    inserted: int
    duplicates: int
    rejected: int
    reasons: Mapping[str, int]


RegisterOutcome = Registered | Replayed | TooManyPending
"""The outcomes of `RegistrationRepository.register`."""

VerifyOutcome = Verified | AlreadyVerified | TokenUnknown | TokenExpired | EmailTaken
"""The outcomes of `VerificationRepository.verify_by_token`."""

CodeOutcome = VerifyOutcome | WrongCode | LockedOut
"""The outcomes of `VerificationRepository.verify_by_code`."""

IssueOutcome = Issued | Throttled | NotPending
"""The outcomes of `VerificationRepository.issue_token` and `VerificationRepository.issue_code`."""

PeekOutcome = TokenUsable | AlreadyVerified | TokenUnknown | TokenExpired | EmailTaken
"""The outcomes of `VerificationRepository.peek_token`."""
