"""`migrate`, `bootstrap`, `current` and `check`: the schema of the database and its roles."""

import argparse
import logging
import sys

from registration_persistence.cli.arguments import revision_name
from registration_persistence.cli.commands import Subcommands
from registration_persistence.cli.console import ExitCode, report
from registration_persistence.database import get_db

_MIGRATION_LOGGERS = ("alembic", "registration_persistence.migrations")


def add_commands(commands: Subcommands) -> None:
    """Add the commands for the schema."""
    _add_migrate(commands)
    _add_bootstrap(commands)
    commands.add(
        "current",
        _current,
        "print the revision of the database",
        examples=["current"],
        json_fields={
            "revision": "revision of the database, or null",
            "known": "whether this version of the package knows it",
        },
    )
    commands.add(
        "check",
        _check,
        "compare the database with the newest revision and the models",
        examples=["check"],
        json_fields={"matches": "true; a difference is an error"},
    )


def _add_migrate(commands: Subcommands) -> None:
    parser = commands.add(
        "migrate",
        _migrate,
        "bring the schema up to date",
        examples=["migrate", "migrate --sql > upgrade.sql"],
        json_fields={"revision": "revision of the database", "sql": "only with `--sql`, without `revision`: the SQL"},
    )
    parser.add_argument(
        "revision", nargs="?", type=revision_name, default="head", help="the last revision to run (default: head)"
    )
    parser.add_argument("--sql", action="store_true", help="print the SQL instead; needs no database")


def _migrate(options: argparse.Namespace) -> int:
    from registration_persistence import schema

    if options.sql:
        sql = schema.upgrade_sql(options.revision)
        report(options, sql.removesuffix("\n"), {"sql": sql}, verbatim=True)
        return ExitCode.DONE
    if not options.json:
        _log_progress()
    revision = schema.upgrade(get_db(), options.revision)
    report(options, f"the database is at revision {revision}", {"revision": revision})
    return ExitCode.DONE


def _log_progress() -> None:
    """Log the revisions that run, and the waits."""
    from registration_persistence.schema.alembic_configuration import is_progress

    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    for name in _MIGRATION_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.addFilter(is_progress)


def _add_bootstrap(commands: Subcommands) -> None:
    parser = commands.add(
        "bootstrap",
        _bootstrap,
        "create the roles and logins of a cluster, with the cluster's own secret",
        examples=["bootstrap"],
        json_fields={"changes": "one sentence for each change"},
        epilog="It can be repeated at any time; see docs/howto/roles.md.",
    )
    parser.add_argument(
        "--application-secret",
        variable=None,  # the help names it
        metavar="ARN",
        help="the secret of the service (default: APP_DATABASE_APPLICATION_SECRET_ARN)",
    )
    parser.add_argument(
        "--application-user",
        variable=None,  # the help names it
        metavar="NAME",
        help="the user name of a service that logs in with IAM (default: APP_DATABASE_APPLICATION_USER)",
    )
    parser.add_argument(
        "--monitoring-secret",
        variable=None,  # the help names it
        metavar="ARN",
        help="the secret of Datadog (default: APP_DATABASE_MONITORING_SECRET_ARN, or none)",
    )


def _bootstrap(options: argparse.Namespace) -> int:
    from registration_persistence import schema

    done = schema.bootstrap_from_secrets(
        get_db(),
        options.application_secret,
        application_user=options.application_user,
        monitoring=options.monitoring_secret,
    )
    report(options, "\n".join(done.changes) or "no changes", {"changes": list(done.changes)})
    return ExitCode.DONE


def _current(options: argparse.Namespace) -> int:
    from registration_persistence import schema
    from registration_persistence.schema.version_table import newer_version_message

    revision = schema.current(get_db())
    known = revision is None or schema.is_known(revision)
    text = (revision or "no revision") if known else newer_version_message(str(revision))
    report(options, text, {"revision": revision, "known": known})
    return ExitCode.DONE


def _check(options: argparse.Namespace) -> int:
    from registration_persistence import schema

    schema.check(get_db())
    report(options, "the database is at the newest revision and matches the models", {"matches": True})
    return ExitCode.DONE
