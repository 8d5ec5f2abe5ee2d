"""What callers pass in, checked before anything is sent; each problem is one error that says what was expected."""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from registration_persistence.errors import (
    InvalidConsent,
    InvalidCursor,
    InvalidInput,
    InvalidProfile,
    ProfileTooLarge,
)
from registration_persistence.registrations.base import Status
from registration_persistence.registrations.outcomes import Consent
from registration_persistence.registrations.tokens import digest

LARGEST_PROFILE = 8192
"""Octets of JSON that a profile may take."""

_LONGEST_IDEMPOTENCY_KEY = 255
_LONGEST_TTL = timedelta(days=3650)

_CONSENT_PURPOSE = re.compile(r"[a-z][a-z0-9_]{0,62}")
_CONSENT_TEXT = re.compile(r"[\x20-\x7e]{1,64}")
# A NUL in JSON text: `\u0000` behind an even number of backslashes.
_JSON_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def submission(
    idempotency_key: str | None, address: str, profile: dict[str, Any], consents: list[Consent]
) -> dict[str, bytes | None]:
    """Return the hashes by which a repeated submission is known, and known to be the same."""
    if idempotency_key is None:
        return {"submit_key": None, "submit_digest": None}
    if not isinstance(idempotency_key, str) or not idempotency_key:
        raise InvalidInput("the idempotency key is empty or not a string")
    try:
        key = idempotency_key.encode()
    except UnicodeEncodeError:
        key = b""
    if not 1 <= len(key) <= _LONGEST_IDEMPOTENCY_KEY:
        raise InvalidInput(f"the idempotency key takes {len(key)} octets of UTF-8: expected 1 to 255")
    agreed = sorted(
        [consent.purpose, consent.document_version, consent.granted, consent.source] for consent in consents
    )
    payload = json.dumps([address, profile, agreed], sort_keys=True, ensure_ascii=False)
    return {"submit_key": digest(key), "submit_digest": digest(payload.encode())}


def checked_profile(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return *profile* as PostgreSQL will store it."""
    if not isinstance(profile, Mapping):
        raise InvalidProfile(f"the profile is a {type(profile).__name__}: expected an object")
    copy = dict(profile)
    problem = None
    try:
        encoded = json.dumps(copy, allow_nan=False, ensure_ascii=False)
        size = len(encoded.encode())
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"cannot be written as JSON ({type(error).__name__})"
    else:
        if size > LARGEST_PROFILE:
            raise ProfileTooLarge(f"the profile takes {size} octets of JSON: expected at most {LARGEST_PROFILE}")
        if _JSON_NUL.search(encoded):
            problem = "holds NUL, which PostgreSQL cannot store"
    if problem:
        raise InvalidProfile(f"the profile {problem}")
    return copy


def checked_consents(consents: Iterable[Consent]) -> list[Consent]:
    """Return *consents*, at most one for each purpose."""
    checked = list(consents)
    for consent in checked:
        if not isinstance(consent, Consent):
            raise InvalidConsent(f"a consent is a {type(consent).__name__}: expected a Consent")
        if not isinstance(consent.purpose, str) or not _CONSENT_PURPOSE.fullmatch(consent.purpose):
            raise InvalidConsent(f"the consent's purpose is {consent.purpose!r}: expected lower case, like 'terms'")
        for name in ("document_version", "source"):
            value = getattr(consent, name)
            if not isinstance(value, str) or not _CONSENT_TEXT.fullmatch(value):
                raise InvalidConsent(
                    f"the consent's {name} for {consent.purpose} is {value!r}: expected 1 to 64 of ASCII"
                )
        if not isinstance(consent.granted, bool):
            raise InvalidConsent(f"the consent's granted for {consent.purpose} is {consent.granted!r}: expected a bool")
    if len({consent.purpose for consent in checked}) < len(checked):
        raise InvalidConsent("two consents have the same purpose: expected one for each")
    return checked


def checked_ttl(name: str, ttl: timedelta) -> timedelta:
    """Return *ttl*, the argument *name*, where it is a span of time that makes sense."""
    if not isinstance(ttl, timedelta) or not timedelta(0) < ttl <= _LONGEST_TTL:
        raise InvalidInput(f"{name} is {ttl!r}: expected a timedelta of more than nothing, ten years at most")
    return ttl


def checked_id(registration_id: UUID) -> UUID:
    """Return *registration_id* where it is a UUID."""
    if not isinstance(registration_id, UUID):
        raise InvalidInput(f"the registration's id is a {type(registration_id).__name__}: expected a uuid.UUID")
    return registration_id


def checked_status(status: Status | str) -> str:
    """Return the text that is stored for *status*."""
    if status not in set(Status):
        raise InvalidInput(f"the status is {status!r}: expected one of {', '.join(Status)}")
    return str(status)


def checked_cursor(cursor: str | None) -> UUID:
    """Return the id that a page continues after."""
    if cursor is None:
        return UUID(int=0)
    try:
        return UUID(hex=cursor)
    except (ValueError, AttributeError, TypeError):
        raise InvalidCursor("the cursor is not one that list_page gave out") from None
