"""`expire`, `purge` and `partitions`: the work of a daily scheduler."""

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from registration_persistence.cli.arguments import Subcommands, month, number
from registration_persistence.cli.console import ExitCode, WrongUse
from registration_persistence.cli.progress import counting_bar
from registration_persistence.database import session_scope
from registration_persistence.quantities import counted
from registration_persistence.repositories.retention import Retention

_DDL_ATTEMPTS = 10

# DDL waits one second for a lock; the statements of the service get as long to pass.
_DDL_PAUSE_SECONDS = 1.0

_batch = number(int, 1, 10_000)

_days = number(int, 0, 36_500)


def add_commands(commands: Subcommands) -> None:
    """Add the commands for a daily scheduler."""
    _add_expire(commands)
    _add_purge(commands)
    _add_partitions(commands)


def _add_expire(commands: Subcommands) -> None:
    parser = commands.add("expire", _expire, "expire registrations that are past their time")
    _add_batch(parser, "registrations")


def _expire(options: argparse.Namespace) -> int:
    _sweep("Expiring", "expired", "registration", options.batch, lambda retention: retention.expire_due(options.batch))
    return ExitCode.DONE


def _add_purge(commands: Subcommands) -> None:
    parser = commands.add("purge", _purge, "delete expired and cancelled registrations, and old tokens")
    for option, event in (("--closed-days", "a registration ended"), ("--token-days", "a token expired")):
        parser.add_argument(
            option, type=_days, default=30, metavar="DAYS", help=f"days since {event}, 0 to 36500 (default: 30)"
        )
    _add_batch(parser, "rows")


def _add_batch(parser: argparse.ArgumentParser, noun: str) -> None:
    parser.add_argument(
        "--batch", type=_batch, default=1000, metavar="ROWS", help=f"{noun} per statement, 1 to 10000 (default: 1000)"
    )


def _purge(options: argparse.Namespace) -> int:
    now, limit = datetime.now(UTC), options.batch
    closed_before, expired_before = now - timedelta(options.closed_days), now - timedelta(options.token_days)
    _sweep("Purging", "deleted", "closed registration", limit, lambda each: each.purge_closed(closed_before, limit))
    _sweep("Purging", "deleted", "token", limit, lambda each: each.purge_tokens(expired_before, limit))
    return ExitCode.DONE


def _sweep(doing: str, done: str, noun: str, limit: int, sweep_batch: Callable[[Retention], int]) -> None:
    """Call *sweep_batch* until it finds fewer rows than *limit*, with a progress bar, and print the total."""
    started, total = time.monotonic(), 0
    try:
        with counting_bar(f"{doing} {noun}s") as show:
            found = limit
            while found >= limit:
                with session_scope(autocommit=True) as session:
                    found = sweep_batch(Retention(session))
                total += found
                show(total)
    except BaseException:
        if total:
            print(f"stopped: {done} {counted(total, noun)} in {time.monotonic() - started:.1f} s")
        raise
    print(f"{done} {counted(total, noun)} in {time.monotonic() - started:.1f} s")


def _add_partitions(commands: Subcommands) -> None:
    parser = commands.add(
        "partitions", _partitions, "create the partitions of the event log, with a login that owns it"
    )
    parser.add_argument(
        "--months",
        type=number(int, 0, 120),
        default=12,
        metavar="MONTHS",
        help="the number of months ahead, 0 to 120 (default: 12)",
    )
    parser.add_argument("--drop-before", type=month, metavar="YYYY-MM", help="drop the partitions of earlier months")


def _partitions(options: argparse.Namespace) -> int:
    from registration_persistence.schema import drop_event_partitions, ensure_event_partitions

    before: datetime | None = options.drop_before
    if before is not None and before > datetime.now(UTC):
        raise WrongUse("--drop-before is in the future: the events of this month are still being written")
    # This order moves old events out of the default partition into partitions of their own, which are dropped then.
    _print_partitions("created", _run_ddl(lambda session: ensure_event_partitions(session, options.months)))
    if before is not None:
        _print_partitions("dropped", _run_ddl(lambda session: drop_event_partitions(session, before)))
    return ExitCode.DONE


def _run_ddl(ddl: Callable[[Session], tuple[str, ...]]) -> tuple[str, ...]:
    """Run *ddl* as the owner role; try again while the table is locked."""
    from registration_persistence.schema import set_role_statement
    from registration_persistence.schema.composed_sql import execute_verbatim
    from registration_persistence.schema.lock_timeout_retry import retry_on_lock_timeout

    def run() -> tuple[str, ...]:
        with session_scope(autocommit=True) as session:
            if set_role := set_role_statement():
                execute_verbatim(session.connection(), set_role)
            return ddl(session)

    return retry_on_lock_timeout(run, _DDL_ATTEMPTS, pause=lambda _failures: _DDL_PAUSE_SECONDS)


def _print_partitions(done: str, partitions: tuple[str, ...]) -> None:
    print(f"partitions {done}: {len(partitions)}" + "".join(f"\n  {name}" for name in partitions))
