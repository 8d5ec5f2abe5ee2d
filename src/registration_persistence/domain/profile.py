"""Validation of profiles and of patches to them."""

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from registration_persistence.errors import InvalidProfile, ProfileTooLarge
from registration_persistence.lazy_pattern import lazy_pattern

MAX_PROFILE_BYTES = 8192
"""The largest size of a profile, as JSON."""

_MAX_PROFILE_DEPTH = 32

# A profile that is larger than this is not encoded, so its exact size is not known.
_MAX_ENCODED_CHARACTERS = 4 * MAX_PROFILE_BYTES

# Limits of a profile that takes the short way; together they are less than `_MAX_ENCODED_CHARACTERS`.
_MAX_FLAT_FIELDS = 50
_MAX_FLAT_CHARACTERS = 250
_MAX_FLAT_BITS = 63

# The names that the event log keeps after an erasure: no part of an address like `ada.lovelace`, no telephone number.
_FIELD = lazy_pattern(r"(?!.*[0-9]{4})[A-Za-z][A-Za-z0-9_]{0,63}")

# A NUL in JSON text: `\u0000` after an even number of backslashes.
_JSON_NUL = lazy_pattern(r"(?<!\\)(?:\\\\)*\\u0000")


def encoded_profile(profile: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return a copy of *profile* that PostgreSQL stores and returns unchanged, and its JSON.

    Raises:
        InvalidProfile: *profile* is not an object, is nested too deeply, or would be read back with other values.
        ProfileTooLarge: *profile* takes more than `MAX_PROFILE_BYTES`.
    """
    if not isinstance(profile, Mapping):
        raise InvalidProfile(f"the profile is a {type(profile).__name__}: expected an object")
    given = _flat_copy(profile)
    is_read_back = given is not None
    if given is None:
        given = _BoundedCopy().object_of(profile, _MAX_PROFILE_DEPTH)
    encoded, stored, problem = "", given, ""
    try:
        encoded = _ENCODER.encode(given)
        size = len(encoded.encode())
        if not is_read_back and size <= MAX_PROFILE_BYTES:
            stored = _DECODER.decode(encoded)
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
    if "\\u0000" in encoded and _JSON_NUL.search(encoded):
        raise InvalidProfile("the profile contains NUL, which PostgreSQL cannot store")
    return given, encoded


def _flat_copy(profile: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a copy of *profile* if it is a small object of scalars that JSON represents exactly, otherwise `None`.

    Most profiles are. Such a profile needs no limit while it is copied, and no comparison with what is read back.
    """
    if type(profile) is not dict or len(profile) > _MAX_FLAT_FIELDS:
        return None
    given = profile.copy()
    for name, value in given.items():
        kind = type(value)
        if kind is str:
            is_exact = len(value) <= _MAX_FLAT_CHARACTERS
        elif kind is int:
            is_exact = value.bit_length() <= _MAX_FLAT_BITS
        else:
            is_exact = kind is bool or value is None
        if not is_exact or type(name) is not str or len(name) > _MAX_FLAT_CHARACTERS:
            return None
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


def is_field_name(name: str) -> bool:
    """Return whether a name of a field of a profile is kept by the event log after an erasure.

    Args:
        name: The name of the field.
    """
    return _FIELD.fullmatch(name) is not None


class _BoundedCopy:
    """Copies a value, and stops as soon as its JSON must be too large.

    A value that occurs several times counts each time, as it is written each time. Objects and lists become those of
    Python, because a subclass could return other items to the encoder.
    """

    def __init__(self) -> None:
        self._characters = 0

    def object_of(self, mapping: Mapping[Any, Any], levels: int) -> dict[Any, Any]:
        """Return *mapping* as a dictionary, whose values have at most *levels* - 1 levels."""
        self._enter(levels)
        items = dict.items(mapping) if isinstance(mapping, dict) else mapping.items()
        return {self._scalar(key): self._value(value, levels - 1) for key, value in items}

    def _value(self, value: Any, levels: int) -> Any:
        if isinstance(value, dict):
            return self.object_of(value, levels)
        if isinstance(value, list):
            return self._items(list.__iter__(value), levels)
        if isinstance(value, tuple):  # it stays one, because it would be read back as a list
            return tuple(self._items(tuple.__iter__(value), levels))
        return self._scalar(value)

    def _items(self, values: Iterable[Any], levels: int) -> list[Any]:
        self._enter(levels)
        return [self._value(value, levels - 1) for value in values]

    def _scalar(self, value: Any) -> Any:
        """Return *value*, and count the least number of characters that it takes with the separator after it."""
        if isinstance(value, str):
            self._count(str.__len__(value))
            return str.__str__(value)
        self._count(int.bit_length(value) // 4 if isinstance(value, int) else 1)
        return value

    def _enter(self, levels: int) -> None:
        if levels <= 0:
            raise InvalidProfile(f"the profile is nested more than {_MAX_PROFILE_DEPTH} levels deep")
        self._count(1)

    def _count(self, characters: int) -> None:
        self._characters += characters + 2
        if self._characters > _MAX_ENCODED_CHARACTERS:
            raise ProfileTooLarge(
                f"the profile takes more than {_MAX_ENCODED_CHARACTERS} bytes of JSON: "
                f"expected at most {MAX_PROFILE_BYTES}"
            )


def checked_patch(patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return *patch* as parameters: the fields to set, the fields to remove, and the names for the event log."""
    given = encoded_profile(patch)[0]
    return {
        "patch": {name: value for name, value in given.items() if value is not None},
        "removed": [name for name, value in given.items() if value is None],
        "fields": [name for name in given if is_field_name(name)],
        "largest": MAX_PROFILE_BYTES,
    }
