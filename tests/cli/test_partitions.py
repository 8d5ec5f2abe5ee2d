"""`partitions`: the monthly partitions of the event log."""

from datetime import UTC, datetime

from command_line import TIMEOUT_SECONDS, Answer, one_line
from sqlalchemy import text
from workspace import Workspace, wait_until

THIS_MONTH = datetime.now(UTC).replace(day=1)
PARTITIONS = """
SELECT relname AS name FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = 'registration_events'::regclass AND relname <> 'registration_events_default' ORDER BY relname
"""


def test_partitions_are_created_once(workspace: Workspace) -> None:
    """`partitions` creates this month's and those of the months ahead, prints their names, and is idempotent."""
    names = [partition(months_after(THIS_MONTH, ahead)) for ahead in range(15)]

    answers = workspace.run_each(("partitions", "--months", "14"), ("partitions", "--months", "14"))

    assert [
        Answer(0, f"partitions created: 2\n  {names[13]}\n  {names[14]}\n", ""),
        Answer(0, "partitions created: 0\n", ""),
    ] == answers
    assert names == [row["name"] for row in workspace.rows(PARTITIONS)]


def test_whole_months_are_dropped(workspace: Workspace) -> None:
    """`--drop-before` drops the partitions before a month and keeps that month; a future month is rejected."""
    before = [row["name"] for row in workspace.rows(PARTITIONS)]
    old = [datetime(2020, month, 1, tzinfo=UTC) for month in (1, 2, 3)]
    workspace.execute(
        *(
            f"CREATE TABLE {partition(month)} PARTITION OF registration_events"
            f" FOR VALUES FROM ('{month:%Y-%m-%d}Z') TO ('{months_after(month, 1):%Y-%m-%d}Z')"
            for month in old
        )
    )
    future = months_after(THIS_MONTH, 1)

    rejected, dropped = workspace.run_each(
        ("partitions", "--drop-before", f"{future:%Y-%m}"), ("partitions", "--drop-before", "2020-03")
    )

    assert 2 == rejected.code
    assert "in the future" in one_line(rejected.stderr)
    assert "" == rejected.stdout
    assert (0, "") == (dropped.code, dropped.stderr)
    assert dropped.stdout.endswith(f"partitions dropped: 2\n  {partition(old[0])}\n  {partition(old[1])}\n")
    assert [partition(old[2]), *before] == [row["name"] for row in workspace.rows(PARTITIONS)]


def test_a_lock_timeout_is_retried(workspace: Workspace) -> None:
    """If a lock is not granted in time, `partitions` tries again."""
    workspace.environ["APP_DATABASE_LOCK_TIMEOUT"] = "0.5"
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with workspace.database.session() as session:
        session.execute(text("LOCK TABLE registration_events_default IN ACCESS EXCLUSIVE MODE"))
        with workspace.start("partitions", "--months", "13") as process:
            wait_until(lambda: workspace.rows(waiting), "the command waits", process)
            wait_until(lambda: not workspace.rows(waiting), "the command gives up", process)
            wait_until(lambda: workspace.rows(waiting), "the command tries again", process)
            session.rollback()
            stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)

    assert (0, "") == (process.returncode, stderr)
    assert f"partitions created: 1\n  {partition(months_after(THIS_MONTH, 13))}\n" == stdout


def partition(month: datetime) -> str:
    """Return the name of the partition of the event log for *month*."""
    return f"registration_events_y{month:%Y}m{month:%m}"


def months_after(month: datetime, number: int) -> datetime:
    """Return the month that is *number* months after *month*."""
    years, months = divmod(month.month - 1 + number, 12)
    return month.replace(year=month.year + years, month=months + 1)
