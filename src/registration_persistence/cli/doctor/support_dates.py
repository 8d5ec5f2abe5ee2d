"""The dates on which PostgreSQL ends the support of its major versions, and `support_check`, which compares them."""

from collections.abc import Mapping
from datetime import date, timedelta

from registration_persistence.cli.doctor.check import Check, failed, ok, warning

LAST_RELEASE_OF_MAJOR: Mapping[int, date] = {
    15: date(2027, 11, 11),
    16: date(2028, 11, 9),
    17: date(2029, 11, 8),
    18: date(2030, 11, 14),
}
"""From https://www.postgresql.org/support/versioning/; AWS ends its standard support some months later.

A test compares the dates with those of `infra/registration_infra/config/engine_support.py`.
"""

_NOTICE = timedelta(days=365)

_FIX = (
    "docs/runbooks/upgrade-postgresql.md; `aws rds describe-db-major-engine-versions --engine aurora-postgresql` has "
    "the date from which AWS charges for extended support"
)


def support_check(name: str, version: str, major: int, today: date) -> Check:
    """Return whether the version of the server is supported.

    Args:
        name: The name of the check.
        version: The server's `server_version`.
        major: Its major version.
        today: The present day.
    """
    if major < min(LAST_RELEASE_OF_MAJOR):
        expected = f"{min(LAST_RELEASE_OF_MAJOR)} to {max(LAST_RELEASE_OF_MAJOR)}"
        return failed(name, f"PostgreSQL {version}: this package expects {expected}", _FIX)
    end = LAST_RELEASE_OF_MAJOR.get(major)
    if end is None:
        return warning(
            name,
            f"PostgreSQL {version}: newer than this version of the package knows",
            "upgrade registration-persistence to a version that was tested with it",
        )
    if today > end:
        return failed(name, f"PostgreSQL {version}: it has received no fixes since {end}", _FIX)
    if today > end - _NOTICE:
        return warning(name, f"PostgreSQL {version}: the last fixes come on {end}", _FIX)
    return ok(name, f"PostgreSQL {version}, fixes until {end}")
