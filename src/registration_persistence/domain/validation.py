"""What callers pass in, checked before anything is sent; each problem is one error that says what was expected.

No error quotes a value: arguments get mixed up, and what was passed as a status may be a mailbox.
"""

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from registration_persistence.domain.records import Consent
from registration_persistence.domain.status import Status
from registration_persistence.errors import InvalidConsent, InvalidInput

_LONGEST_TTL = timedelta(days=3650)

# PostgreSQL's integer.
_GREATEST_VERSION = 2**31 - 1

_ACTOR = re.compile(r"user|system|admin:[A-Za-z0-9_.-]{1,64}")

_CONSENT_PURPOSE = re.compile(r"[a-z][a-z0-9_]{0,62}")

# No @, because what is checked with it outlives an erasure.
_PRINTABLE = re.compile(r"[\x20-\x3f\x41-\x7e]+")

_REASON = re.compile(r"[A-Za-z0-9_.:-]{1,200}")

_LONGEST_CONSENT_TEXT = 64

_LONGEST_CORRELATION_ID = 128


def checked_purposes(purposes: Collection[str] | None) -> frozenset[str] | None:
    """Return the purposes of consents that are known; `None` where any is."""
    if purposes is None:
        return None
    names = list(purposes) if isinstance(purposes, Collection) and not isinstance(purposes, str) else [None]
    if not all(isinstance(name, str) and _CONSENT_PURPOSE.fullmatch(name) for name in names):
        raise InvalidInput("the purposes are not a collection of names of the form of terms or marketing_mail")
    return frozenset(purposes)


def checked_consents(consents: Iterable[Consent], known: frozenset[str] | None = None) -> list[Consent]:
    """Return *consents*, at most one for each purpose, and each for one of those that are *known*."""
    if not isinstance(consents, Iterable):
        raise InvalidConsent(f"the consents are a {type(consents).__name__}: expected a list of Consent")
    checked = list(consents)
    for consent in checked:
        if not isinstance(consent, Consent):
            raise InvalidConsent(f"a consent is a {type(consent).__name__}: expected a Consent")
        if not isinstance(consent.purpose, str) or not _CONSENT_PURPOSE.fullmatch(consent.purpose):
            raise InvalidConsent("a consent's purpose is not of the form of terms or marketing_mail")
        if known is not None and consent.purpose not in known:
            raise InvalidConsent(f"a consent's purpose is unknown: expected one of {', '.join(sorted(known))}")
        for name in ("document_version", "source"):
            if not _is_printable(getattr(consent, name), _LONGEST_CONSENT_TEXT):
                raise InvalidConsent(
                    f"the {name} of the consent to {consent.purpose} is not printable ASCII "
                    f"of 1 to {_LONGEST_CONSENT_TEXT} characters without @"
                )
        if not isinstance(consent.granted, bool):
            raise InvalidConsent(f"granted of the consent to {consent.purpose} is no bool")
    if len({consent.purpose for consent in checked}) < len(checked):
        raise InvalidConsent("two consents have the same purpose: expected one for each")
    return checked


def checked_ttl(name: str, ttl: timedelta) -> timedelta:
    """Return *ttl*, the argument *name*, where it is a span of time that makes sense."""
    if not isinstance(ttl, timedelta) or not timedelta(0) < ttl <= _LONGEST_TTL:
        raise InvalidInput(f"{name} is not a timedelta of more than nothing and ten years at most")
    return ttl


def checked_id(registration_id: UUID) -> UUID:
    """Return *registration_id* where it is a UUID."""
    if not isinstance(registration_id, UUID):
        raise InvalidInput(f"the registration's id is a {type(registration_id).__name__}: expected a uuid.UUID")
    return registration_id


def checked_version(version: int | None) -> int | None:
    """Return *version* where it is one, or `None`."""
    if version is not None and (type(version) is not int or not 1 <= version <= _GREATEST_VERSION):
        raise InvalidInput("expected_version is not a whole number from 1: pass the version of what was read")
    return version


def checked_status(status: Status | str) -> str:
    """Return the text that is stored for *status*."""
    if not isinstance(status, str) or status not in set(Status):
        raise InvalidInput(f"the status is unknown: expected one of {', '.join(Status)}")
    return str(status)


def checked_actor(actor: str) -> str:
    """Return *actor* where it has the form that the event trail holds."""
    if not isinstance(actor, str) or not _ACTOR.fullmatch(actor):
        raise InvalidInput("the actor is unknown: expected user, system or admin:<id>")
    return actor


def checked_correlation_id(correlation_id: str | None) -> str | None:
    """Return *correlation_id* where it is one, or `None`."""
    if correlation_id is not None and not _is_printable(correlation_id, _LONGEST_CORRELATION_ID):
        raise InvalidInput(
            f"the correlation id is not printable ASCII of 1 to {_LONGEST_CORRELATION_ID} characters without @"
        )
    return correlation_id


def checked_number(name: str, number: int, least: int, greatest: int) -> int:
    """Return *number*, the argument *name*, where it is a whole number in that range."""
    if type(number) is not int or not least <= number <= greatest:
        raise InvalidInput(f"{name} is not a whole number from {least} to {greatest}")
    return number


def checked_gap(name: str, gap: timedelta) -> timedelta:
    """Return *gap*, the argument *name*, where it is a span of time that makes sense, or none."""
    return gap if gap == timedelta(0) else checked_ttl(name, gap)


def checked_moment(name: str, moment: datetime) -> datetime:
    """Return *moment*, the argument *name*, in UTC, where it says in which time zone it is meant."""
    if not isinstance(moment, datetime) or moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidInput(f"{name} is not a datetime with a time zone: use datetime.now(UTC), for example")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(f"{name} is outside the years 1 to 9999 in UTC") from None


def checked_reason(reason: str) -> str:
    """Return *reason*, why a message was not delivered, where it has the form that is stored."""
    if not isinstance(reason, str) or not _REASON.fullmatch(reason):
        raise InvalidInput(
            "the reason is not 1 to 200 letters, digits and _.:-, like smtp:550: a sentence could quote a mailbox"
        )
    return reason


def _is_printable(value: object, longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest and _PRINTABLE.fullmatch(value) is not None
