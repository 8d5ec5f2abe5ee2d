"""`Peppers`, and the short codes that are hashed with them."""

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

KEY = b"a pepper of 32 bytes, for tests!"
SHORT = b"too short for a pepper"
ENCODED = base64.b64encode(KEY).decode()
SOME_ID = UUID("01a20a8a-9603-733d-9a12-6297a9d994f0")
OTHER_ID = UUID("01a20a8a-9603-733d-9a12-6297a9d994f1")
WITHOUT_ID: Any = {"x": KEY}
WITHOUT_MAPPING: Any = None


@pytest.mark.parametrize("key_id", [0, -1, 32768, True, "1", 1.0, None])
def test_the_id_of_a_pepper_is_a_positive_smallint(key_id: Any) -> None:
    """It is a whole number from 1 to 32767; 0 is the id of hashes of tokens."""
    with pytest.raises(InvalidInput, match=r"^a pepper's id is not a whole number from 1 to 32767$"):
        Peppers({key_id: KEY})


@pytest.mark.parametrize("key_id", [1, 32767])
def test_the_limits_of_the_ids_are_allowed(key_id: int) -> None:
    """The range includes its limits."""
    assert key_id == Peppers({key_id: KEY}).newest


@pytest.mark.parametrize("key", [b"", KEY[:31], KEY.decode(), bytearray(KEY), None])
def test_a_pepper_has_32_bytes_or_more(key: Any) -> None:
    """A shorter value, or one that is not bytes, is rejected; the error has the id and not the value."""
    with pytest.raises(InvalidInput, match=r"^pepper 7 is not 32 bytes or more") as raised:
        Peppers({1: KEY, 7: key})

    assert "bytes, for" not in str(raised.value)


def test_all_problems_are_reported_together() -> None:
    """One error lists the problems of all peppers."""
    with pytest.raises(InvalidInput, match=r"a pepper's id is not .*; pepper 2 is not .*; pepper 3 is not "):
        Peppers({0: KEY, 1: KEY, 2: b"", 3: b""})


def test_at_least_one_pepper_is_needed() -> None:
    """An empty mapping is rejected."""
    with pytest.raises(InvalidInput, match="there is no pepper: expected at least one"):
        Peppers({})


def test_the_highest_id_is_the_newest() -> None:
    """Ids are compared as numbers, and the order of the mapping does not matter."""
    assert 10 == Peppers({9: KEY, 10: KEY, 2: KEY}).newest


def test_repr_shows_only_ids() -> None:
    """Neither `repr` nor `str` contains a key, as bytes, hexadecimal or base64."""
    peppers = Peppers({10: KEY, 2: KEY})

    assert ("<Peppers 2, 10>",) * 2 == (repr(peppers), str(peppers))


def test_the_mapping_is_copied() -> None:
    """A change of the mapping after the validation has no effect."""
    keys = {1: KEY}
    peppers = Peppers(keys)
    keys[2] = b""

    assert [1] == list(peppers.hashes(SOME_ID, "123456"))


def test_peppers_are_read_from_json() -> None:
    """The names of a JSON object are ids, and its values are keys in base64."""
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
def test_json_of_another_form_is_rejected(text: Any) -> None:
    """The error has the expected form and no value, and no decoder's error is chained, whose frames hold the secret."""
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
def test_peppers_in_json_have_the_same_limits(secret: dict[str, str], message: str) -> None:
    """Ids and lengths are checked after decoding, and the error contains no key."""
    with pytest.raises(InvalidInput, match=message) as raised:
        Peppers.from_json(json.dumps(secret))

    assert ENCODED[:20] not in str(raised.value)
    assert KEY[:20].decode() not in str(raised.value)


def test_a_code_is_hashed_with_each_pepper() -> None:
    """The hash is HMAC-SHA256 of the id and the digits, which differs between registrations."""
    peppers = Peppers({1: KEY, 2: KEY[::-1]})

    assert {
        1: hmac.new(KEY, SOME_ID.bytes + b"012345", hashlib.sha256).digest(),
        2: hmac.new(KEY[::-1], SOME_ID.bytes + b"012345", hashlib.sha256).digest(),
    } == peppers.hashes(SOME_ID, " 012 345\n")
    assert peppers.hashes(SOME_ID, "012345")[1] != peppers.hashes(OTHER_ID, "012345")[1]


@pytest.mark.parametrize(
    "code", ["", "12345", "1234567", "12345x", "-12345", "1_2345", "\uff11" * 6, "\u0661" * 6, "123456\0", "\ud800" * 6]
)
def test_the_hash_of_an_invalid_code_is_empty(code: str) -> None:
    """No stored hash is empty, so an invalid code is treated like a wrong one."""
    assert {1: b"", 2: b""} == Peppers({1: KEY, 2: KEY}).hashes(SOME_ID, code)


def test_codes_have_six_random_digits() -> None:
    """In two thousand codes nearly all differ, and each digit occurs at each place."""
    codes = [new_code() for _ in range(2000)]

    assert all(len(code) == 6 and code.isascii() and code.isdigit() for code in codes)
    assert [set("0123456789")] * 6 == [set(place) for place in zip(*codes, strict=True)]
    assert len(set(codes)) > 1900


@pytest.mark.parametrize(
    "create",
    [
        lambda: Peppers({1: SHORT}),
        lambda: Peppers(WITHOUT_ID),
        lambda: Peppers(WITHOUT_MAPPING),
        lambda: Peppers.from_json(json.dumps({"1": base64.b64encode(SHORT).decode()})),
        lambda: Peppers.from_json("[" * 100_000),
        lambda: Peppers.from_json(json.dumps({"1": ENCODED, "01": ENCODED})),
        lambda: Peppers.from_json(json.dumps({"\uff11": ENCODED})),
    ],
)
def test_a_traceback_contains_no_pepper(create: Callable[[], Peppers]) -> None:
    """Error trackers send local variables; those of the package's frames contain no key."""
    with pytest.raises(InvalidInput) as raised:
        create()

    frames = traceback.TracebackException.from_exception(raised.value, capture_locals=True).stack
    variables = "".join(str(frame.locals) for frame in frames if frame.filename != __file__)
    for key in (KEY, SHORT):
        assert repr(key) not in variables
        assert base64.b64encode(key).decode() not in variables


def test_a_pepper_can_be_distributed_before_its_use() -> None:
    """New codes use the pepper `newest`, so that all instances can receive the next one first."""
    assert [2, 1] == [Peppers({1: KEY, 2: KEY}).newest, Peppers({1: KEY, 2: KEY}, newest=1).newest]
    assert Peppers.from_json(json.dumps({"1": ENCODED, "2": ENCODED, "newest": 1})).newest == 1
    with pytest.raises(InvalidInput, match="not one of the given peppers"):
        Peppers({1: KEY}, newest=2)
    with pytest.raises(InvalidInput):
        Peppers.from_json('{"newest": 1}')
