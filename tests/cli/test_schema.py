"""`migrate`, `current` and `check`."""

import re

import pytest
from command_line import one_line, run
from sqlalchemy import text
from workspace import Workspace

from registration_persistence.schema import VERSION_TABLE

DRIFT = (
    "ALTER TABLE registrations ADD COLUMN nickname text",
    "ALTER TABLE registrations DROP COLUMN closed_at CASCADE",
    "ALTER TABLE registrations ALTER COLUMN version TYPE bigint",
    "ALTER TABLE registrations ALTER COLUMN profile SET DEFAULT '[]'",
    "ALTER TABLE registrations ALTER COLUMN status DROP NOT NULL",
    "ALTER TABLE outbox ALTER COLUMN attempts DROP DEFAULT, ALTER COLUMN attempts TYPE bigint",
    "ALTER TABLE outbox ALTER COLUMN last_error SET NOT NULL",
    "DROP INDEX uq_registrations_email_proven",
    "DROP INDEX ix_registrations_open_expires",
    "CREATE INDEX ix_registrations_open_expires ON registrations (created_at)",
    "CREATE INDEX mine ON registrations (created_at)",
    "ALTER TABLE verification_tokens DROP CONSTRAINT uq_verification_tokens_secret_hash",
    "ALTER TABLE registration_consents DROP CONSTRAINT fk_registration_consents_registration_id",
)
DIFFERENCES = {
    "the column registrations.nickname is not in the models",
    "the column registrations.closed_at is missing",
    "the column registrations.version has the type BIGINT",
    "the column registrations.profile has the default '[]'::jsonb",
    "the column registrations.status has no NOT NULL",
    "the column outbox.attempts has the type BIGINT and has no default",
    "the column outbox.last_error has NOT NULL",
    "the index uq_registrations_email_proven of registrations is missing",
    "the index ix_registrations_open_expires of registrations differs from the models",
    "the index ix_registrations_closed of registrations is missing",
    "the index mine of registrations is not in the models",
    "the constraint uq_verification_tokens_secret_hash of verification_tokens is missing",
    "the constraint fk_registration_consents_registration_id of registration_consents is missing",
}


def test_a_new_database_is_migrated(empty_database: dict[str, str]) -> None:
    """`current`, `check`, `migrate` and `ping` report the state before and after the migration."""
    assert run("current", environ=empty_database).stdout == "no revision\n"
    assert re.fullmatch(
        r"registration-persistence: the database has no revision, the newest is \w+: "
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
        r"PostgreSQL 1[5-8]\.\d+[^,]*, writable, without TLS, \d+ ms",
        one_line(run("ping", environ=empty_database).stdout),
    )


def test_migrate_logs_only_its_revisions(empty_database: dict[str, str]) -> None:
    """`migrate` logs the revisions that it runs, and nothing about connection pools."""
    stderr = run("migrate", environ=empty_database).stderr

    assert re.fullmatch(r"(Running upgrade \w* -> \w+, [^\n]*\n)+", stderr)
    assert run("migrate", environ=empty_database).stderr == ""


def test_migrate_prints_sql_without_any_variable() -> None:
    """`migrate --sql` needs no database and no variable, and prints only SQL to standard output."""
    script = run("migrate", "--sql").stdout

    assert script.startswith("SET lock_timeout = '2s';\n\nBEGIN;")
    assert script.rstrip().endswith("COMMIT;")
    assert "CREATE TABLE registrations (" in script


@pytest.mark.parametrize("revision", ["nonsense", "", "0123456789ab"])
def test_an_unknown_revision_is_rejected(empty_database: dict[str, str], revision: str) -> None:
    """The error names the revision and the valid ones, on a database and offline, as for other wrong arguments."""
    expected = "expected head, base, the id of a revision, or a relative revision such as +1"
    for options in ([], ["--sql"]):
        done = run("migrate", *options, revision, environ=empty_database, code=2)

        assert done.stderr == f"registration-persistence: there is no revision {revision!r}: {expected}\n"


def test_a_relative_revision_that_does_not_exist(workspace: Workspace) -> None:
    """The error states that a step is beyond the newest revision, or leads back."""
    beyond = "there is no revision '+2': seen from the revision of the database, it is beyond the last one\n"
    assert run("migrate", "+2", environ=workspace.environ, code=1).stderr == f"registration-persistence: {beyond}"
    back = "the revision '-1' is a step back: expected a newer one, or `alembic downgrade`\n"
    assert run("migrate", "-1", environ=workspace.environ, code=2).stderr == f"registration-persistence: {back}"


def test_a_newer_database_is_reported(workspace: Workspace) -> None:
    """`current` states that this version does not know the revision; `check` and `migrate` reject the database."""
    sentence = (
        "the database is at revision 0123456789ab, which this version does not know: it is newer; install the version "
        "of this package that upgraded it\n"
    )
    with workspace.database.engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0123456789ab'"))

    assert run("current", environ=workspace.environ).stdout == sentence
    for command in ("check", "migrate"):
        assert run(command, environ=workspace.environ, code=1).stderr == f"registration-persistence: {sentence}"


def test_a_difference_is_one_line_with_its_statement(workspace: Workspace) -> None:
    """`check` prints each difference in SQL terms, and the statements remove all of them."""
    with workspace.database.engine.begin() as connection:
        for statement in DRIFT:
            connection.execute(text(statement))

    lines = run("check", environ=workspace.environ, code=1).stderr.splitlines()

    assert lines[0] == "registration-persistence: the database differs from the models:"
    statements = dict(line.removeprefix("  - ").split(": ", 1) for line in lines[1:])
    assert set(statements) == DIFFERENCES
    with workspace.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in sorted(statements.values(), key=lambda sql: sql.startswith("CREATE INDEX")):
            for part in statement.split("; "):
                connection.execute(text(part))
    assert "matches the models" in run("check", environ=workspace.environ).stdout


def test_an_owner_role_that_is_not_granted_is_rejected(empty_database: dict[str, str]) -> None:
    """The error names the role that the login may not become."""
    done = run("migrate", environ={**empty_database, "APP_DATABASE_OWNER_ROLE": "nobody_knows"}, code=1)

    assert '"nobody_knows"' in done.stderr.splitlines()[-1]
