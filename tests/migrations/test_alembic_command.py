"""The command `alembic` itself: its errors, its locks, its folder, and new revisions."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from migration_commands import ROOT, NewDatabase, alembic, imported_packages
from sqlalchemy import text
from support import variables_of

from registration_persistence import Database, schema
from registration_persistence.sandbox import PostgresServer
from registration_persistence.schema import VERSION_TABLE, DeploymentInProgress, deployment_lock
from registration_persistence.schema.deployment_lock import LOCK_STATEMENT

NEWER = (
    "the database is at revision 0123456789ab, which this version does not know: it is newer; install the version of "
    "this package that upgraded it"
)

DIFFERENCES = """
registration-persistence: the database differs from the models:
  - the index mine of outbox is not in the models: DROP INDEX CONCURRENTLY mine;
  - the column registrations.profile is missing: \
ALTER TABLE registrations ADD COLUMN profile JSONB DEFAULT '{}' NOT NULL;
  - the constraint fk_verification_tokens_registration_id of verification_tokens is missing: \
ALTER TABLE verification_tokens ADD CONSTRAINT fk_verification_tokens_registration_id \
FOREIGN KEY(registration_id) REFERENCES registrations (id) ON DELETE CASCADE;
"""


def error_of(*arguments: str, environ: dict[str, str], code: int = 1) -> str:
    """Return the error of `alembic`, which must be all that it prints, except for the revision that it ran."""
    done = alembic(*arguments, environ=environ, code=code)
    assert done.stdout == ""
    prefix, _, message = re.sub(r"\ARunning upgrade .*\n", "", done.stderr).partition(": ")
    assert prefix == "registration-persistence"
    return message.removesuffix("\n")


def test_an_error_is_one_line(new_database: NewDatabase, database: Database) -> None:
    """Each error is printed as `registration-persistence` prints it."""
    right, soon = variables_of(new_database()), {"APP_DATABASE_CONNECT_TIMEOUT": "2"}
    other = variables_of(new_database())  # deployments of one database wait for each other, and say so
    no_credentials = {
        **{name: value for name, value in right.items() if name not in {"APP_DATABASE_USER", "APP_DATABASE_PASSWORD"}},
        "APP_DATABASE_SECRET_ARN": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:none-AbCdEf",
        "AWS_EC2_METADATA_DISABLED": "true",
        **soon,
    }

    assert "APP_DATABASE_HOST is not set" in error_of("current", environ={}, code=2)
    assert "APP_DATABASE_PORT" in error_of("current", environ={**right, "APP_DATABASE_PORT": "http"}, code=2)
    cases: list[tuple[list[str], dict[str, str], str]] = [
        (["current"], {**right, **soon, "APP_DATABASE_PORT": "1"}, "Connection refused"),
        (["current"], {**right, "APP_DATABASE_PASSWORD": "wrong"}, "authentication failed"),
        (["current"], {**right, "APP_DATABASE_NAME": "absent"}, "does not exist"),
        (["current"], no_credentials, "credentials"),
        (["upgrade", "head"], {**other, "APP_DATABASE_OWNER_ROLE": "absent"}, 'role "absent" does not'),
        (["upgrade", "nonsense"], right, "Can't locate revision identified by 'nonsense'"),
    ]
    for (_, _, part), error in zip(cases, errors_of([case[:2] for case in cases]), strict=True):
        assert_one_line(error, part)
    own = variables_of(database.settings)
    with database.engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0123456789ab'"))
    together = (["current"], ["upgrade", "head"], ["check"])
    assert errors_of([(arguments, own) for arguments in together]) == [NEWER] * len(together)
    assert error_of("downgrade", "base", environ=own) == NEWER
    with database.engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))
    assert_one_line(
        error_of("upgrade", "head", environ=own),
        f'relation "outbox" already exists, but {VERSION_TABLE} records no revision that created it: '
        "move it to another schema if it is not a table of this package",
    )


def errors_of(runs: Sequence[tuple[list[str], dict[str, str]]]) -> list[str]:
    """Return the error of each run of `alembic`; most of them only wait, so they run at the same time."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda run: error_of(*run[0], environ=run[1]), runs))


def assert_one_line(message: str, part: str) -> None:
    """Assert that *message* is one line that contains *part*."""
    assert part in message
    assert "\n" not in message


def test_reading_needs_no_lock(database: Database, postgres_server: PostgresServer) -> None:
    """During a deployment, `current` and `check` return at once."""
    environ = variables_of(database.settings)
    with closing(postgres_server.connect(database.settings.name)) as other, other.transaction():
        other.execute(LOCK_STATEMENT)

        assert alembic("current", environ=environ).stderr == ""
        assert "No new upgrade operations" in alembic("check", environ=environ).stdout
        assert schema.current(database) == schema.newest()
        schema.check(database)


def test_a_wait_is_reported_once_and_then_sometimes(
    database: Database,
    postgres_server: PostgresServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wait for another deployment is reported at its beginning, and then every 30 s, here every 0.4 s."""
    monkeypatch.setattr(deployment_lock, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(deployment_lock, "_REPORT_SECONDS", 0.4)
    with closing(postgres_server.connect(database.settings.name)) as other, other.transaction():
        other.execute(LOCK_STATEMENT)

        with caplog.at_level("INFO", "registration_persistence.migrations"), pytest.raises(DeploymentInProgress):
            schema.upgrade(database, wait=1.1)

    waits = [record.getMessage() for record in caplog.records if "waiting" in record.getMessage()]
    assert len(waits) == 3
    assert waits[0] == "another deployment is migrating: waiting for it, for 0 s so far"


@pytest.fixture
def working_copy(tmp_path: Path) -> Path:
    """A copy of the files that Alembic needs, in a folder with an unusual name."""
    folder = tmp_path / "app_feature%2Flogin: %(here)s é"
    folder.mkdir()
    for name in ("alembic.ini", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "migrations", folder / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.nightly
def test_an_unusual_folder_and_a_new_revision(working_copy: Path, database: Database) -> None:
    """In a folder whatever its name, Alembic works, and a new revision passes ruff."""
    environ = variables_of(database.settings)
    assert f"{schema.newest()} (head)" in alembic("heads", folder=working_copy).stdout
    assert "CREATE TABLE outbox" in alembic("upgrade", "head", "--sql", folder=working_copy).stdout
    assert "(head)" in alembic("current", environ=environ, folder=working_copy).stdout
    with database.engine.begin() as connection:
        for statement in (
            "ALTER TABLE registrations DROP COLUMN profile CASCADE",
            "ALTER TABLE verification_tokens DROP CONSTRAINT fk_verification_tokens_registration_id",
            "CREATE INDEX mine ON outbox (attempts)",
        ):
            connection.execute(text(statement))
    check = alembic("check", environ=environ, folder=working_copy, code=1)
    assert check.stdout == ""
    assert check.stderr.endswith(DIFFERENCES)

    alembic("revision", "--autogenerate", "-m", "expand add phone number", environ=environ, folder=working_copy)
    alembic("stamp", "--purge", "head", environ=environ, folder=working_copy)
    for message in ('say "hello" \\n 50%?', "é" * 200):
        alembic("revision", "-m", message, folder=working_copy)

    (generated,) = (working_copy / "migrations" / "versions").glob("*_expand_add_phone_number.py")
    assert imported_packages(generated) == {"alembic", "sqlalchemy"}
    assert 'op.add_column(\n        "registrations",' in generated.read_text()
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "migrations/versions"]
        done = subprocess.run(ruff, cwd=working_copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
