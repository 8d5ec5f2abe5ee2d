"""`registration_infra.budget`: how many connections the database allows, and how many are kept back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registration_infra.budget import MOST_CONNECTIONS_EACH, RESERVED, RESERVES, connections_of, max_connections

CAPACITIES = st.integers(2, 512).map(lambda halves: halves / 2)


@pytest.mark.parametrize(("most", "connections"), [(1, 189), (4, 823), (8, 1669), (16, 3360), (32, 5000)])
def test_a_listed_capacity_has_its_figure(most: int, connections: int) -> None:
    """A capacity that AWS lists allows what AWS lists."""
    assert max_connections(1, most) == connections


@pytest.mark.parametrize(
    ("most", "connections"),
    [
        (1.5, 189),
        (3.5, 189),
        (4.5, 823),
        (7.5, 823),
        (8.5, 1669),
        (15.5, 1669),
        (16.5, 3360),
        (31.5, 3360),
        (32.5, 5000),
        (64, 5000),
        (256, 5000),
    ],
)
def test_between_two_capacities_the_lower_counts(most: float, connections: int) -> None:
    """A capacity that AWS does not list allows at least what the next lower one allows."""
    assert max_connections(1, most) == connections


@pytest.mark.parametrize("least", [0, 0.0, 0.5])
@pytest.mark.parametrize(("most", "connections"), [(1, 189), (8, 1669), (15.5, 1669), (16, 2000), (256, 2000)])
def test_a_low_minimum_caps_them(least: float, most: float, connections: int) -> None:
    """A cluster that goes down to 0 or 0.5 ACU allows at most 2000 connections, however large it can become."""
    assert max_connections(least, most) == connections


@pytest.mark.parametrize(("least", "connections"), [(0.5, 2000), (1, 5000), (1.5, 5000), (32, 5000)])
def test_the_cap_ends_at_one_acu(least: float, connections: int) -> None:
    """From a minimum of 1 ACU the connections follow the maximum alone."""
    assert max_connections(least, 32) == connections


@pytest.mark.parametrize("most", [0, 0.5, -1, float("nan")])
def test_refuses_a_maximum_that_there_is_not(most: float) -> None:
    """Below 1 ACU there is no figure, and the error says which values there are."""
    with pytest.raises(ValueError, match=rf"^max_capacity is {most}: expected 1 ACU or more$"):
        max_connections(0, most)


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(least=CAPACITIES, lower=CAPACITIES, higher=CAPACITIES)
def test_more_capacity_never_allows_less(least: float, lower: float, higher: float) -> None:
    """The figure never falls as the maximum rises."""
    lower, higher = sorted((lower, higher))

    assert 189 <= max_connections(least, lower) <= max_connections(least, higher) <= 5000


def test_the_reserve_is_what_its_parts_are() -> None:
    """What is kept back is named part by part, and is the sum of them."""
    assert dict(RESERVES) == {
        "PostgreSQL's own, for superusers": 3,
        "Aurora's own, for rds_superuser": 2,
        "the rotation of two secrets": 2,
        "the migration": 2,
        "a monitoring agent": 3,
        "operators": 5,
    }
    assert RESERVED == 17


def test_a_function_of_the_most_connections_fits_the_smallest_cluster() -> None:
    """An environment with as many connections as it may have fits at least once, so that a fix can be named."""
    assert MOST_CONNECTIONS_EACH == 100
    assert connections_of(1, MOST_CONNECTIONS_EACH) + RESERVED <= max_connections(0, 1)


@pytest.mark.parametrize(("concurrency", "each", "connections"), [(1, 1, 1), (50, 1, 50), (1, 7, 7), (20, 3, 60)])
def test_each_environment_of_a_function_counts(concurrency: int, each: int, connections: int) -> None:
    """A function holds its connections once for every environment that may run at the same time."""
    assert connections_of(concurrency, each) == connections
