"""The types of the command line's arguments."""

import argparse
from datetime import UTC, datetime

import pytest

from registration_persistence.cli.arguments import month, names, number, seconds, uuid


@pytest.mark.parametrize(("given", "parsed"), [("1", 1), ("10", 10), (" 7 ", 7)])
def test_numbers_in_the_range_are_accepted(given: str, parsed: int) -> None:
    """The limits belong to the range."""
    assert parsed == number(int, 1, 10)(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0", "0 is out of range: expected a whole number from 1 to 10"),
        ("11", "11 is out of range: expected a whole number from 1 to 10"),
        ("1.5", "'1.5' is not a number: expected a whole number from 1 to 10"),
        ("many", "'many' is not a number: expected a whole number from 1 to 10"),
    ],
)
def test_other_numbers_are_rejected(given: str, message: str) -> None:
    """The message has the value and the range."""
    with pytest.raises(argparse.ArgumentTypeError) as rejected:
        number(int, 1, 10)(given)
    assert str(rejected.value) == message


@pytest.mark.parametrize("given", ["0", "nan", "inf", "-1", "86401"])
def test_seconds_are_a_positive_part_of_a_day(given: str) -> None:
    """Zero, infinity, NaN and more than a day are rejected."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"expected a number from 0\.1 to 86400$"):
        seconds(given)


def test_a_month_starts_in_utc() -> None:
    """`YYYY-MM` is the start of the month in UTC; other forms are rejected."""
    assert month("2026-02") == datetime(2026, 2, 1, tzinfo=UTC)
    with pytest.raises(argparse.ArgumentTypeError, match="'2026' is not a month: expected YYYY-MM"):
        month("2026")


def test_names_are_separated_by_commas() -> None:
    """Spaces and empty names are ignored."""
    assert names(" failover, ,restart,") == ["failover", "restart"]


def test_an_address_in_the_place_of_an_id_is_not_shown() -> None:
    """Another text is shown; an address could stay in a log."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"^an e-mail address is not an id: expected a UUID"):
        uuid("ada@example.com")
    with pytest.raises(argparse.ArgumentTypeError, match=r"^'1' is not an id"):
        uuid("1")
