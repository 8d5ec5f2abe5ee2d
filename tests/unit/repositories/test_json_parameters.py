"""`json_parameters`: the values in the JSON are texts from which PostgreSQL reads the same values."""

import json
from datetime import timedelta
from uuid import UUID

import pytest

from registration_persistence.repositories.json_parameters import sent


class Longer(timedelta):
    """A duration that claims to be longer."""

    def __str__(self) -> str:
        return "10 years"


def test_values_without_a_type_in_json_are_texts() -> None:
    """PostgreSQL reads each of them exactly."""
    values = {
        "id": UUID("01920000-0000-7000-8000-00000000000a"),
        "hash": b"\x00\xff",
        "ttl": timedelta(days=7, microseconds=1),
        "name": 'Zo\u00eb "\\',
        "nothing": None,
    }

    assert json.loads(sent(values)["sent"]) == {
        "id": "0192000000007000800000000000000a",
        "hash": "\\x00ff",
        "ttl": "7 days, 0:00:00.000001",
        "name": 'Zo\u00eb "\\',
        "nothing": None,
    }


def test_the_text_of_a_duration_is_that_of_its_value() -> None:
    """A subclass changes neither its own text nor that of an equal duration."""
    for duration in (Longer(days=3), timedelta(days=3)):
        assert json.loads(sent({"ttl": duration})["sent"]) == {"ttl": "3 days, 0:00:00"}


def test_other_types_are_rejected() -> None:
    """The error names the type, and quotes no value."""
    with pytest.raises(TypeError, match="a parameter is a complex: expected"):
        sent({"id": 2j})
