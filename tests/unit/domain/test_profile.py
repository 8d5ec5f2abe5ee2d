"""The validation of profiles and patches."""

import math
from collections import UserDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registration_persistence.domain.profile import MAX_PROFILE_BYTES, checked_patch, encoded_profile
from registration_persistence.errors import InvalidInput, InvalidProfile, ProfileTooLarge


class Text(str):
    """A text of a subclass."""

    __slots__ = ()


TEXTS = st.text(st.characters(), max_size=5) | st.sampled_from(["x" * 250, "x" * 251, "\0", "\\", Text("a"), "\ud800"])
SCALARS = TEXTS | st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([2**63, -(2**64), 10**5000])


def nested(levels: int, innermost: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return an object with *levels* objects in each other."""
    return {"a": nested(levels - 1, innermost)} if levels > 1 else innermost or {}


def nested_list(levels: int) -> list[Any]:
    """Return a list with *levels* lists in each other."""
    return [nested_list(levels - 1)] if levels > 1 else []


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"name": "Zoë", "tags": [1, 2.5, True, None, {"a": "b"}]},
        nested(32),
        {"a": nested_list(31)},
        nested(32, innermost={"b": 1, "c": "d"}),
        {"a": "x" * (MAX_PROFILE_BYTES - len('{"a": ""}'))},
        {"backslash": "\\u0000"},
        {"number": 1e21},
    ],
    ids=lambda profile: str(profile)[:30],
)
def test_a_profile_is_returned_unchanged(profile: dict[str, Any]) -> None:
    """The limits of depth and size belong to the range."""
    assert profile == encoded_profile(profile)[0]


@pytest.mark.parametrize(
    ("profile", "problem"),
    [
        ([("a", 1)], "the profile is a list: expected an object"),
        (None, "the profile is a NoneType: expected an object"),
        (nested(33), "nested more than 32 levels deep"),
        ({"a": nested_list(32)}, "nested more than 32 levels deep"),
        ({"a": 1, "b": [nested(31)]}, "nested more than 32 levels deep"),
        ({"a": object()}, "cannot be written as JSON"),
        ({"a": math.nan}, "cannot be written as JSON"),
        ({"a": "\ud800"}, "cannot be written as JSON"),
        ({1: "a"}, "would be read back with other values"),
        ({"a": (1, 2)}, "would be read back with other values"),
        ({"a": "x\0y"}, "contains NUL"),
        ({"x\0y": 1}, "contains NUL"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_other_profiles_are_rejected(profile: Any, problem: str) -> None:
    """The error names the problem, and no error of the encoder is chained, whose frames contain the profile."""
    with pytest.raises(InvalidProfile, match=problem) as raised:
        encoded_profile(profile)

    assert (None, None) == (raised.value.__cause__, raised.value.__context__)


def test_a_larger_profile_has_an_error_of_its_own() -> None:
    """The size is that of the JSON text in UTF-8."""
    with pytest.raises(ProfileTooLarge, match="the profile takes 8209 bytes of JSON: expected at most 8192"):
        encoded_profile({"a": "é" * 4100})


@given(st.dictionaries(TEXTS | st.integers(), SCALARS | st.lists(SCALARS, max_size=1), max_size=60))
def test_a_small_profile_has_the_same_rules(profile: dict[Any, Any]) -> None:
    """A dictionary of scalars, which is checked in a shorter way, has the result of any other mapping."""
    assert outcome_of(UserDict(profile)) == outcome_of(profile)


def outcome_of(profile: Any) -> str:
    """Return the checked profile with the types of its texts, or the error."""
    try:
        checked = encoded_profile(profile)[0]
    except InvalidInput as error:
        return repr(error)
    assert checked is not profile
    return repr([(name, type(name), value, type(value)) for name, value in checked.items()])


def test_a_patch_sets_and_removes_fields() -> None:
    """A field that is None is removed, and the event log has only names in the form of an identifier."""
    assert {
        "patch": {"name": "Ada", "a b": 1},
        "removed": ["city"],
        "fields": ["name", "city"],
        "largest": MAX_PROFILE_BYTES,
    } == checked_patch({"name": "Ada", "city": None, "a b": 1})


def test_only_names_of_fields_reach_the_event_log() -> None:
    """A part of an address, a telephone number or a sentence that is used as a name is stored, but not recorded."""
    names = [
        "city",
        "displayName",
        "address_2",
        "ada.lovelace",
        "ada-lovelace",
        "tel_442071234567",
        "_x",
        "1",
        "x" * 65,
    ]
    names += ["ada@example.com", "Ada King", "line\n", ""]

    assert ["city", "displayName", "address_2"] == checked_patch(dict.fromkeys(names, 1))["fields"]
