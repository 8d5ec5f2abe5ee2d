"""`registration_infra.budget`: the connections that the database allows, and the reserved ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registration_infra.budget import (
    MAX_CONNECTIONS_PER_ENVIRONMENT,
    RESERVED,
    RESERVES,
    connections_of,
    max_connections,
)

CAPACITIES = st.integers(2, 512).map(lambda halves: halves / 2)


@pytest.mark.parametrize(("most", "connections"), [(1, 189), (4, 823), (8, 1669), (16, 3360), (32, 5000)])
def test_published_capacity(most: int, connections: int) -> None:
    """A capacity that AWS publishes has the number of connections that AWS publishes."""
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
def test_unpublished_capacity_uses_the_next_lower_one(most: float, connections: int) -> None:
    """A capacity that AWS does not publish has the number of connections of the next lower one."""
    assert max_connections(1, most) == connections


@pytest.mark.parametrize("least", [0, 0.0, 0.5])
@pytest.mark.parametrize(("most", "connections"), [(1, 189), (8, 1669), (15.5, 1669), (16, 2000), (256, 2000)])
def test_low_minimum_limits_the_connections(least: float, most: float, connections: int) -> None:
    """With a minimum of 0 or 0.5 ACU, the limit is 2000 connections at any maximum."""
    assert max_connections(least, most) == connections


@pytest.mark.parametrize(("least", "connections"), [(0.5, 2000), (1, 5000), (1.5, 5000), (32, 5000)])
def test_limit_of_low_minimum_ends_at_one_acu(least: float, connections: int) -> None:
    """From a minimum of 1 ACU on, the number depends only on the maximum."""
    assert max_connections(least, 32) == connections


@pytest.mark.parametrize("most", [0, 0.5, -1, float("nan")])
def test_maximum_below_one_acu_is_an_error(most: float) -> None:
    """The error names the lowest valid maximum."""
    with pytest.raises(ValueError, match=rf"^max_capacity is {most}: expected 1 ACU or more$"):
        max_connections(0, most)


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(least=CAPACITIES, lower=CAPACITIES, higher=CAPACITIES)
def test_more_capacity_never_allows_less(least: float, lower: float, higher: float) -> None:
    """The number of connections never falls when the maximum rises."""
    lower, higher = sorted((lower, higher))

    assert 189 <= max_connections(least, lower) <= max_connections(least, higher) <= 5000


def test_reserved_is_the_sum_of_the_reserves() -> None:
    """Each reserve has a purpose, and `RESERVED` is their sum."""
    assert dict(RESERVES) == {
        "PostgreSQL's reserve for superusers": 3,
        "Aurora's reserve for rds_superuser": 2,
        "the rotation of two secrets": 2,
        "the migration": 2,
        "a monitoring agent": 3,
        "operators": 5,
    }
    assert RESERVED == 17


def test_most_connections_each_fits_the_smallest_cluster() -> None:
    """One execution environment with the highest number of connections fits into the smallest cluster."""
    assert MAX_CONNECTIONS_PER_ENVIRONMENT == 100
    assert connections_of(1, MAX_CONNECTIONS_PER_ENVIRONMENT) + RESERVED <= max_connections(0, 1)


@pytest.mark.parametrize(("concurrency", "each", "connections"), [(1, 1, 1), (50, 1, 50), (1, 7, 7), (20, 3, 60)])
def test_connections_of_a_function(concurrency: int, each: int, connections: int) -> None:
    """Each execution environment that may run at the same time has its own connections."""
    assert connections_of(concurrency, each) == connections
