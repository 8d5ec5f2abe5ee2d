"""`expire`, `purge` and `partitions`: what a scheduler runs every day, batch by batch, with a bar and a summary."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.orm import Session

from registration_persistence.database import session_scope
from registration_persistence.errors import InvalidInput, LockTimeout
from registration_persistence.repositories.retention import Retention
from registration_persistence.schema import set_role_statement
from registration_persistence.schema.partitions import drop_event_partitions, ensure_event_partitions

# DDL that waits for a lock gives up after a second; the service has as long to get through.
_ATTEMPTS = 10

_PAUSE = 1.0

Batch = Callable[[Retention], int]


def expire(batch: int) -> None:
    """Expire what is overdue."""
    _sweep("Expiring", "expired", "registrations", batch, lambda retention: retention.expire_due(batch))


def purge(closed: timedelta, tokens: timedelta, batch: int) -> None:
    """Delete registrations that have been closed, and tokens that have been over, for longer than that."""
    now = datetime.now(UTC)
    _sweep(
        "Purging",
        "deleted",
        "closed registrations",
        batch,
        lambda retention: retention.purge_closed(now - closed, batch),
    )
    _sweep("Purging", "deleted", "tokens", batch, lambda retention: retention.purge_tokens(now - tokens, batch))


def partitions(months: int, drop_before: datetime | None) -> None:
    """Make the partitions of the months ahead, and drop those of the months before *drop_before*."""
    if drop_before is not None and drop_before > datetime.now(UTC):
        raise InvalidInput("--drop-before is in the future: the events of this month are still being written")
    # In this order: old events that lie in the default partition get one of their own, which is then dropped.
    _report("made", _patiently(lambda session: ensure_event_partitions(session, months)))
    if drop_before is not None:
        _report("dropped", _patiently(lambda session: drop_event_partitions(session, drop_before)))


def _sweep(doing: str, done: str, what: str, batch: int, work: Batch) -> None:
    started, total = time.monotonic(), 0
    try:
        with _bar(f"{doing} {what}") as advance:
            while True:
                with session_scope(autocommit=True) as session:
                    number = work(Retention(session))
                total += number
                advance(number)
                if number < batch:
                    break
    except BaseException:
        if total:
            print(f"stopped: {done} {total:,} {what} in {time.monotonic() - started:.1f} s")
        raise
    print(f"{done} {total:,} {what} in {time.monotonic() - started:.1f} s")


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int], None]]:
    """Show a bar that says how many there were; how many there will be is not known without looking at them all."""
    columns = (TextColumn(title), BarColumn(), TextColumn("{task.completed:,.0f}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda number: progress.advance(task, number)


def _patiently(work: Callable[[Session], tuple[str, ...]]) -> list[str]:
    done: list[str] = []
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with session_scope(autocommit=True) as session:
                if set_role := set_role_statement():
                    session.connection().exec_driver_sql(set_role.replace("%", "%%"))
                done += work(session)
        except LockTimeout:
            if attempt == _ATTEMPTS:
                raise
            time.sleep(_PAUSE)
        else:
            break
    return done


def _report(done: str, names: list[str]) -> None:
    print(f"partitions {done}: {len(names)}" + "".join(f"\n  {name}" for name in names))
