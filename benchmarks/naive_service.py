"""The validation of a service without this package, for the other side of the comparisons.

It does less than the package: it does not compare Unicode spellings, for example. The comparisons are therefore in
favour of the service.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from email_validator import validate_email

EMAIL_KEY_REVISION = 1
_MAX_CACHED_DOMAINS = 10_000
_MAX_PROFILE_BYTES = 8192


def email_and_key(address: str) -> tuple[str, str]:
    """Return *address* without surrounding white space, and in lower case for comparisons."""
    email = address.strip()
    local_part, _, domain = email.rpartition("@")
    return email, f"{local_part.lower()}@{_ascii_domain(domain)}"


def small_profile(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return *profile* if it is small enough."""
    if len(json.dumps(profile).encode()) > _MAX_PROFILE_BYTES:
        raise ValueError(f"the profile is larger than {_MAX_PROFILE_BYTES} bytes")
    return dict(profile)


@lru_cache(maxsize=_MAX_CACHED_DOMAINS)
def _ascii_domain(domain: str) -> str:
    ascii_domain = validate_email(f"a@{domain}", check_deliverability=False).ascii_domain
    return ascii_domain.lower()
