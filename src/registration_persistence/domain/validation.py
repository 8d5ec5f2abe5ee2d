"""Validation of arguments, before anything is sent; each problem is one error with the expected value.

No error quotes a value: arguments can be mixed up, and a value that was passed as a status may be a mailbox.
"""

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from registration_persistence.domain.records import Consent
from registration_persistence.domain.status import Status
from registration_persistence.durations import Duration, in_seconds
from registration_persistence.errors import InvalidConsent, InvalidInput

_MAX_DURATION = timedelta(days=3650)
_MAX_VERSION = 2**31 - 1  # PostgreSQL's integer
_MAX_LABEL_CHARACTERS = 64

_ACTOR = re.compile(r"user|system|admin:[A-Za-z0-9_.-]{1,64}")
_CONSENT_PURPOSE = re.compile(r"[a-z][a-z0-9_]{0,62}")
# Texts that stay after an erasure: no mailbox, no name with a space, no telephone number with a plus.
_LABEL = re.compile(rf"[A-Za-z0-9_.:/-]{{1,{_MAX_LABEL_CHARACTERS}}}")
_LABEL_FORM = f"1 to {_MAX_LABEL_CHARACTERS} letters, digits and _.:/-"
_REASON = re.compile(r"[A-Za-z0-9_.:-]{1,200}")


def checked_purposes(purposes: Collection[str] | None) -> frozenset[str] | None:
    """Return the known purposes of consents; `None` if every purpose of a valid form is allowed."""
    if purposes is None:
        return None
    names = list(purposes) if isinstance(purposes, Collection) and not isinstance(purposes, str) else [None]
    if not all(isinstance(name, str) and _CONSENT_PURPOSE.fullmatch(name) for name in names):
        raise InvalidInput("the purposes are not a collection of names like terms or marketing_mail")
    return frozenset(purposes)


def checked_consents(consents: Iterable[Consent], known: frozenset[str] | None = None) -> list[Consent]:
    """Return *consents* as a list; each has a *known* purpose, and no two have the same."""
    if not isinstance(consents, Iterable):
        raise InvalidConsent(f"the consents are a {type(consents).__name__}: expected a list of Consent")
    checked = list(consents)
    for consent in checked:
        if not isinstance(consent, Consent):
            raise InvalidConsent(f"a consent is a {type(consent).__name__}: expected a Consent")
        if not isinstance(consent.purpose, str) or not _CONSENT_PURPOSE.fullmatch(consent.purpose):
            raise InvalidConsent("the purpose of a consent is not a name like terms or marketing_mail")
        if known is not None and consent.purpose not in known:
            raise InvalidConsent(f"the purpose of a consent is unknown: expected one of {', '.join(sorted(known))}")
        for name in ("document_version", "source"):
            if not _is_label(getattr(consent, name)):
                raise InvalidConsent(f"the {name} of the consent to {consent.purpose} is not {_LABEL_FORM}")
        if not isinstance(consent.granted, bool):
            raise InvalidConsent(f"granted of the consent to {consent.purpose} is not a bool")
    if len({consent.purpose for consent in checked}) < len(checked):
        raise InvalidConsent("two consents have the same purpose: expected one for each")
    return checked


def checked_duration(name: str, duration: Duration, *, zero_is_allowed: bool = False) -> timedelta:
    """Return *duration*, the value of the argument *name*, if it is longer than 0 and at most ten years."""
    try:
        # An infinite number of seconds overflows.
        checked = duration if isinstance(duration, timedelta) else timedelta(seconds=in_seconds(duration))
    except (TypeError, ValueError, OverflowError):
        checked = None
    if checked == timedelta(0) and zero_is_allowed:
        return checked
    if checked is None or not timedelta(0) < checked <= _MAX_DURATION:
        least = "0 or more" if zero_is_allowed else "more than 0"
        raise InvalidInput(f"{name} is not a timedelta or a number of seconds, {least} and at most ten years")
    return checked


def checked_id(registration_id: UUID) -> UUID:
    """Return *registration_id* if it is a UUID."""
    if not isinstance(registration_id, UUID):
        raise InvalidInput(f"the id of the registration is a {type(registration_id).__name__}: expected a uuid.UUID")
    return registration_id


def checked_version(version: int | None) -> int | None:
    """Return *version* if it is a whole number from 1, or `None`."""
    if version is not None and (type(version) is not int or not 1 <= version <= _MAX_VERSION):
        raise InvalidInput("expected_version is not a whole number from 1: pass the version that was read")
    return version


def checked_status(status: Status | str) -> str:
    """Return the text that is stored for *status*."""
    if not isinstance(status, str) or status not in set(Status):
        raise InvalidInput(f"the status is unknown: expected one of {', '.join(Status)}")
    return str(status)


def checked_actor(actor: str) -> str:
    """Return *actor* if it has the form of an actor in the event log."""
    if not isinstance(actor, str) or not _ACTOR.fullmatch(actor):
        raise InvalidInput("the actor is unknown: expected user, system or admin:<id>")
    return actor


def checked_correlation_id(correlation_id: str | None) -> str | None:
    """Return *correlation_id* if it has the form of a trace id, or `None`."""
    if correlation_id is not None and not _is_label(correlation_id):
        raise InvalidInput(f"the correlation id is not {_LABEL_FORM}: pass a trace id, never a name or a number")
    return correlation_id


def checked_number(name: str, number: int, minimum: int, maximum: int) -> int:
    """Return *number*, the value of the argument *name*, if it is a whole number from *minimum* to *maximum*."""
    if type(number) is not int or not minimum <= number <= maximum:
        raise InvalidInput(f"{name} is not a whole number from {minimum} to {maximum}")
    return number


def checked_moment(name: str, moment: datetime) -> datetime:
    """Return *moment*, the value of the argument *name*, in UTC, if it has a time zone."""
    if not isinstance(moment, datetime) or moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidInput(f"{name} is not a datetime with a time zone: use datetime.now(UTC), for example")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(f"{name} is outside the years 1 to 9999 in UTC") from None


def checked_reason(reason: str) -> str:
    """Return *reason*, the reason of a failed delivery, if it has the form that is stored."""
    if not isinstance(reason, str) or not _REASON.fullmatch(reason):
        raise InvalidInput(
            "the reason is not 1 to 200 letters, digits and _.:-, like smtp:550: a sentence could quote a mailbox"
        )
    return reason


def _is_label(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_LABEL_CHARACTERS and _LABEL.fullmatch(value) is not None
