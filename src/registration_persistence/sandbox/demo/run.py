"""`run_demo`: the sign-ups of a file go the way that they go in a Lambda, with PostgreSQL and Secrets Manager local."""

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy.exc import SQLAlchemyError

from registration_persistence import schema
from registration_persistence.database import get_db
from registration_persistence.errors import IdempotencyConflict, InvalidInput, RegistrationPersistenceError
from registration_persistence.outbox_worker import OutboxWorker
from registration_persistence.sandbox.binaries import embedded_binaries
from registration_persistence.sandbox.demo.journeys import Journeys
from registration_persistence.sandbox.demo.keep import keep_running
from registration_persistence.sandbox.demo.rejections import Rejections, open_rejections
from registration_persistence.sandbox.demo.signups import RejectedRow, Signup, SignupFile, open_signups
from registration_persistence.sandbox.demo.summary import Tally, print_summary
from registration_persistence.sandbox.isolation import is_foreign, isolate_process
from registration_persistence.sandbox.parent import end_with_parent
from registration_persistence.sandbox.postgres import LocalPostgres
from registration_persistence.sandbox.secrets_manager import LocalSecretsManager

_DATABASE = "registration"
_LOGIN = "registration_app"
_DELIVERY_BATCH = 100


def run_demo(signups: Path, rejected: Path, *, keep: bool, as_json: bool = False) -> int:
    """Register the people of *signups*, change the password halfway, and print the outcomes.

    Args:
        signups: The CSV file.
        rejected: The file for the rows that cannot be registered, with line and reason.
        keep: Whether to leave the server running until Enter is pressed, to look at the rows.
        as_json: Whether to print one JSON object and no text. Defaults to false.

    Returns:
        The number of sign-ups that failed although nothing was wrong with them.

    Raises:
        UnreadableFile: *signups* cannot be read, or *rejected* cannot be written.
        RegistrationPersistenceError: A failure that a service would have to handle.
    """
    foreign = list(filter(is_foreign, os.environ))
    isolate_process()
    end_with_parent()
    console = Console(quiet=as_json)
    with ExitStack() as stack:
        rows = stack.enter_context(open_signups(signups))
        rejections = stack.enter_context(open_rejections(rejected, signups=signups))
        console.print("Starting PostgreSQL and Secrets Manager on this machine ...")
        postgres = stack.enter_context(LocalPostgres(embedded_binaries()))
        secrets_manager = stack.enter_context(LocalSecretsManager())
        login = _Login(postgres, secrets_manager)
        revision = schema.upgrade(get_db())
        console.print(f"PostgreSQL {get_db().ping().server_version}, schema at revision {revision}")
        get_db().dispose()

        tally = _sign_up(_with_progress(console, rows), rows.number_of_rows, login, rejections)
        tally.counts["delivered"] = _deliver_outbox()
        tally.secret_reads, tally.logins_rejected = secrets_manager.calls, get_db().events.count("login_rejected")

        print_summary(console, tally, rejected)
        if as_json:
            print(json.dumps(tally.as_json(rejected)))
        if keep:
            keep_running(console, postgres, _DATABASE, login.hand_over(), foreign)
        else:
            console.print("To look at the rows with psql, run it again with --keep (make demo ARGS=--keep).")
        get_db().dispose()
    return tally.failed.total()


class _Login:
    """The login of the service, with the environment that a Lambda finds; its password can change."""

    def __init__(self, postgres: LocalPostgres, secrets_manager: LocalSecretsManager) -> None:
        self._postgres, self._secrets_manager = postgres, secrets_manager
        postgres.server.create_login(_LOGIN, password := secrets.token_urlsafe(24))
        postgres.server.create_database(_DATABASE, owner=_LOGIN)
        self._arn = secrets_manager.create("registration/app", {"username": _LOGIN, "password": password})
        os.environ.update(
            secrets_manager.environment,
            APP_ENVIRONMENT="local",
            APP_DATABASE_HOST=postgres.server.host,
            APP_DATABASE_PORT=str(postgres.server.port),
            APP_DATABASE_NAME=_DATABASE,
            APP_DATABASE_SECRET_ARN=self._arn,
            APP_DATABASE_SSLMODE="disable",  # the embedded server is built without TLS
            APP_DATABASE_POOL="lambda",
        )

    def change_password(self) -> None:
        """Change the password and the secret, as each rotation does, and close the connection."""
        password = secrets.token_urlsafe(24)
        self._postgres.server.create_login(_LOGIN, password)
        self._secrets_manager.put(self._arn, {"username": _LOGIN, "password": password})
        get_db().dispose()

    def hand_over(self) -> dict[str, str]:
        """Give the tables to the superuser, as in a new cluster; return the variables that make the package use it.

        `bootstrap` can then create the roles, with this login as that of the service.
        """
        server = self._postgres.server
        with server.connect(_DATABASE) as connection:
            connection.execute(f"REASSIGN OWNED BY {_LOGIN} TO {server.user}")
        return {
            **{name: os.environ[name] for name in ("APP_ENVIRONMENT", "APP_DATABASE_HOST", "APP_DATABASE_PORT")},
            "APP_DATABASE_NAME": _DATABASE,
            "APP_DATABASE_USER": server.user,
            "APP_DATABASE_PASSWORD": server.password,
            "APP_DATABASE_SSLMODE": "disable",
            "APP_DATABASE_APPLICATION_SECRET_ARN": self._arn,
            **self._secrets_manager.environment,
        }


def _sign_up(rows: Iterator[Signup | RejectedRow], number_of_rows: int, login: _Login, rejections: Rejections) -> Tally:
    journeys = Journeys()
    tally = Tally(number_of_rows, counts=journeys.counts)
    started = time.monotonic()
    for position, row in enumerate(rows):
        if position == number_of_rows // 2:
            login.change_password()
            tally.counts["password changed"] += 1
        _handle(row, journeys, tally, rejections)
    tally.seconds = time.monotonic() - started
    return tally


def _handle(parsed: Signup | RejectedRow, journeys: Journeys, tally: Tally, rejections: Rejections) -> None:
    if isinstance(parsed, RejectedRow):
        tally.rejected[parsed.reason] += 1
        rejections.add(parsed.row, parsed.reason)
        return
    try:
        journeys.follow(parsed)
    except (InvalidInput, IdempotencyConflict) as error:
        tally.rejected[str(error)] += 1
        rejections.add(parsed.row, str(error))
    except (RegistrationPersistenceError, SQLAlchemyError) as error:
        tally.failed[type(error).__name__] += 1
        rejections.add(parsed.row, f"failed: {error}")


def _deliver_outbox() -> int:
    """Deliver the messages of the outbox to a function that does nothing; return the number of messages."""
    worker = OutboxWorker(get_db(), lambda _message: None, batch=_DELIVERY_BATCH)
    while worker.run_once():
        pass
    return worker.counts["delivered"]


def _with_progress(console: Console, rows: SignupFile) -> Iterator[Signup | RejectedRow]:
    columns = (TextColumn("Registering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(rows, total=rows.number_of_rows)
