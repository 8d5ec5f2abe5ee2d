"""Rules across the keys of [aurora], and between them and the keys of [application]."""

from collections.abc import Iterator
from typing import Final

from registration_infra.budget import RESERVED, connections_of, max_connections
from registration_infra.config.aurora import AuroraConfig
from registration_infra.config.table import expected_value
from registration_infra.config.toml_text import toml_text
from registration_infra.config.valid_values import Values, is_left_out

_MIN_RETENTION_DAYS_IN_PROD: Final = 7
# The first minor version of Aurora PostgreSQL that supports capacity 0, by major version; later majors all do.
_MIN_MINOR_VERSION_TO_PAUSE: Final = {15: 7, 16: 3}


def aurora_problems(environment: Values) -> Iterator[str]:
    """Yield the problems of the cluster, for the valid values of an environment."""
    aurora = environment.get("aurora")
    if aurora is None:
        return
    yield from _capacity_problems(aurora)
    yield from _pause_problems(aurora)
    yield from _version_problems(aurora)
    yield from _proxy_problems(aurora)
    yield from _budget_problems(aurora, environment.get("application", {}))
    if environment.get("name") == "prod":
        yield from _production_problems(aurora)


def _capacity_problems(aurora: Values) -> Iterator[str]:
    least, most = aurora.get("min_capacity"), aurora.get("max_capacity")
    if least is not None and most is not None and least > most:
        yield f"aurora.min_capacity is {toml_text(least)}: expected aurora.max_capacity, {toml_text(most)}, or less"


def _pause_problems(aurora: Values) -> Iterator[str]:
    least, pause = aurora.get("min_capacity"), aurora.get("auto_pause_seconds")
    if least == 0 and is_left_out(aurora, "auto_pause_seconds"):
        expected = expected_value(AuroraConfig.model_fields["auto_pause_seconds"])
        yield f"aurora.auto_pause_seconds is missing: expected {expected}, because aurora.min_capacity is 0"
    elif least and pause is not None:
        yield (
            f"aurora.auto_pause_seconds is {toml_text(pause)}: "
            f"expected only if aurora.min_capacity is 0, but it is {toml_text(least)}"
        )


def _version_problems(aurora: Values) -> Iterator[str]:
    version = aurora.get("engine_version")
    if version is None or aurora.get("min_capacity") != 0:
        return
    major, minor = map(int, version.split("."))
    if minor < _MIN_MINOR_VERSION_TO_PAUSE.get(major, 0):
        yield (
            f"aurora.engine_version is {toml_text(version)}: "
            f"expected {major}.{_MIN_MINOR_VERSION_TO_PAUSE[major]} or later if aurora.min_capacity is 0"
        )


def _proxy_problems(aurora: Values) -> Iterator[str]:
    if not aurora.get("proxy"):
        return
    if aurora.get("rotation") == "alternating" and aurora.get("authentication") == "secret":
        yield (
            'aurora.rotation is "alternating": expected "single" if aurora.proxy is true, '
            "because RDS Proxy knows only the user of the current version"
        )
    if aurora.get("min_capacity") == 0:
        yield "aurora.min_capacity is 0: expected 0.5 or more if aurora.proxy is true, which prevents the pause"


def _budget_problems(aurora: Values, application: Values) -> Iterator[str]:
    # Invalid values are reported already, and give no sum.
    if not aurora.keys() >= {"min_capacity", "max_capacity", "proxy"}:
        return
    if not application.keys() >= {"reserved_concurrency", "connections"}:
        return
    least, most = aurora["min_capacity"], aurora["max_capacity"]
    concurrency, each = application["reserved_concurrency"], application["connections"]
    # A proxy shares its connections and keeps to the limit by itself.
    if aurora["proxy"] or least > most:
        return
    limit, needed = max_connections(least, most), connections_of(concurrency, each) + RESERVED
    if needed > limit:
        yield (
            f"application.reserved_concurrency is {concurrency}: expected {(limit - RESERVED) // each} or less, "
            f"because {concurrency} x {each} + {RESERVED} in reserve = {needed} connections, and "
            f"{toml_text(least)} to {toml_text(most)} ACU allow {limit}"
        )


def _production_problems(aurora: Values) -> Iterator[str]:
    for key in ("force_ssl", "deletion_protection"):
        if aurora.get(key) is False:
            yield f"aurora.{key} is false: expected true in prod"
    if aurora.get("removal") == "destroy":
        yield 'aurora.removal is "destroy": expected "snapshot" in prod'
    days = aurora.get("backup_retention_days", _MIN_RETENTION_DAYS_IN_PROD)
    if days < _MIN_RETENTION_DAYS_IN_PROD and aurora.get("retention_reason") is None:
        yield (
            f"aurora.backup_retention_days is {days}: expected {_MIN_RETENTION_DAYS_IN_PROD} or more in prod, "
            "or an aurora.retention_reason that says why fewer are enough"
        )
