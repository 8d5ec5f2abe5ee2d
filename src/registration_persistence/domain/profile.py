"""Validation of profiles and of patches to them."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from registration_persistence.errors import InvalidProfile, ProfileTooLarge

MAX_PROFILE_BYTES = 8192
"""The largest size of a profile, as JSON."""

_MAX_PROFILE_DEPTH = 32
_CONTAINERS = (dict, list, tuple)

# The names that the event log keeps after an erasure: no part of an address like `ada.lovelace`, no telephone number.
_FIELD = re.compile(r"(?!.*[0-9]{4})[A-Za-z][A-Za-z0-9_]{0,63}")

# A NUL in JSON text: `\u0000` after an even number of backslashes.
_JSON_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def checked_profile(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return *profile* as a dictionary that PostgreSQL stores and returns unchanged.

    Raises:
        InvalidProfile: *profile* is not an object, is nested too deeply, or would be read back with other values.
        ProfileTooLarge: *profile* takes more than `MAX_PROFILE_BYTES`.
    """
    if not isinstance(profile, Mapping):
        raise InvalidProfile(f"the profile is a {type(profile).__name__}: expected an object")
    given = dict(profile)
    if _deeper_than(_MAX_PROFILE_DEPTH, given):
        raise InvalidProfile(f"the profile is nested more than {_MAX_PROFILE_DEPTH} levels deep")
    encoded, stored, problem = "", None, ""
    try:
        encoded = _ENCODER.encode(given)
        size = len(encoded.encode())
        stored = _DECODER.decode(encoded) if size <= MAX_PROFILE_BYTES else given
    except (TypeError, ValueError) as error:
        problem = f"cannot be written as JSON ({type(error).__name__})"
    if problem:  # raised outside of `except`, because the frames of the encoder contain the profile
        raise InvalidProfile(f"the profile {problem}")
    if size > MAX_PROFILE_BYTES:
        raise ProfileTooLarge(f"the profile takes {size} bytes of JSON: expected at most {MAX_PROFILE_BYTES}")
    if stored != given:
        raise InvalidProfile(
            "the profile would be read back with other values: expected strings as keys, lists, and floats below 1e22"
        )
    if _JSON_NUL.search(encoded):
        raise InvalidProfile("the profile contains NUL, which PostgreSQL cannot store")
    return given


def _as_postgresql_writes(number: str) -> float | int:
    """Return the value that PostgreSQL returns for *number*, a JSON number with a fraction or an exponent.

    jsonb stores no exponents, so `1e3` is returned as an integer.
    """
    exact = Decimal(number)
    return int(exact) if "e" in number and exact == exact.to_integral_value() else float(number)


# Created once, because `json.dumps` and `json.loads` create a new one for each call with arguments.
_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False)
_DECODER = json.JSONDecoder(parse_float=_as_postgresql_writes)


def _deeper_than(levels: int, value: object) -> bool:
    if not isinstance(value, _CONTAINERS):
        return False
    children = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper_than(levels - 1, child) for child in children if isinstance(child, _CONTAINERS))


def checked_patch(patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return *patch* as parameters: the fields to set, the fields to remove, and the names for the event log."""
    given = checked_profile(patch)
    return {
        "patch": {name: value for name, value in given.items() if value is not None},
        "removed": [name for name, value in given.items() if value is None],
        "fields": [name for name in given if _FIELD.fullmatch(name)],
        "largest": MAX_PROFILE_BYTES,
    }
