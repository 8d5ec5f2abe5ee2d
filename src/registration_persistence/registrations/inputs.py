"""What callers pass in, checked before anything is sent; each problem is one error that says what was expected.

No error quotes a value: arguments get mixed up, and what was passed as a status may be a mailbox.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import blake2s, sha256
from typing import Any
from uuid import UUID

from registration_persistence.errors import (
    InvalidConsent,
    InvalidCursor,
    InvalidInput,
    InvalidProfile,
    ProfileTooLarge,
)
from registration_persistence.registrations.base import Status, new_id
from registration_persistence.registrations.outcomes import Consent

LARGEST_PROFILE = 8192
"""Octets of JSON that a profile may take."""

_DEEPEST_PROFILE = 32
_CONTAINERS = (dict, list, tuple)
_LONGEST_IDEMPOTENCY_KEY = 255
_LONGEST_TTL = timedelta(days=3650)
# PostgreSQL's integer.
_GREATEST_VERSION = 2**31 - 1

_ACTOR = re.compile(r"user|system|admin:[A-Za-z0-9_.-]{1,64}")
_CONSENT_PURPOSE = re.compile(r"[a-z][a-z0-9_]{0,62}")
# No @, because what is checked with it outlives an erasure.
_PRINTABLE = re.compile(r"[\x20-\x3f\x41-\x7e]+")
_CURSOR = re.compile(r"[0-9a-f]{36}")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_REASON = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
_LONGEST_CONSENT_TEXT = 64
_LONGEST_CORRELATION_ID = 128
# A NUL in JSON text: `\u0000` behind an even number of backslashes.
_JSON_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def submission(
    idempotency_key: str | None, address: str, profile: dict[str, Any], consents: list[Consent]
) -> dict[str, bytes | None]:
    """Return the hashes by which a repeated submission is known, and known to be the same."""
    if idempotency_key is None:
        return {"submit_key": None, "submit_digest": None}
    try:
        key = idempotency_key.encode() if isinstance(idempotency_key, str) else b""
    except UnicodeEncodeError:
        key = b""
    if not 1 <= len(key) <= _LONGEST_IDEMPOTENCY_KEY:
        raise InvalidInput(f"the idempotency key is not text of 1 to {_LONGEST_IDEMPOTENCY_KEY} octets of UTF-8")
    agreed = sorted(
        [consent.purpose, consent.document_version, consent.granted, consent.source] for consent in consents
    )
    payload = json.dumps([address, profile, agreed], sort_keys=True, ensure_ascii=False)
    return {"submit_key": sha256(key).digest(), "submit_digest": sha256(payload.encode()).digest()}


def checked_profile(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return *profile* as it will be read back."""
    if not isinstance(profile, Mapping):
        raise InvalidProfile(f"the profile is a {type(profile).__name__}: expected an object")
    given = dict(profile)
    if _deeper_than(_DEEPEST_PROFILE, given):
        raise InvalidProfile(f"the profile is nested more than {_DEEPEST_PROFILE} levels deep")
    encoded, stored, problem = "", None, ""
    try:
        encoded = _ENCODER.encode(given)
        size = len(encoded.encode())
        stored = _DECODER.decode(encoded) if size <= LARGEST_PROFILE else given
    except (TypeError, ValueError) as error:
        problem = f"cannot be written as JSON ({type(error).__name__})"
    if problem:  # outside the `except`: the encoder's frames hold the profile
        raise InvalidProfile(f"the profile {problem}")
    if size > LARGEST_PROFILE:
        raise ProfileTooLarge(f"the profile takes {size} octets of JSON: expected at most {LARGEST_PROFILE}")
    if stored != given:
        raise InvalidProfile(
            "the profile would not come back as it is: expected strings as keys, lists, and floats below 1e22"
        )
    if _JSON_NUL.search(encoded):
        raise InvalidProfile("the profile holds NUL, which PostgreSQL cannot store")
    return given


def _as_postgresql_writes(number: str) -> float | int:
    """Return what comes back for a number that Python writes with a fraction or an exponent; jsonb has no exponents."""
    exact = Decimal(number)
    return int(exact) if "e" in number and exact == exact.to_integral_value() else float(number)


# Made once, because `json.dumps` and `json.loads` make one for each call that has arguments.
_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False)
_DECODER = json.JSONDecoder(parse_float=_as_postgresql_writes)


def _deeper_than(levels: int, value: object) -> bool:
    if not isinstance(value, _CONTAINERS):
        return False
    children = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper_than(levels - 1, child) for child in children if isinstance(child, _CONTAINERS))


def checked_patch(patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return *patch* as what is to be set, what is to be removed, and the names that the trail may hold."""
    given = checked_profile(patch)
    return {
        "patch": {name: value for name, value in given.items() if value is not None},
        "removed": [name for name, value in given.items() if value is None],
        "fields": [name for name in given if _FIELD.fullmatch(name)],
        "largest": LARGEST_PROFILE,
    }


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


def checked_cursor(cursor: str | None) -> UUID:
    """Return the id that a page continues after."""
    if cursor is None:
        return UUID(int=0)
    last = UUID(hex=cursor[:32]) if isinstance(cursor, str) and _CURSOR.fullmatch(cursor) else None
    if last is None or cursor != cursor_after(last):
        raise InvalidCursor("the cursor is not one that list_page gave out")
    return last


def cursor_after(last: UUID) -> str:
    """Return the cursor of the page that begins behind *last*, with two octets by which an edited one is known."""
    return last.hex + blake2s(last.bytes, digest_size=2).hexdigest()


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


def consent_parameters(consents: list[Consent]) -> dict[str, list[Any]]:
    """Return *consents* as the columns that a statement takes."""
    return {
        "consent_ids": [new_id() for _ in consents],
        "consent_purposes": [consent.purpose for consent in consents],
        "consent_versions": [consent.document_version for consent in consents],
        "consent_granted": [consent.granted for consent in consents],
        "consent_sources": [consent.source for consent in consents],
    }


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
