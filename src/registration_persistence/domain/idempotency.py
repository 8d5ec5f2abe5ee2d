"""`submission_hashes`: the hashes by which a repeated submission is recognised."""

import json
from hashlib import sha256
from typing import Any

from registration_persistence.domain.records import Consent
from registration_persistence.domain.text import plain_text
from registration_persistence.errors import InvalidInput

_MAX_KEY_BYTES = 255

# Created once, because `json.dumps` creates a new one for each call with arguments.
_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


def submission_hashes(
    idempotency_key: str | None, address: str, profile: dict[str, Any], consents: list[Consent]
) -> dict[str, bytes | None]:
    """Return the hash of the key, which recognises a repetition, and the hash of the payload, which must be the same.

    Raises:
        InvalidInput: *idempotency_key* is not text of 1 to 255 bytes.
    """
    if idempotency_key is None:
        return {"submit_key": None, "submit_digest": None}
    try:
        key = (plain_text(idempotency_key, _MAX_KEY_BYTES) or "").encode()
    except UnicodeEncodeError:
        key = b""
    if not 1 <= len(key) <= _MAX_KEY_BYTES:
        raise InvalidInput(f"the idempotency key is not text of 1 to {_MAX_KEY_BYTES} bytes of UTF-8")
    decisions = sorted(
        [consent.purpose, consent.document_version, consent.granted, consent.source] for consent in consents
    )
    payload = _encode([address, profile, decisions])
    return {"submit_key": sha256(key).digest(), "submit_digest": sha256(payload.encode()).digest()}
