"""Peppers, and the codes that are hashed with them."""

import base64
import hashlib
import hmac
import json
import traceback
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from registration_persistence import Peppers
from registration_persistence.domain.codes import new_code
from registration_persistence.errors import InvalidInput

KEY = b"a pepper of 32 octets, no fewer!"
SHORT = b"too short for a pepper"
ENCODED = base64.b64encode(KEY).decode()
SOME_ID = UUID("01a20a8a-9603-733d-9a12-6297a9d994f0")
OTHER_ID = UUID("01a20a8a-9603-733d-9a12-6297a9d994f1")


@pytest.mark.parametrize("key_id", [0, -1, 32768, True, "1", 1.0, None])
def test_a_pepper_needs_an_id_that_can_be_stored(key_id: Any) -> None:
    """It is a whole number from 1, as 0 marks a link, to the greatest smallint."""
    with pytest.raises(InvalidInput, match=r"^a pepper's id is not a whole number from 1 to 32767$"):
        Peppers({key_id: KEY})


@pytest.mark.parametrize("key_id", [1, 32767])
def test_the_ids_at_both_ends_are_good(key_id: int) -> None:
    """The bounds belong to the range."""
    assert key_id == Peppers({key_id: KEY}).newest


@pytest.mark.parametrize("key", [b"", KEY[:31], KEY.decode(), bytearray(KEY), None])
def test_a_pepper_is_32_octets_or_more(key: Any) -> None:
    """What is shorter, or not octets, is refused by the id of the pepper and without its value."""
    with pytest.raises(InvalidInput, match=r"^pepper 7 is not 32 bytes or more") as raised:
        Peppers({1: KEY, 7: key})

    assert "octets, no" not in str(raised.value)


def test_every_problem_is_named() -> None:
    """One error lists all that is wrong."""
    with pytest.raises(InvalidInput, match=r"a pepper's id is not .*; pepper 2 is not .*; pepper 3 is not "):
        Peppers({0: KEY, 1: KEY, 2: b"", 3: b""})


def test_there_must_be_a_pepper() -> None:
    """None at all is refused."""
    with pytest.raises(InvalidInput, match="there is no pepper: expected at least one"):
        Peppers({})


def test_the_highest_id_is_the_newest() -> None:
    """The order in which peppers are given, or sorted as text, does not matter."""
    assert 10 == Peppers({9: KEY, 10: KEY, 2: KEY}).newest


def test_repr_shows_ids_alone() -> None:
    """Neither `repr` nor `str` holds a key, in octets, hexadecimal or base64."""
    peppers = Peppers({10: KEY, 2: KEY})

    assert ("<Peppers 2, 10>",) * 2 == (repr(peppers), str(peppers))


def test_later_changes_of_the_mapping_do_not_count() -> None:
    """The peppers are those that were checked."""
    keys = {1: KEY}
    peppers = Peppers(keys)
    keys[2] = b""

    assert [1] == list(peppers.hashes(SOME_ID, "123456"))


def test_reads_the_value_of_a_secret() -> None:
    """Ids are the names of a JSON object, keys its values in base64."""
    other = base64.b64encode(b"\xff" * 33).decode()

    peppers = Peppers.from_json(json.dumps({"1": ENCODED, "12": other}))

    assert 12 == peppers.newest
    assert Peppers({1: KEY, 12: b"\xff" * 33}).hashes(SOME_ID, "123456") == peppers.hashes(SOME_ID, "123456")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        ENCODED,
        json.dumps(ENCODED),
        json.dumps([ENCODED]),
        json.dumps(None),
        json.dumps(7),
        "{}",
        json.dumps({"one": ENCODED}),
        json.dumps({"1.0": ENCODED}),
        json.dumps({"1": ENCODED, "": ENCODED}),
        json.dumps({"1": ENCODED[:-1]}),
        json.dumps({"1": f"*{ENCODED}"}),
        json.dumps({"1": f"{ENCODED}\n"}),
        json.dumps({"1": f"{ENCODED[:20]}\0{ENCODED[20:]}"}),
        json.dumps({"1": f"é{ENCODED}"}),
        json.dumps({"1": None}),
        json.dumps({"1": 7}),
        json.dumps({"1": [ENCODED]}),
        f'{{"1": "{ENCODED}"',
        f'{{"1": "{ENCODED}"}}\0',
        None,
        {"1": ENCODED},
    ],
)
def test_a_secret_of_another_form_is_refused(text: Any) -> None:
    """The error says what is expected, quotes nothing, and no error of a decoder is chained, whose frames hold it."""
    with pytest.raises(InvalidInput) as raised:
        Peppers.from_json(text)

    assert 'the peppers do not have the form {"1": "<base64>"}' == str(raised.value)
    assert (None, None) == (raised.value.__cause__, raised.value.__context__)


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ({"0": ENCODED}, "a pepper's id is not a whole number"),
        ({"32768": ENCODED}, "a pepper's id is not a whole number"),
        ({"-1": ENCODED}, "a pepper's id is not a whole number"),
        ({"1": ""}, "pepper 1 is not 32 bytes or more"),
        ({"1": base64.b64encode(KEY[:31]).decode()}, "pepper 1 is not 32 bytes or more"),
    ],
)
def test_peppers_of_a_secret_are_checked_like_others(secret: dict[str, str], message: str) -> None:
    """Ids and lengths are judged after decoding, and the message holds no key."""
    with pytest.raises(InvalidInput, match=message) as raised:
        Peppers.from_json(json.dumps(secret))

    assert ENCODED[:20] not in str(raised.value)
    assert KEY[:20].decode() not in str(raised.value)


def test_a_code_is_hashed_with_each_pepper() -> None:
    """The hash is HMAC-SHA256 of the registration's id and the digits, so that no two registrations share one."""
    peppers = Peppers({1: KEY, 2: KEY[::-1]})

    assert {
        1: hmac.new(KEY, SOME_ID.bytes + b"012345", hashlib.sha256).digest(),
        2: hmac.new(KEY[::-1], SOME_ID.bytes + b"012345", hashlib.sha256).digest(),
    } == peppers.hashes(SOME_ID, " 012 345\n")
    assert peppers.hashes(SOME_ID, "012345")[1] != peppers.hashes(OTHER_ID, "012345")[1]


@pytest.mark.parametrize(
    "code", ["", "12345", "1234567", "12345x", "-12345", "1_2345", "\uff11" * 6, "\u0661" * 6, "123456\0", "\ud800" * 6]
)
def test_what_is_no_code_has_an_empty_hash(code: str) -> None:
    """No hash that is stored is empty, so it matches none and is judged like a wrong code."""
    assert {1: b"", 2: b""} == Peppers({1: KEY, 2: KEY}).hashes(SOME_ID, code)


def test_codes_are_six_digits_of_every_kind() -> None:
    """Of two thousand codes nearly all differ, and each digit comes up in each place, zero in the first too."""
    codes = [new_code() for _ in range(2000)]

    assert all(len(code) == 6 and code.isascii() and code.isdigit() for code in codes)
    assert [set("0123456789")] * 6 == [set(place) for place in zip(*codes, strict=True)]
    assert len(set(codes)) > 1900


@pytest.mark.parametrize(
    "refused",
    [
        lambda: Peppers({1: SHORT}),
        lambda: Peppers({"x": KEY}),  # type: ignore[dict-item]  # the point
        lambda: Peppers(None),  # type: ignore[arg-type]  # the point
        lambda: Peppers.from_json(json.dumps({"1": base64.b64encode(SHORT).decode()})),
        lambda: Peppers.from_json("[" * 100_000),
        lambda: Peppers.from_json(json.dumps({"1": ENCODED, "01": ENCODED})),
        lambda: Peppers.from_json(json.dumps({"\uff11": ENCODED})),
    ],
)
def test_a_refusal_gives_no_pepper_away(refused: Callable[[], Peppers]) -> None:
    """What an error tracker reads of the package's frames, local variables included, holds no key."""
    with pytest.raises(InvalidInput) as raised:
        refused()

    frames = traceback.TracebackException.from_exception(raised.value, capture_locals=True).stack
    said = "".join(str(frame.locals) for frame in frames if frame.filename != __file__)
    for key in (KEY, SHORT):
        assert repr(key) not in said
        assert base64.b64encode(key).decode() not in said


def test_a_pepper_can_be_known_before_it_is_used() -> None:
    """New codes use the pepper that is named, so that every instance can learn the next one first."""
    assert [2, 1] == [Peppers({1: KEY, 2: KEY}).newest, Peppers({1: KEY, 2: KEY}, newest=1).newest]
    assert Peppers.from_json(json.dumps({"1": ENCODED, "2": ENCODED, "newest": 1})).newest == 1
    with pytest.raises(InvalidInput, match="not one of the given peppers"):
        Peppers({1: KEY}, newest=2)
    with pytest.raises(InvalidInput):
        Peppers.from_json('{"newest": 1}')
