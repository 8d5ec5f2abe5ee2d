"""What each key of an environment file may be, alone and together with the others."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

ENVIRONMENTS = ("dev", "staging", "prod")

_LARGEST_CAPACITY = 256
_SHORTEST_RETENTION_IN_PROD = 7
# NAMEDATALEN - 1: PostgreSQL cuts longer identifiers.
_LONGEST_NAME = 63


class Key(NamedTuple):
    """Which values a key may have, as a test and in words."""

    accepts: Callable[[Any], bool]
    expected: str


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    # `type` and not `isinstance`: to Python, true and false are whole numbers too.
    return lambda value: type(value) is int and least <= value <= most


def _capacity(least: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and least <= value <= _LARGEST_CAPACITY and value % 0.5 == 0


def _text(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII | re.DOTALL) is not None


def _name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value.encode()) <= _LONGEST_NAME and "\0" not in value


def _optional(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or accepts(value)


_PROVISION = Key(_flag, "true or false")

CLUSTER: Mapping[str, Key] = {
    "database_name": Key(
        _text(r"[A-Za-z][A-Za-z0-9_]{0,62}"), "a letter, then up to 62 letters, digits or underscores"
    ),
    "deletion_protection": Key(_flag, "true or false"),
    "force_ssl": Key(_flag, "true or false"),
    "min_capacity": Key(_capacity(0), f"0 to {_LARGEST_CAPACITY} ACU in steps of 0.5"),
    "max_capacity": Key(_capacity(1), f"1 to {_LARGEST_CAPACITY} ACU in steps of 0.5"),
    "auto_pause_seconds": Key(_optional(_whole(300, 86400)), "a whole number of seconds, 300 to 86400"),
    "backup_retention_days": Key(_whole(1, 35), "a whole number of days, 1 to 35"),
    "retention_reason": Key(_optional(_text(r".*\S.*")), "a sentence"),
}
"""The keys of a cluster, and what AWS accepts.

Source: in the Amazon RDS API Reference, `ServerlessV2ScalingConfiguration` for the capacities and the pause,
`CreateDBCluster` for the retention and `CreateDBInstance` for the name. The least maximum of 1 ACU is in the Aurora
User Guide, https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-serverless-v2.setting-capacity.html.
"""

EXISTING: Mapping[str, Key] = {
    "host": Key(_text(r"[A-Za-z0-9_.:-]+"), "one host name or IP address"),
    "port": Key(_whole(1, 65535), "a whole number, 1 to 65535"),
    "name": Key(_name, f"the name of the database, 1 to {_LONGEST_NAME} octets"),
    "secret_arn": Key(
        _text(r"arn:(aws|aws-cn|aws-us-gov):secretsmanager:[a-z]{2}(-[a-z]+)+-\d:\d{12}:secret:[\w/+=.@-]+"),
        "arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME, in partition aws, aws-cn or aws-us-gov",
    ),
}
"""The keys of the table `existing`."""


def file_problems(environment: str, values: Mapping[str, Any], *, defaults: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a file.

    Args:
        environment: What the file is named after.
        values: What the file holds.
        defaults: What holds for the keys of a cluster that the file leaves out.
    """
    yield from _unknown_problems({"provision_aurora": None, "existing": None, **CLUSTER}, values)
    yield from table_problems({"provision_aurora": _PROVISION}, values)
    provision = values.get("provision_aurora")
    # Without an answer, what the file holds tells which of the two it was meant to be.
    if provision if isinstance(provision, bool) else "existing" not in values:
        cluster = {**defaults, **values}
        yield from cluster_problems(cluster)
        yield from environment_problems(environment, cluster)
        if "existing" in values:
            yield "existing is set: expected only where provision_aurora is false"
    else:
        yield from environment_problems(environment, {})
        yield from _existing_problems(values)


def table_problems(keys: Mapping[str, Key], values: Mapping[str, Any], *, table: str = "") -> Iterator[str]:
    """Yield each of *keys* that *values* lacks or has wrong; *table* is put before each key."""
    for key, (accepts, expected) in keys.items():
        if key not in values:
            yield f"{table}{key} is missing: expected {expected}"
        elif not accepts(values[key]):
            yield f"{table}{key} is {_shown(values[key])}: expected {expected}"


def cluster_problems(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a cluster in any environment; *values* has the default of each key that is not set."""
    yield from table_problems(CLUSTER, values)
    right = _right(values)
    least, most = right.get("min_capacity"), right.get("max_capacity")
    if least is not None and most is not None and least > most:
        yield f"min_capacity is {_shown(least)}: expected max_capacity, {_shown(most)}, or less"
    # Not from `right`: a pause that is given but wrong is not missing.
    pause = values.get("auto_pause_seconds")
    if least == 0 and pause is None:
        yield f"auto_pause_seconds is missing: expected {CLUSTER['auto_pause_seconds'].expected}, as min_capacity is 0"
    elif least and pause is not None:
        yield f"auto_pause_seconds is {_shown(pause)}: expected only where min_capacity is 0, and it is {_shown(least)}"


def environment_problems(name: str, cluster: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the environment *name* forbids; *cluster* as for `cluster_problems`, empty where there is none."""
    if name not in ENVIRONMENTS:
        yield f"the environment is named {_shown(name)}: expected one of {', '.join(ENVIRONMENTS)}"
    elif name == "prod":
        yield from _production_problems(cluster)


def _existing_problems(values: Mapping[str, Any]) -> Iterator[str]:
    for key in CLUSTER:
        if key in values:
            yield f"{key} is {_shown(values[key])}: expected only where provision_aurora is true"
    existing = values.get("existing")
    if existing is None:
        yield f"existing is missing: expected a table of {', '.join(EXISTING)}, as provision_aurora is false"
    elif not isinstance(existing, dict):
        yield f"existing is {_shown(existing)}: expected a table of {', '.join(EXISTING)}"
    else:
        yield from _unknown_problems(EXISTING, existing, table="existing.")
        yield from table_problems(EXISTING, existing, table="existing.")


def _production_problems(values: Mapping[str, Any]) -> Iterator[str]:
    right = _right(values)
    for key in ("force_ssl", "deletion_protection"):
        if right.get(key) is False:
            yield f"{key} is false: expected true in prod"
    days = right.get("backup_retention_days")
    if days is not None and days < _SHORTEST_RETENTION_IN_PROD and right.get("retention_reason") is None:
        yield (
            f"backup_retention_days is {days}: expected {_SHORTEST_RETENTION_IN_PROD} or more in prod, "
            "or a retention_reason that says why fewer are enough"
        )


def _unknown_problems(known: Mapping[str, Any], values: Mapping[str, Any], *, table: str = "") -> Iterator[str]:
    for key in values:
        if key not in known:
            # Without the value, which may be a password out of place.
            yield f"{table}{key} is not a key: expected one of {', '.join(table + name for name in known)}"


def _shown(value: object) -> str:
    """Return *value* as TOML writes it, or nearly so."""
    return json.dumps(value, default=str, ensure_ascii=False)


def _right(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: values[key] for key, rule in CLUSTER.items() if key in values and rule.accepts(values[key])}
