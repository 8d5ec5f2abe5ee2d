"""The hashes by which a repeated submission is recognised."""

import json
from hashlib import sha256
from typing import Any

from registration_persistence.domain.records import Consent
from registration_persistence.errors import InvalidInput

_LONGEST_IDEMPOTENCY_KEY = 255


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
