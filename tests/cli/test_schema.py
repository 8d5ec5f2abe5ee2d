"""`migrate`, `current` and `check`."""

import re

import pytest
from command_line import one_line, run


def test_a_new_database_is_migrated(empty_database: dict[str, str]) -> None:
    """`current`, `check`, `migrate` and `ping` report the state before and after the migration."""
    assert run("current", environ=empty_database).stdout == "no revision\n"
    assert re.fullmatch(
        r"registration-persistence: the database is at revision None, the newest is \w+: "
        r"run registration-persistence migrate",
        one_line(run("check", environ=empty_database, code=1).stderr),
    )

    migrated = re.fullmatch(
        r"the database is at revision (\w+)", one_line(run("migrate", environ=empty_database).stdout)
    )

    assert migrated
    assert f"{migrated[1]}\n" == run("current", environ=empty_database).stdout
    assert (
        "the database is at the newest revision and matches the models" in run("check", environ=empty_database).stdout
    )
    assert re.fullmatch(
        rf"<Database {empty_database['APP_DATABASE_NAME']} at 127\.0\.0\.1:{empty_database['APP_DATABASE_PORT']}>: "
        r"PostgreSQL 16\.\d+, writable, without TLS, \d+ ms",
        one_line(run("ping", environ=empty_database).stdout),
    )


def test_migrate_logs_only_its_revisions(empty_database: dict[str, str]) -> None:
    """`migrate` logs the revisions that it runs, and nothing about connection pools."""
    stderr = run("migrate", environ=empty_database).stderr

    assert "Running upgrade  -> " in stderr
    assert "Pool" not in stderr


def test_migrate_prints_sql_without_any_variable() -> None:
    """`migrate --sql` needs no database and no variable, and prints only SQL to standard output."""
    script = run("migrate", "--sql").stdout

    assert script.startswith("BEGIN;")
    assert script.rstrip().endswith("COMMIT;")
    assert "CREATE TABLE registrations (" in script


@pytest.mark.parametrize("arguments", [("migrate", "0123456789ab"), ("migrate", "0123456789ab", "--sql")])
def test_an_unknown_revision_is_rejected(empty_database: dict[str, str], arguments: tuple[str, ...]) -> None:
    """The error names the revision, on a database and offline."""
    done = run(*arguments, environ=empty_database, code=1)

    assert "0123456789ab" in done.stderr.splitlines()[-1]


def test_an_owner_role_that_is_not_granted_is_rejected(empty_database: dict[str, str]) -> None:
    """The error names the role that the login may not become."""
    done = run("migrate", environ={**empty_database, "APP_DATABASE_OWNER_ROLE": "nobody_knows"}, code=1)

    assert '"nobody_knows"' in done.stderr.splitlines()[-1]
