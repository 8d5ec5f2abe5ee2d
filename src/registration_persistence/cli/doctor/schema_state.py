"""The schema: its revision, and the partitions of the event log that were created ahead."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from registration_persistence.cli.doctor.check import Check, failed, ok, warning
from registration_persistence.cli.doctor.facts import Facts
from registration_persistence.quantities import counted
from registration_persistence.schema import is_known, newest
from registration_persistence.schema.alembic_commands import revision_of
from registration_persistence.schema.partitions import event_partitions

SCHEMA, PARTITIONS = "schema", "partitions"

# A scheduler that runs each day creates 12 months; with this many left, it has not run for a long time.
_MIN_MONTHS_AHEAD = 2

_MONTHS_PER_YEAR = 12

_MONTH = re.compile(r"y(\d{4})m(\d{2})\Z")

_PARTITIONS_FIX = "run `registration-persistence partitions` with a login that owns the tables, each day by a scheduler"


def schema_check(facts: Facts) -> Check:
    """Compare the revision of the database with the newest one of this package."""
    revision, head = revision_of(facts.connection), newest()
    fix = "run `registration-persistence migrate` with a login that owns the tables"
    if revision is None:
        facts.has_tables = False
        return failed(SCHEMA, f"the database has no revision; the newest is {head}", fix)
    if revision == head:
        return ok(SCHEMA, f"revision {revision}, the newest")
    if is_known(revision):
        return failed(SCHEMA, f"behind: the database is at {revision}, the newest is {head}", fix)
    return warning(
        SCHEMA,
        f"ahead: the database is at {revision}, which this version of the package does not know",
        "deploy the version of registration-persistence that has migrated the database",
    )


def partitions_check(facts: Facts) -> Check:
    """Count the months for which the event log has a partition."""
    return months_check(event_partitions(facts.connection), datetime.now(UTC))


def months_check(partitions: Iterable[str], now: datetime) -> Check:
    """Return the result for the names of the partitions.

    Args:
        partitions: The names, such as `registration_events_y2026m11`.
        now: The present time.
    """
    months = {int(match[1]) * _MONTHS_PER_YEAR + int(match[2]) for name in partitions if (match := _MONTH.search(name))}
    this = now.year * _MONTHS_PER_YEAR + now.month
    if this not in months:
        return failed(
            PARTITIONS,
            f"there is none for {now:%Y-%m}: its events go to the default partition, which grows",
            _PARTITIONS_FIX,
        )
    ahead = next(number for number in range(1, len(months) + 1) if this + number not in months) - 1
    described = f"this month, and {counted(ahead, 'month')} ahead"
    return ok(PARTITIONS, described) if ahead >= _MIN_MONTHS_AHEAD else warning(PARTITIONS, described, _PARTITIONS_FIX)
