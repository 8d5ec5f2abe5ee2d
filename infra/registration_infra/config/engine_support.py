"""Warnings before PostgreSQL and AWS end the support of the version of the cluster."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

from registration_infra.config.environment import EnvironmentConfig
from registration_infra.config.toml_text import toml_text

# https://www.postgresql.org/support/versioning/. AWS ends its standard support of a major version some months later:
# https://docs.aws.amazon.com/AmazonRDS/latest/AuroraPostgreSQLReleaseNotes/aurorapostgresql-release-calendar.html
_LAST_RELEASE_OF_MAJOR: Final = {
    "15": date(2027, 11, 11),
    "16": date(2028, 11, 9),
    "17": date(2029, 11, 8),
    "18": date(2030, 11, 14),
}
_NOTICE_OF_MAJOR: Final = timedelta(days=365)
# The minor versions that PostgreSQL released together, oldest first, and the last day on which that can have been.
_RELEASES_OF_MINORS: Final = (
    (date(2026, 2, 26), {"15": 17, "16": 13, "17": 9, "18": 3}),
    (date(2026, 5, 14), {"15": 18, "16": 14, "17": 10, "18": 4}),
    (date(2026, 9, 7), {"15": 20, "16": 16, "17": 12, "18": 6}),
)
# AWS intends to keep a minor version for at least 12 months:
# https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.VersionPolicy.html
_LIFETIME_OF_MINOR: Final = timedelta(days=365)
_RUNBOOK: Final = "docs/runbooks/upgrade-postgresql.md"


def support_warnings(config: EnvironmentConfig, *, today: date) -> Iterator[str]:
    """Yield a message for each end of support that is near; nothing for an existing database.

    Args:
        config: The environment.
        today: The present day.
    """
    if config.aurora is None:
        return
    version = config.aurora.engine_version
    major, _, minor = version.partition(".")
    start = f"aurora.engine_version is {toml_text(version)}:"
    last = _LAST_RELEASE_OF_MAJOR[major]
    if today > last - _NOTICE_OF_MAJOR:
        yield (
            f"{start} PostgreSQL {major} receives no fixes after {last}: "
            f"upgrade to a newer major version, see {_RUNBOOK}"
        )
    released = next((day for day, minors in _RELEASES_OF_MINORS if int(minor) <= minors[major]), None)
    if released is not None and today > released + _LIFETIME_OF_MINOR:
        yield (
            f"{start} it was released on {released} or earlier, "
            "and AWS keeps a minor version for about a year: "
            f"upgrade to a newer minor version, see {_RUNBOOK}"
        )
