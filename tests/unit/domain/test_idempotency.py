"""The hashes of an idempotent submission."""

import hashlib
from typing import Any

import pytest

from registration_persistence import Consent
from registration_persistence.domain.idempotency import submission_hashes
from registration_persistence.errors import InvalidInput

TERMS, NEWS = Consent("terms", "1"), Consent("news", "1", granted=False)


def digest(address: str = "ada@example.com", profile: Any = None, consents: Any = (TERMS, NEWS)) -> bytes | None:
    """Return the hash of a payload."""
    return submission_hashes("key", address, profile or {"a": 1, "b": [2]}, list(consents))["submit_digest"]


def test_without_a_key_there_are_no_hashes() -> None:
    """Both columns are NULL."""
    hashes = submission_hashes(None, "ada@example.com", {}, [])

    assert {"submit_key": None, "submit_digest": None} == hashes


def test_the_key_is_stored_as_its_sha_256() -> None:
    """The longest key has 255 bytes of UTF-8."""
    key = "é" * 127 + "x"

    assert hashlib.sha256(key.encode()).digest() == submission_hashes(key, "ada@example.com", {}, [])["submit_key"]


@pytest.mark.parametrize("key", ["", "x" * 256, "é" * 128, "\ud800", 7, b"key"])
def test_other_keys_are_rejected(key: Any) -> None:
    """The error has the limits."""
    with pytest.raises(InvalidInput, match="is not text of 1 to 255 bytes of UTF-8"):
        submission_hashes(key, "ada@example.com", {}, [])


def test_the_order_of_fields_and_consents_is_ignored() -> None:
    """A form that is submitted again may list them in another order."""
    assert digest() == digest(profile={"b": [2], "a": 1}, consents=(NEWS, TERMS))


@pytest.mark.parametrize(
    "change",
    [
        {"address": "bob@example.com"},
        {"profile": {"a": 1, "b": [3]}},
        {"profile": {"a": "1", "b": [2]}},
        {"consents": [TERMS]},
        {"consents": [TERMS, Consent("news", "1")]},
        {"consents": [TERMS, Consent("news", "2", granted=False)]},
        {"consents": [TERMS, Consent("news", "1", granted=False, source="app")]},
    ],
)
def test_any_other_payload_has_another_hash(change: dict[str, Any]) -> None:
    """Address, profile and every field of a consent belong to the payload."""
    assert digest() != digest(**change)
