"""How many connections the database allows, and whether what is deployed fits into them."""

from collections.abc import Mapping

_MAX_CONNECTIONS = {32: 5000, 16: 3360, 8: 1669, 4: 823, 1: 189}
_MAX_CONNECTIONS_FROM_HALF = 2000

MOST_CONNECTIONS_EACH = 100
"""How many connections an environment of a function may be said to have."""

RESERVES: Mapping[str, int] = {
    "PostgreSQL's own, for superusers": 3,
    "Aurora's own, for rds_superuser": 2,
    "the rotation of two secrets": 2,
    "the migration": 2,
    "a monitoring agent": 3,
    "operators": 5,
}
"""Connections that no function may take, by who needs them.

The first two are the defaults of `superuser_reserved_connections` and `rds.rds_superuser_reserved_connections`; the
others are ours.
"""

RESERVED = sum(RESERVES.values())
"""Connections that no function may take."""


def max_connections(min_capacity: float, max_capacity: float) -> int:
    """Return the connections that an instance allows at least by default, whatever its capacity is at the moment.

    AWS derives them from the maximum capacity and lists some. Its formula counts memory that it does not publish, so
    between two capacities that are listed the lower one is taken. A minimum of 0 or 0.5 ACU caps them at 2000. A
    change of the capacity shows after the instance is rebooted.

    Source: "Maximum connections for Aurora Serverless v2" in the Aurora User Guide,
    https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-serverless-v2.setting-capacity.html

    Raises:
        ValueError: The maximum is below 1 ACU, which AWS does not offer.
    """
    listed = max((figure for capacity, figure in _MAX_CONNECTIONS.items() if capacity <= max_capacity), default=None)
    if listed is None:
        raise ValueError(f"max_capacity is {max_capacity}: expected 1 ACU or more")
    return listed if min_capacity >= 1 else min(listed, _MAX_CONNECTIONS_FROM_HALF)


def connections_of(reserved_concurrency: int, each: int) -> int:
    """Return the connections that a function holds at most: *each* in every one of its environments."""
    return reserved_concurrency * each
