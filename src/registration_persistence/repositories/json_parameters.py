"""Parameters that are texts of JSON, because one text costs the client less than a parameter or an array per value."""

import json
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from registration_persistence.domain.ids import new_id_text
from registration_persistence.domain.records import Consent

_MAX_CACHED_INTERVALS = 100


def consent_rows(consents: list[Consent]) -> list[dict[str, Any]]:
    """Return *consents* as rows with new ids."""
    return [
        {
            "id": new_id_text(),
            "purpose": consent.purpose,
            "document_version": consent.document_version,
            "granted": consent.granted,
            "source": consent.source,
        }
        for consent in consents
    ]


def consent_parameters(consents: list[Consent]) -> dict[str, str]:
    """Return *consents* as the parameter of `CONSENTS_GIVEN`."""
    return {"consents": _encode(consent_rows(consents))}


def sent(values: Mapping[str, Any]) -> dict[str, str]:
    """Return *values* as the parameter of `sent_cte`."""
    return {"sent": _encode(values)}


def _as_postgresql_reads(value: object) -> str:
    """Return the text from which PostgreSQL reads *value*, a value that JSON has no type for."""
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, UUID):
        return value.hex  # a third of the instructions of `str(value)`
    if isinstance(value, timedelta):
        return _interval(value)
    raise TypeError(f"a parameter is a {type(value).__name__}: expected a type that PostgreSQL reads from text")


# Most calls have the same durations. A subclass could claim to be equal to another duration, or have another text.
_interval = lru_cache(_MAX_CACHED_INTERVALS, typed=True)(timedelta.__str__)

# Created once, because `json.dumps` creates a new one for each call with arguments.
_encode = json.JSONEncoder(
    allow_nan=False, ensure_ascii=False, check_circular=False, default=_as_postgresql_reads
).encode
