"""`expire`, `purge` and `partitions`: the work of a daily scheduler."""

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import starmap
from typing import TYPE_CHECKING

from registration_persistence.cli.arguments import month, number
from registration_persistence.cli.commands import Subcommands
from registration_persistence.cli.console import ExitCode, WrongUse, option_name, report
from registration_persistence.cli.progress import counting_bar, percentage_bar
from registration_persistence.database import session_scope
from registration_persistence.quantities import counted

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from registration_persistence.repositories.retention import Retention

_DDL_ATTEMPTS = 10

# DDL waits one second for a lock; the statements of the service get as long to pass.
_DDL_PAUSE_SECONDS = 1.0

_batch = number(int, 1, 10_000)

_TITLES = {"expired": "Expiring", "deleted": "Purging"}

_SWEEP_FIELDS = {
    "done": "`expired` or `deleted`",
    "rows": "`registration`, `closed registration` or `token`",
    "number": "number of rows",
    "seconds": "duration",
    "finished": "false if the command stopped before the end",
}

_days = number(int, 0, 36_500)


def add_commands(commands: Subcommands) -> None:
    """Add the commands for a daily scheduler."""
    _add_expire(commands)
    _add_purge(commands)
    _add_partitions(commands)


def _add_expire(commands: Subcommands) -> None:
    parser = commands.add(
        "expire",
        _expire,
        "expire registrations that are past their time",
        examples=["expire", "expire --batch 500"],
        json_fields=_SWEEP_FIELDS,
    )
    _add_batch(parser, "registrations")


def _expire(options: argparse.Namespace) -> int:
    from registration_persistence.cli.remaining import lapsed_registrations

    def expire(retention: "Retention") -> int:
        return retention.expire_due(options.batch)

    _sweep(options, "expired", "registration", expire, lapsed_registrations)
    return ExitCode.DONE


def _add_purge(commands: Subcommands) -> None:
    parser = commands.add(
        "purge",
        _purge,
        "delete expired and cancelled registrations, and old tokens",
        examples=["purge --closed-days 30 --token-days 30"],
        json_fields=_SWEEP_FIELDS,
        json_lines=True,
    )
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
    from registration_persistence.cli.remaining import closed_registrations, ended_tokens

    now, limit = datetime.now(UTC), options.batch
    closed_before, expired_before = now - timedelta(options.closed_days), now - timedelta(options.token_days)

    def purge_closed(retention: "Retention") -> int:
        return retention.purge_closed(closed_before, limit)

    def purge_tokens(retention: "Retention") -> int:
        return retention.purge_tokens(expired_before, limit)

    _sweep(options, "deleted", "closed registration", purge_closed, lambda: closed_registrations(closed_before))
    _sweep(options, "deleted", "token", purge_tokens, lambda: ended_tokens(expired_before))
    return ExitCode.DONE


def _sweep(
    options: argparse.Namespace,
    done: str,
    noun: str,
    sweep_batch: "Callable[[Retention], int]",
    due: Callable[[], int | None],
) -> None:
    """Call *sweep_batch* until it finds less than a batch, with a progress bar, and print the total."""
    from registration_persistence.repositories.retention import Retention

    started, total, finished = time.monotonic(), 0, False
    try:
        with counting_bar(f"{_TITLES[done]} {noun}s", due, hidden=options.json) as show:
            while not finished:
                with session_scope(autocommit=True) as session:
                    found = sweep_batch(Retention(session))
                total, finished = total + found, found < options.batch
                show(total)
    finally:
        if finished or total:
            seconds = time.monotonic() - started
            text = f"{'' if finished else 'stopped: '}{done} {counted(total, noun)} in {seconds:.1f} s"
            data = {"done": done, "rows": noun, "number": total, "seconds": round(seconds, 3), "finished": finished}
            report(options, text, data)


def _add_partitions(commands: Subcommands) -> None:
    parser = commands.add(
        "partitions",
        _partitions,
        "create the partitions of the event log, with a login that owns it",
        examples=["partitions --months 12", "partitions --drop-before 2024-01"],
        json_fields={"created": "names of the new partitions", "dropped": "names of the dropped partitions"},
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
        name = option_name(options, "--drop-before")
        raise WrongUse(f"{name} is in the future: the events of this month are still being written")
    # This order moves old events out of the default partition into partitions of their own, which are dropped then.
    done: dict[str, tuple[str, ...]] = {"created": ()}
    finished = False
    try:
        with percentage_bar("Creating partitions", options.months + 1, hidden=options.json) as show:
            for ahead in range(options.months + 1):  # a transaction for each month keeps its locks for a short time
                done["created"] += _run_ddl(partial(ensure_event_partitions, months=ahead))
                show(ahead + 1)
        if before is not None:
            done["dropped"] = _run_ddl(lambda session: drop_event_partitions(session, before))
        finished = True
    finally:
        if finished or done["created"]:
            report(options, "\n".join(starmap(_partitions_text, done.items())), {"dropped": ()} | done)
    return ExitCode.DONE


def _run_ddl(ddl: "Callable[[Session], tuple[str, ...]]") -> tuple[str, ...]:
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


def _partitions_text(done: str, partitions: tuple[str, ...]) -> str:
    return f"partitions {done}: {len(partitions)}" + "".join(f"\n  {name}" for name in partitions)
