"""What each subcommand does; returns the exit code."""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from registration_persistence.database import get_db
from registration_persistence.errors import InvalidInput
from registration_persistence.outbox_worker import OutboxWorker

FAILED = 1
WRONG_USE = 2


def migrate(options: argparse.Namespace) -> int:
    """Bring the schema up to date."""
    from registration_persistence import schema

    if options.sql:
        print(schema.upgrade_sql(options.revision), end="", flush=True)
        return 0
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    for name in ("alembic", "registration_persistence.migrations"):
        logging.getLogger(name).setLevel(logging.INFO)
    print(f"the database is at revision {schema.upgrade(get_db(), options.revision)}")
    return 0


def bootstrap(options: argparse.Namespace) -> int:
    """Make the roles, and say what was done."""
    from registration_persistence import schema

    done = schema.bootstrap_from_secrets(get_db(), options.application_secret, monitoring=options.monitoring_secret)
    print("".join(f"{change}\n" for change in done.changes) or "everything is as it should be\n", end="")
    return 0


def current(_: argparse.Namespace) -> int:
    """Print the revision that the database is at."""
    from registration_persistence import schema

    print(schema.current(get_db()) or "no revision")
    return 0


def check(_: argparse.Namespace) -> int:
    """Compare the database with the newest revision and the models."""
    from registration_persistence import schema

    schema.check(get_db())
    print("the database is at the newest revision and like the models")
    return 0


def ping(_: argparse.Namespace) -> int:
    """Connect, and say what was found."""
    database = get_db()
    health = database.ping()
    writable = "writable" if health.writable else "read-only"
    encrypted = "over TLS" if health.encrypted else "without TLS"
    print(f"{database!r}: PostgreSQL {health.server_version}, {writable}, {encrypted}, {health.seconds * 1000:.0f} ms")
    return 0


def expire(options: argparse.Namespace) -> int:
    """Expire registrations whose time is over."""
    with _extra("cli"):
        from registration_persistence.cli import retention as sweeps
    sweeps.expire(options.batch)
    return 0


def purge(options: argparse.Namespace) -> int:
    """Delete what has been closed, and tokens that have been over, for long enough."""
    with _extra("cli"):
        from registration_persistence.cli import retention as sweeps
    sweeps.purge(timedelta(days=options.closed_days), timedelta(days=options.token_days), options.batch)
    return 0


def partitions(options: argparse.Namespace) -> int:
    """Make partitions of the event trail, and drop old ones."""
    with _extra("cli"):
        from registration_persistence.cli import retention as sweeps
    sweeps.partitions(options.months, options.drop_before)
    return 0


def erase(options: argparse.Namespace) -> int:
    """Erase a person."""
    from registration_persistence.cli import privacy as people

    _check_chosen(options.ids, others=options.email, option="--email")
    sure = people.erase(options.ids, ask_for_email=options.email, confirmed=options.yes, actor=options.actor)
    return 0 if sure else FAILED


def export(options: argparse.Namespace) -> int:
    """Print everything that is held about a person."""
    from registration_persistence.cli import privacy as people

    _check_chosen(options.ids, others=options.email, option="--email")
    people.export(options.ids, ask_for_email=options.email)
    return 0


def import_file(options: argparse.Namespace) -> int:
    """Import people from a file."""
    with _extra("cli"):
        from registration_persistence.cli.imports import run_import
    rejected = run_import(
        options.file,
        file_format=options.format,
        rejected=options.rejected or Path(f"{options.file.stem}.rejected.csv"),
        dry_run=options.dry_run,
        announce=options.announce,
        ttl=timedelta(days=options.open_days),
    )
    return FAILED if rejected else 0


def outbox_run(options: argparse.Namespace) -> int:
    """Deliver messages until SIGTERM."""
    from registration_persistence.cli import outbox

    deliver = outbox.load(options.deliver)
    worker = OutboxWorker(
        get_db(),
        deliver,
        batch=options.batch,
        lease=timedelta(seconds=options.lease),
        max_attempts=options.max_attempts,
    )
    outbox.run(worker, once=options.once, poll=options.poll)
    return 0


def outbox_dead(options: argparse.Namespace) -> int:
    """Print the messages that were given up."""
    from registration_persistence.cli import outbox

    outbox.dead(options.limit)
    return 0


def outbox_revive(options: argparse.Namespace) -> int:
    """Make messages due that were given up."""
    from registration_persistence.cli import outbox

    _check_chosen(options.ids, others=options.all, option="--all")
    return 0 if outbox.revive(options.ids, everything=options.all) else FAILED


def demo(options: argparse.Namespace) -> int:
    """Register the people of a CSV file in a PostgreSQL on this machine."""
    with _extra("local"):
        from registration_persistence.sandbox.demo.run import run_demo
    rejected = options.rejected or Path(f"{options.signups.stem}.rejected.csv")
    return FAILED if run_demo(options.signups, rejected, keep=options.keep) else 0


def chaos(options: argparse.Namespace) -> int:
    """Sign people up on this machine while one fault after the other happens."""
    with _extra("local"):  # around it all, because Secrets Manager is imported when it starts
        from registration_persistence.sandbox.chaos.run import run_chaos

        sound = run_chaos(
            seconds=options.seconds,
            processes=options.processes,
            faults=options.faults,
            seed=options.seed,
            timeline=options.timeline,
            as_json=options.json,
        )
    return 0 if sound else FAILED


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Say what to install where an import of the block fails."""
    try:
        yield
    except ImportError as error:
        raise InvalidInput(f"this needs {error.name}: pip install 'registration-persistence[{name}]'") from None


def _check_chosen(ids: Sequence[UUID], *, others: bool, option: str) -> None:
    if not ids and not others:
        raise InvalidInput(f"nothing is chosen: expected ids, or {option}")
