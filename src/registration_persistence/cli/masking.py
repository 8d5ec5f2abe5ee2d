"""Personal data of a person, masked: every masked value is the same text, whatever it was."""

from collections.abc import Mapping
from typing import Any

from registration_persistence.domain.profile import is_field_name

MASK = "***"
"""Replaces a value. It has neither the length nor the domain nor a letter of an address, because many domains belong
to one person, and neither the type nor the number of the values below a field of the profile."""

SHOWN = frozenset(
    {
        # registration
        "id", "status", "version", "email_key_rev", "tokens_issued", "token_issued_at", "created_at", "updated_at",
        "expires_at", "verified_at", "activated_at", "closed_at", "close_reason",
        # tokens
        "purpose", "attempts", "used_at", "replaced_at",
        # consents
        "document_version", "granted", "source", "recorded_at", "seq",
    }
)  # fmt: skip
"""The fields that are no personal data; each stays after an erasure. A field that is not in the list is masked."""


def masked(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of `PrivacyRepository.export_subject` in which personal data is masked.

    `None` and an empty profile stay, because they show that a registration is erased. The names of the fields of a
    profile stay if the event log keeps them, too.

    Args:
        record: The registration, a token or a consent.
    """
    return {name: value if name in SHOWN else _masked_value(value) for name, value in record.items()}


def _masked_value(value: object) -> object:
    if isinstance(value, dict):
        return {name if is_field_name(name) else MASK: MASK for name in value}
    return None if value is None else MASK
