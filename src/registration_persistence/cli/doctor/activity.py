"""Obstacles of vacuum: long transactions, old snapshots, prepared transactions, replication slots; and frozen ids."""

from typing import Any

from sqlalchemy import Row, text

from registration_persistence.cli.doctor.check import Check, failed, ok, warning
from registration_persistence.cli.doctor.facts import Facts

SNAPSHOTS, TRANSACTION_IDS = "old snapshots", "transaction ids"

_MAX_TRANSACTION_SECONDS, _MAX_PREPARED_SECONDS = 300.0, 3600.0

# The thresholds of the monitors in infra/datadog.
_WARNING_SNAPSHOT_AGE, _FAILURE_SNAPSHOT_AGE = 100_000, 1_000_000
_WARNING_ID_AGE, _FAILURE_ID_AGE = 500_000_000, 1_000_000_000

# The times of the sessions of other roles are null for a login without pg_read_all_stats.
_ACTIVITY = text("""
SELECT oldest.pid, oldest.usename AS user, oldest.state, oldest.seconds,
  (SELECT max(age(backend_xmin)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()) AS snapshot_age,
  (SELECT extract(epoch FROM max(clock_timestamp() - prepared))::float8 FROM pg_prepared_xacts) AS prepared_seconds,
  (SELECT max(greatest(age(xmin), age(catalog_xmin))) FROM pg_replication_slots) AS slot_age
FROM (SELECT 1) AS one LEFT JOIN LATERAL (
  SELECT pid, usename, state, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds
  FROM pg_stat_activity
  WHERE xact_start IS NOT NULL AND usesysid IS NOT NULL AND pid <> pg_backend_pid()
  ORDER BY xact_start LIMIT 1
) AS oldest ON true
""")


def snapshots_check(facts: Facts) -> Check:
    """Look for sessions, prepared transactions and replication slots that hold back vacuum."""
    server = facts.server
    assert server is not None
    return activity_check(facts.connection.execute(_ACTIVITY).one(), sees_all=server.sees_all_sessions)


def activity_check(found: "Row[Any]", *, sees_all: bool) -> Check:
    """Return the result for a row of the query.

    Args:
        found: The oldest transaction, and the ages of snapshots, prepared transactions and slots.
        sees_all: Whether the login sees the sessions of every role.
    """
    seen = "" if sees_all else "; only sessions of this login are visible, GRANT pg_read_all_stats shows the others"
    oldest = found.seconds or 0.0
    snapshot_age = max(found.snapshot_age or 0, found.slot_age or 0)
    described = f"the oldest transaction has lasted {oldest:.0f} s, the oldest snapshot {snapshot_age:,} transactions"
    if (found.prepared_seconds or 0.0) > _MAX_PREPARED_SECONDS:
        fix = "COMMIT PREPARED or ROLLBACK PREPARED the transactions of pg_prepared_xacts; this package creates none"
        return warning(SNAPSHOTS, f"a prepared transaction is {found.prepared_seconds:.0f} s old{seen}", fix)
    if (found.slot_age or 0) > _WARNING_SNAPSHOT_AGE:
        fix = "drop the slot with pg_drop_replication_slot() if nobody reads from it; see pg_replication_slots"
        return warning(SNAPSHOTS, f"a replication slot holds back {found.slot_age:,} transactions{seen}", fix)
    if oldest > _MAX_TRANSACTION_SECONDS or snapshot_age > _WARNING_SNAPSHOT_AGE:
        who = f" (process {found.pid} of {found.user}, {found.state})" if found.pid else ""
        fix = f"SELECT pg_terminate_backend({found.pid or 'PID'}), after a look at its query in pg_stat_activity"
        kind = failed if snapshot_age > _FAILURE_SNAPSHOT_AGE else warning
        return kind(SNAPSHOTS, f"{described}{who}: vacuum cannot remove newer dead rows{seen}", fix)
    return ok(SNAPSHOTS, f"{described}{seen}")


def transaction_ids_check(facts: Facts) -> Check:
    """Return the age of the oldest transaction id that is not frozen."""
    server = facts.server
    assert server is not None
    return id_age_check(max(server.transaction_id_age, server.multixact_age))


def id_age_check(age: int) -> Check:
    """Return the result for the age of the oldest id that is not frozen, in transactions."""
    described = f"the oldest id that is not frozen is {age:,} transactions old, of about 2,100,000,000"
    fix = (
        "end long transactions and drop unused replication slots, then VACUUM (FREEZE): "
        "docs/runbooks/freeze-transaction-ids.md"
    )
    if age > _FAILURE_ID_AGE:
        return failed(TRANSACTION_IDS, described, fix)
    return warning(TRANSACTION_IDS, described, fix) if age > _WARNING_ID_AGE else ok(TRANSACTION_IDS, described)
