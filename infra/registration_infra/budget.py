"""The connection budget: the number of connections that the database allows, and the number reserved for others."""

from collections.abc import Mapping

_MAX_CONNECTIONS_BY_CAPACITY = {32: 5000, 16: 3360, 8: 1669, 4: 823, 1: 189}
_MAX_CONNECTIONS_BELOW_ONE_ACU = 2000

MAX_CONNECTIONS_PER_ENVIRONMENT = 100
"""The highest number of connections that can be configured for one execution environment of a function."""

RESERVES: Mapping[str, int] = {
    "PostgreSQL's reserve for superusers": 3,
    "Aurora's reserve for rds_superuser": 2,
    "the rotation of two secrets": 2,
    "the migration": 2,
    "a monitoring agent": 3,
    "operators": 5,
}
"""The connections that functions must leave free, by purpose.

The first two are the defaults of `superuser_reserved_connections` and `rds.rds_superuser_reserved_connections`. The
others are our own choice.
"""

RESERVED = sum(RESERVES.values())
"""The total number of connections that functions must leave free."""


def max_connections(min_capacity: float, max_capacity: float) -> int:
    """Return the number of connections that an instance allows at least, at any capacity in its range.

    AWS derives the number from the maximum capacity and publishes it for some capacities. Between two published
    capacities, this function uses the lower one, because the formula depends on figures that AWS does not publish. A
    minimum of 0 or 0.5 ACU limits the number to 2000. After a change of the capacity, the number changes only when
    the instance is rebooted.

    Source: "Maximum connections for Aurora Serverless v2" in the Aurora User Guide,
    https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-serverless-v2.setting-capacity.html

    Args:
        min_capacity: The minimum capacity of the cluster, in ACU.
        max_capacity: The maximum capacity of the cluster, in ACU; 1 or more.

    Raises:
        ValueError: The maximum capacity is below 1 ACU, the lowest that AWS offers.
    """
    published = [number for capacity, number in _MAX_CONNECTIONS_BY_CAPACITY.items() if capacity <= max_capacity]
    if not published:
        raise ValueError(f"max_capacity is {max_capacity}: expected 1 ACU or more")
    limit = max(published)
    return limit if min_capacity >= 1 else min(limit, _MAX_CONNECTIONS_BELOW_ONE_ACU)


def connections_of(reserved_concurrency: int, connections: int) -> int:
    """Return the highest number of connections of a function.

    Args:
        reserved_concurrency: The number of its execution environments that may run at the same time.
        connections: The number of connections of each execution environment.
    """
    return reserved_concurrency * connections
