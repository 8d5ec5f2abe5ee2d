"""The validation of arguments."""

import math
from datetime import timedelta
from typing import Any

import pytest
from support import untyped

from registration_persistence.domain.records import Consent
from registration_persistence.domain.validation import checked_consents, checked_correlation_id, checked_duration
from registration_persistence.errors import InvalidInput


class Liar(str):
    """A text of a subclass that claims to be equal to `terms`."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other == "terms"

    def __hash__(self) -> int:
        return hash("terms")


TEN_YEARS = timedelta(days=3650)


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (timedelta(minutes=1), timedelta(minutes=1)),
        (60, timedelta(minutes=1)),
        (0.25, timedelta(milliseconds=250)),
        (TEN_YEARS, TEN_YEARS),
        (TEN_YEARS.total_seconds(), TEN_YEARS),
    ],
)
def test_a_duration_is_a_timedelta_or_seconds(duration: timedelta | float, expected: timedelta) -> None:
    """The result is a `timedelta`, which PostgreSQL stores as an interval."""
    assert expected == checked_duration("ttl", duration)


@pytest.mark.parametrize(
    "duration",
    [
        0,
        timedelta(0),
        -1,
        timedelta(seconds=-1),
        TEN_YEARS + timedelta(seconds=1),
        1e300,
        math.inf,
        math.nan,
        True,
        "60",
        None,
    ],
)
def test_other_durations_are_rejected(duration: Any) -> None:
    """The error has the name of the argument and the range, and not the value."""
    with pytest.raises(InvalidInput) as raised:
        checked_duration("ttl", duration)

    expected = "ttl is not a timedelta or a number of seconds, more than 0 and at most ten years"
    assert expected == str(raised.value)


@pytest.mark.parametrize("duration", [0, 0.0, timedelta(0)])
def test_zero_is_allowed_if_the_method_allows_it(duration: timedelta | float) -> None:
    """All other limits stay."""
    assert timedelta(0) == checked_duration("min_gap", duration, zero_is_allowed=True)
    with pytest.raises(InvalidInput, match="0 or more and"):
        checked_duration("min_gap", -1, zero_is_allowed=True)


@pytest.mark.parametrize("label", ["r-1", "1-5759e988-bd862e3fe1be46a994272793", "arn:aws:x/y_z.0", "x" * 64])
def test_a_text_that_stays_after_an_erasure_can_be_a_trace_id(label: str) -> None:
    """Trace ids of X-Ray and OpenTelemetry, ARNs and paths are accepted."""
    assert label == checked_correlation_id(label)
    assert [Consent("terms", label, source=label)] == checked_consents([Consent("terms", label, source=label)])


@pytest.mark.parametrize(
    "label",
    ["", "Ada King", "+442071234567", "(0)20 7123", "ada@example.com", "x" * 65, "x\n", "\x00", "Ad\u00e4", "a=b", 7],
)
def test_a_text_that_stays_after_an_erasure_cannot_be_a_name_or_number(label: Any) -> None:
    """The same form holds for correlation ids, and for the versions and sources of consents; no error quotes it."""
    for attempt in (
        lambda: checked_correlation_id(label),
        lambda: checked_consents([Consent("terms", label)]),
        lambda: checked_consents([Consent("terms", "1", source=label)]),
    ):
        with pytest.raises(InvalidInput, match="is not 1 to 64 letters, digits and") as raised:
            attempt()
        assert not label or str(label) not in str(raised.value)


@pytest.mark.parametrize(
    "consent",
    [
        Consent(Liar("No name"), "1"),
        Consent("terms", Liar("No label")),
        Consent("terms", "1", granted=untyped(1)),
        Consent("terms", "1", source=Liar("No label")),
        Consent(untyped(["terms"]), "1"),
    ],
)
def test_a_consent_is_checked_although_it_looks_like_an_earlier_one(consent: Consent) -> None:
    """A valid consent is checked once for all rows; another one is never taken for it."""
    assert [Consent("terms", "terms", source="terms")] == checked_consents([Consent("terms", "terms", source="terms")])
    assert [Consent("terms", "1")] == checked_consents([Consent("terms", "1")])

    with pytest.raises(InvalidInput):
        checked_consents([consent])


def test_a_text_of_a_subclass_becomes_plain_text() -> None:
    """Also if a plain text of the same value was checked before."""
    checked_consents([Consent("terms", "1")])

    (checked,) = checked_consents([Consent(Liar("terms"), Liar("1"))])

    assert {str} == {type(checked.purpose), type(checked.document_version)}
