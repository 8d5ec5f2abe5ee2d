"""Validation of arguments, before anything is sent; each problem is one error with the expected value.

No error quotes a value: arguments can be mixed up, and a value that was passed as a status may be a mailbox.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import TypeVar
from uuid import UUID

from registration_persistence.domain.records import Consent
from registration_persistence.domain.status import Status
from registration_persistence.domain.text import plain_text
from registration_persistence.durations import Duration, in_seconds
from registration_persistence.errors import InvalidConsent, InvalidInput
from registration_persistence.lazy_pattern import lazy_pattern

T = TypeVar("T")

MAX_CONSENTS = 32
"""The largest number of decisions in one call."""

_MAX_PURPOSES = 100
_MAX_PURPOSES_SHOWN = 10
_MAX_PURPOSE_CHARACTERS = 63
_MAX_ACTOR_CHARACTERS = 70
_MAX_REASON_CHARACTERS = 200
_MAX_WORD_CHARACTERS = 20  # of a word of a closed vocabulary

_MAX_DURATION = timedelta(days=3650)
_MAX_VERSION = 2**31 - 1  # PostgreSQL's integer
_MAX_LABEL_CHARACTERS = 64
_MAX_CACHED_CONSENTS = 1000

_ACTOR = lazy_pattern(r"user|system|admin:[A-Za-z0-9_.-]{1,64}")
_CONSENT_PURPOSE = lazy_pattern(r"[a-z][a-z0-9_]{0,62}")
# Texts that stay after an erasure: no mailbox, no name with a space, no telephone number with a plus.
_LABEL = lazy_pattern(rf"[A-Za-z0-9_.:/-]{{1,{_MAX_LABEL_CHARACTERS}}}")
_LABEL_FORM = f"1 to {_MAX_LABEL_CHARACTERS} letters, digits and _.:/-"
_REASON = lazy_pattern(r"[A-Za-z0-9_.:-]{1,200}")


def at_most(values: Iterable[T], maximum: int, too_many: InvalidInput) -> list[T]:
    """Return *values* as a list, and take no more than *maximum* + 1 of them.

    Raises:
        InvalidInput: There are more than *maximum*; the error is *too_many*.
    """
    taken = list(islice(values, maximum + 1))
    if len(taken) > maximum:
        raise too_many
    return taken


def checked_purposes(purposes: Collection[str] | None) -> frozenset[str] | None:
    """Return the known purposes of consents; `None` if every purpose of a valid form is allowed."""
    if purposes is None:
        return None
    given = purposes if isinstance(purposes, Collection) and not isinstance(purposes, str) else [None]
    names = at_most(given, _MAX_PURPOSES, InvalidInput(f"there are more than {_MAX_PURPOSES} purposes"))
    known = [purpose for name in names if (purpose := _purpose(name))]
    if len(known) < len(names):
        raise InvalidInput("the purposes are not a collection of names like terms or marketing_mail")
    return frozenset(known)


def checked_consents(consents: Iterable[Consent], known: frozenset[str] | None = None) -> list[Consent]:
    """Return *consents* as a list; each has a *known* purpose, and no two have the same."""
    if not isinstance(consents, Iterable):
        raise InvalidConsent(f"the consents are a {type(consents).__name__}: expected a list of Consent")
    too_many = InvalidConsent(f"there are more than {MAX_CONSENTS} consents: expected at most {MAX_CONSENTS} in a call")
    checked = [_checked_consent(consent, known) for consent in at_most(consents, MAX_CONSENTS, too_many)]
    if len(checked) > 1 and len({consent.purpose for consent in checked}) < len(checked):
        raise InvalidConsent("two consents have the same purpose: expected one for each")
    return checked


def _checked_consent(consent: Consent, known: frozenset[str] | None) -> Consent:
    if not isinstance(consent, Consent):
        raise InvalidConsent(f"a consent is a {type(consent).__name__}: expected a Consent")
    purpose, version, granted, source = values = (
        consent.purpose, consent.document_version, consent.granted, consent.source,
    )  # fmt: skip
    # A subclass of `str` could claim to be equal to a text in the cache, and a long text would be read to compare it.
    is_plain = type(purpose) is type(version) is type(source) is str and type(granted) is bool
    if known is None and is_plain and max(len(purpose), len(version), len(source)) <= _MAX_LABEL_CHARACTERS:
        return _usual_consent(values)
    return _valid_consent(values, known)


def _valid_consent(values: tuple[str, str, bool, str], known: frozenset[str] | None = None) -> Consent:
    """Return the consent with these *values* if each has its form, and if its purpose is *known*."""
    purpose = _purpose(values[0])
    if purpose is None:
        raise InvalidConsent("the purpose of a consent is not a name like terms or marketing_mail")
    if known is not None and purpose not in known:
        shown = sorted(known)[:_MAX_PURPOSES_SHOWN] + ["..."] * (len(known) > _MAX_PURPOSES_SHOWN)
        raise InvalidConsent(f"the purpose of a consent is unknown: expected one of {', '.join(shown)}")
    texts = {"document_version": _label(values[1]), "source": _label(values[3])}
    for name, text in texts.items():
        if text is None:
            raise InvalidConsent(f"the {name} of the consent to {purpose} is not {_LABEL_FORM}")
    if not isinstance(values[2], bool):
        raise InvalidConsent(f"granted of the consent to {purpose} is not a bool")
    return Consent(purpose, texts["document_version"] or "", values[2], texts["source"] or "")


# Many people agree to the same version of the same document.
_usual_consent = lru_cache(_MAX_CACHED_CONSENTS)(_valid_consent)


def _purpose(name: object) -> str | None:
    purpose = plain_text(name, _MAX_PURPOSE_CHARACTERS)
    return purpose if purpose is not None and _CONSENT_PURPOSE.fullmatch(purpose) else None


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


def checked_word(given: object, expected: Iterable[str], problem: str) -> str:
    """Return *given*, a word of a closed vocabulary, as a `str`.

    Raises:
        InvalidInput: It is none of the *expected* words; the message begins with *problem*.
    """
    words = [str(word) for word in expected]
    word = plain_text(given, _MAX_WORD_CHARACTERS)
    if word not in words:
        raise InvalidInput(f"{problem}: expected one of {', '.join(words)}")
    return word


def checked_status(status: Status | str) -> str:
    """Return the text that is stored for *status*."""
    return checked_word(status, Status, "the status is unknown")


def checked_actor(actor: str) -> str:
    """Return *actor* if it has the form of an actor in the event log."""
    given = plain_text(actor, _MAX_ACTOR_CHARACTERS)
    if given is None or not _ACTOR.fullmatch(given):
        raise InvalidInput("the actor is unknown: expected user, system or admin:<id>")
    return given


def checked_correlation_id(correlation_id: str | None) -> str | None:
    """Return *correlation_id* if it has the form of a trace id, or `None`."""
    given = None if correlation_id is None else _label(correlation_id)
    if correlation_id is not None and given is None:
        raise InvalidInput(f"the correlation id is not {_LABEL_FORM}: pass a trace id, never a name or a number")
    return given


def checked_uuids(ids: Iterable[UUID], maximum: int) -> list[UUID]:
    """Return *ids* as a list if they are at most *maximum* UUIDs."""
    too_many = InvalidInput(f"there are more than {maximum} event ids: expected at most {maximum} in a call")
    given = at_most(ids, maximum, too_many) if isinstance(ids, Iterable) else [None]
    uuids = [event_id for event_id in given if isinstance(event_id, UUID)]
    if len(uuids) < len(given):
        raise InvalidInput("the event ids contain something else: expected uuid.UUID objects")
    return uuids


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
    given = plain_text(reason, _MAX_REASON_CHARACTERS)
    if given is None or not _REASON.fullmatch(given):
        raise InvalidInput(
            "the reason is not 1 to 200 letters, digits and _.:-, like smtp:550: a sentence could quote a mailbox"
        )
    return given


def _label(value: object) -> str | None:
    text = plain_text(value, _MAX_LABEL_CHARACTERS)
    return text if text is not None and _LABEL.fullmatch(text) else None
