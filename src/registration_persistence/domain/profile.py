"""Validation of profiles and of patches to them."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from registration_persistence.errors import InvalidProfile, ProfileTooLarge

LARGEST_PROFILE = 8192
"""Octets of JSON that a profile may take."""

_DEEPEST_PROFILE = 32

_CONTAINERS = (dict, list, tuple)

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")

# A NUL in JSON text: `\u0000` behind an even number of backslashes.
_JSON_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


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
