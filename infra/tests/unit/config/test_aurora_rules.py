"""`config.aurora_rules`: capacity, pause, version, proxy and the budget of connections."""

from collections.abc import Mapping

import pytest
from environment_files import CLUSTER, EXISTING, PAUSE, PROXY, SHIPPED, accepted, problems
from key_values import PAUSE_WORDS
from registration_infra import ApplicationConfig, AuroraConfig, load


def test_a_minimum_above_the_maximum_is_refused() -> None:
    """The minimum capacity must not exceed the maximum, nor the default of the maximum."""
    assert problems(CLUSTER, {"aurora.min_capacity": "1.5"}) == (
        "aurora.min_capacity is 1.5: expected aurora.max_capacity, 1, or less",
    )
    assert problems(CLUSTER, {"aurora.min_capacity": "4", "aurora.max_capacity": "3.5"}) == (
        "aurora.min_capacity is 4: expected aurora.max_capacity, 3.5, or less",
    )


def test_no_budget_for_a_minimum_above_the_maximum() -> None:
    """The budget of connections is not checked if the capacities are wrong."""
    changes = {"aurora.min_capacity": "8", "application.reserved_concurrency": "1000"}

    assert problems(CLUSTER, changes) == ("aurora.min_capacity is 8: expected aurora.max_capacity, 1, or less",)


@pytest.mark.parametrize("capacity", ["1", "1.5", "256"])
def test_a_minimum_equal_to_the_maximum_is_accepted(capacity: str) -> None:
    """A cluster may have a fixed capacity, up to the largest."""
    config = accepted(CLUSTER, {"aurora.min_capacity": capacity, "aurora.max_capacity": capacity})

    assert config.aurora is not None
    assert config.aurora.min_capacity == config.aurora.max_capacity == float(capacity)


@pytest.mark.parametrize("least", ["0", "0.0"])
def test_a_minimum_of_zero_needs_a_pause(least: str) -> None:
    """A cluster with a minimum of 0 ACU needs the idle time after which it pauses."""
    assert problems(CLUSTER, {"aurora.min_capacity": least}) == (
        f"aurora.auto_pause_seconds is missing: expected {PAUSE_WORDS}, because aurora.min_capacity is 0",
    )
    assert accepted(CLUSTER, PAUSE, {"aurora.min_capacity": least}).aurora is not None


@pytest.mark.parametrize("least", [None, "0.5", "1"])
def test_a_pause_needs_a_minimum_of_zero(least: str | None) -> None:
    """A pause is refused if the minimum, or its default, is above 0 ACU."""
    assert problems(CLUSTER, {"aurora.min_capacity": least, "aurora.auto_pause_seconds": "300"}) == (
        f"aurora.auto_pause_seconds is 300: expected only if aurora.min_capacity is 0, but it is {least or 0.5}",
    )


@pytest.mark.parametrize(("version", "first"), [("15.6", "15.7"), ("15.0", "15.7"), ("16.2", "16.3")])
def test_a_version_that_cannot_pause_is_refused(version: str, first: str) -> None:
    """A version of PostgreSQL without support for capacity 0 is refused with the first version that supports it."""
    given_version = {"aurora.engine_version": f'"{version}"'}

    assert problems(CLUSTER, PAUSE, given_version) == (
        f'aurora.engine_version is "{version}": expected {first} or later if aurora.min_capacity is 0',
    )
    assert accepted(CLUSTER, given_version).aurora is not None


@pytest.mark.parametrize("version", ["15.7", "15.10", "16.3", "16.13", "17.0", "18.0"])
def test_a_version_that_can_pause_is_accepted(version: str) -> None:
    """From 15.7, 16.3 and 17 on, every version can pause."""
    config = accepted(CLUSTER, PAUSE, {"aurora.engine_version": f'"{version}"'})

    assert config.aurora is not None
    assert config.aurora.major_version == version[:2]


@pytest.mark.parametrize("rotation", [None, '"alternating"'])
def test_a_proxy_with_alternating_users_is_refused(rotation: str | None) -> None:
    """RDS Proxy does not know the second user; this includes the default rotation."""
    assert problems(CLUSTER, PROXY, {"aurora.rotation": rotation}) == (
        (
            'aurora.rotation is "alternating": expected "single" if aurora.proxy is true, '
            "because RDS Proxy knows only the user of the current version"
        ),
    )


def test_a_proxy_of_a_pausing_cluster_is_refused() -> None:
    """RDS Proxy keeps connections open, so that the cluster would never pause."""
    assert problems(CLUSTER, PROXY, PAUSE) == (
        "aurora.min_capacity is 0: expected 0.5 or more if aurora.proxy is true, which prevents the pause",
    )


def test_a_proxy_with_a_single_user_is_accepted() -> None:
    """A proxy is accepted with a single user and the smallest minimum above 0."""
    config = accepted(CLUSTER, PROXY, {"aurora.min_capacity": "0.5"})

    assert config.aurora is not None
    assert config.aurora.proxy


@pytest.mark.parametrize("rotation", ["alternating", "single"])
def test_a_proxy_with_iam_is_accepted(rotation: str) -> None:
    """Clients and proxy log in with IAM, so there is no user that rotates."""
    aurora = accepted(CLUSTER, PROXY, {"aurora.rotation": f'"{rotation}"', "aurora.authentication": '"iam"'}).aurora

    assert aurora is not None
    assert aurora.uses_iam


@pytest.mark.parametrize(
    ("changes", "least_to_most", "fits", "limit"),
    [
        ({}, "0.5 to 1", 172, 189),
        ({"aurora.min_capacity": "1"}, "1 to 1", 172, 189),
        ({"aurora.max_capacity": "4"}, "0.5 to 4", 806, 823),
        ({"aurora.max_capacity": "7.5"}, "0.5 to 7.5", 806, 823),
        ({"application.connections": "2"}, "0.5 to 1", 86, 189),
        ({"application.connections": "3"}, "0.5 to 1", 57, 189),
        ({"application.connections": "100"}, "0.5 to 1", 1, 189),
        ({"aurora.max_capacity": "64", "application.connections": "10"}, "0.5 to 64", 198, 2000),
        ({**PAUSE, "aurora.max_capacity": "64", "application.connections": "10"}, "0 to 64", 198, 2000),
        (
            {"aurora.min_capacity": "1", "aurora.max_capacity": "32", "application.connections": "10"},
            "1 to 32",
            498,
            5000,
        ),
    ],
)
def test_the_connections_have_to_fit(
    changes: Mapping[str, str | None], least_to_most: str, fits: int, limit: int
) -> None:
    """The connections of the application and the reserve must fit into the limit; if not, the message shows the sum."""
    each = int(changes.get("application.connections") or 1)
    key, one_more = "application.reserved_concurrency", fits + 1

    assert accepted(CLUSTER, changes, {key: str(fits)}).application.reserved_concurrency == fits
    assert problems(CLUSTER, changes, {key: str(one_more)}) == (
        (
            f"{key} is {one_more}: expected {fits} or less, because {one_more} x {each} + 17 in reserve = "
            f"{one_more * each + 17} connections, and {least_to_most} ACU allow {limit}"
        ),
    )


def test_the_default_concurrency_has_to_fit_too() -> None:
    """The default concurrency is also refused if its connections do not fit."""
    assert problems(CLUSTER, {"application.connections": "4"}) == (
        (
            "application.reserved_concurrency is 50: expected 43 or less, because 50 x 4 + 17 in reserve = "
            "217 connections, and 0.5 to 1 ACU allow 189"
        ),
    )


@pytest.mark.parametrize("kind", [{**CLUSTER, **PROXY}, EXISTING], ids=["proxy", "existing"])
def test_no_budget_without_a_limit_of_our_own(kind: Mapping[str, str | None]) -> None:
    """The budget is not checked behind a proxy or for an existing database."""
    changes = {"application.reserved_concurrency": "1000", "application.connections": "100"}

    assert accepted(kind, changes).application == ApplicationConfig(reserved_concurrency=1000, connections=100)


@pytest.mark.parametrize(
    ("least", "most", "connections"), [(0.5, 1, 189), (0.5, 3.5, 189), (0.5, 32, 2000), (1, 32, 5000)]
)
def test_a_cluster_knows_its_connections(least: float, most: float, connections: int) -> None:
    """`max_connections` follows from the capacities."""
    cluster = load(SHIPPED / "prod.toml").aurora
    assert cluster is not None

    other = AuroraConfig.model_validate({**dict(cluster), "min_capacity": least, "max_capacity": most})

    assert other.max_connections == connections
