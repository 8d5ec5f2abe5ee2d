"""The migrations: upgrade, downgrade, locks, and the rules of the schema."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from migration_commands import ROOT, NewDatabase, alembic, imported_packages, opened
from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError
from support import TERMS, variables_of

from registration_persistence import (
    Database,
    DatabaseSettings,
    RegistrationRepository,
    VerificationRepository,
    models,
    schema,
)
from registration_persistence.errors import InvalidInput
from registration_persistence.outcomes import Registered, Verified
from registration_persistence.sandbox import PostgresServer, embedded_binaries, wait_until
from registration_persistence.schema import SchemaDiffers

REVISIONS = sorted((ROOT / "migrations" / "versions").glob("*.py"))
METADATA = models.RegistrationRow.metadata
TABLES = frozenset(METADATA.tables)
NOW = datetime.now(UTC)

CATALOG = {
    "tables": """
        SELECT c.oid::regclass::text, c.relkind, c.reloptions::text, pg_get_partkeydef(c.oid),
               pg_get_expr(c.relpartbound, c.oid)
        FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND c.relnamespace = 'public'::regnamespace""",
    "columns": """
        SELECT c.oid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
               a.attcollation::regcollation::text, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 't'""",
    "indexes": """
        SELECT i.indrelid::regclass::text, i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), i.indisvalid,
               pg_get_expr(i.indpred, i.indrelid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid AND c.relnamespace = 'public'::regnamespace""",
    "triggers": """
        SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal""",
    "functions": """
        SELECT oid::regprocedure::text, pg_get_functiondef(oid)
        FROM pg_proc WHERE pronamespace = 'public'::regnamespace""",
}

Catalog = dict[str, set[tuple[Any, ...]]]


def psql(settings: DatabaseSettings, script: str) -> None:
    """Run *script* with psql, which stops at the first error."""
    done = subprocess.run(
        [
            *(embedded_binaries() / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", settings.host),
            *("-p", str(settings.port), "-U", str(settings.user), "-d", settings.name, "-f", "-"),
        ],
        input=script,
        env={"PGPASSWORD": settings.password or ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def catalog(database: Database) -> Catalog:
    """Return the catalog of the schema, by kind; each row starts with the name of its table or function."""
    with database.engine.connect() as connection:
        return {kind: {tuple(row) for row in connection.execute(text(query))} for kind, query in CATALOG.items()}


def owners(database: Database) -> set[str]:
    """Return the owners of the tables, indexes and functions."""
    query = """
        SELECT relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION SELECT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace"""
    with database.engine.connect() as connection:
        return set(connection.scalars(text(query)))


def head() -> str | None:
    """Return the newest revision in the folder of the repository."""
    return ScriptDirectory(ROOT / "migrations").get_current_head()


def use_every_table(database: Database) -> None:
    """Insert rows into every table, in every status that the repositories can set."""
    with database.session() as session:
        registrations = RegistrationRepository(session)
        verification = VerificationRepository(session)
        for name in ("ada", "eve", "bob", "cy"):
            outcome = registrations.register(f"{name}@example.com", profile={"name": name}, consents=[TERMS])
            assert isinstance(outcome, Registered)
            if name == "bob":
                registrations.cancel(outcome.registration.id)
            elif name != "cy":
                verified = verification.verify_by_token(outcome.token)
                assert isinstance(verified, Verified)
                if name == "ada":
                    registrations.activate(verified.registration.id)


# The commands


def test_alembic_needs_only_the_variables_of_the_database(new_database: NewDatabase) -> None:
    """`alembic upgrade head` at the root of the repository migrates an empty database, and logs the revision."""
    settings = new_database()

    done = alembic("upgrade", "head", environ=variables_of(settings))

    assert re.search(rf"Running upgrade \w* -> {head()}", done.stderr)
    with opened(settings) as database:
        assert head() == schema.current(database)
        use_every_table(database)


def test_offline_sql_creates_the_same_schema(new_database: NewDatabase) -> None:
    """`alembic upgrade head --sql` prints the whole migration without any variable."""
    with opened(new_database()) as online, opened(new_database()) as offline:
        schema.upgrade(online)

        psql(offline.settings, alembic("upgrade", "head", "--sql").stdout)

        assert catalog(online) == catalog(offline)
        assert head() == schema.current(offline)


def test_upgrade_downgrade_upgrade_with_rows_in_every_table(empty: Database) -> None:
    """A downgrade to base removes all our objects, with all rows, and the next upgrade succeeds."""
    schema.upgrade(empty)
    use_every_table(empty)
    with empty.engine.connect() as connection:
        assert all(connection.scalar(text(f"SELECT count(*) FROM {table}")) for table in TABLES)

    schema.downgrade(empty, "base")

    with empty.engine.connect() as connection:
        left = connection.scalars(
            text("""
                SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
                UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
                UNION SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typelem = 0""")
        ).all()
    assert {schema.VERSION_TABLE, f"{schema.VERSION_TABLE}_pkc"} == set(left)
    assert schema.current(empty) is None
    assert head() == schema.upgrade(empty)
    use_every_table(empty)


def test_an_index_of_a_failed_attempt_is_created_again(database: Database) -> None:
    """An attempt to create an index without blocking writes leaves an invalid index, which the next one replaces."""
    schema.downgrade(database, "2dcca3bc26eb")
    with database.engine.begin() as connection:
        connection.execute(text("CREATE INDEX ix_registrations_email_pending_id ON registrations (id)"))

    schema.upgrade(database)

    schema.check(database)


def test_upgrading_again_changes_nothing(database: Database) -> None:
    """At the newest revision, `upgrade` does nothing."""
    before = catalog(database)

    assert head() == schema.upgrade(database)

    assert before == catalog(database)


# Other deployments, and locks


def test_two_deployments_wait_for_each_other(empty: Database, postgres_server: PostgresServer, tmp_path: Path) -> None:
    """If two processes migrate at the same time, one waits, logs the wait, and both succeed."""
    outputs = [tmp_path / "first", tmp_path / "second"]

    def log() -> str:
        return "".join(output.read_text() for output in outputs)

    with ExitStack() as stack:
        files = [stack.enter_context(output.open("w")) for output in outputs]
        with locked_version(postgres_server, empty):
            processes = [
                stack.enter_context(
                    subprocess.Popen(
                        [sys.executable, "-m", "registration_persistence", "migrate"],
                        env=variables_of(empty.settings),
                        stdout=subprocess.PIPE,
                        stderr=file,
                        text=True,
                    )
                )
                for file in files
            ]
            wait_until(
                lambda: "another deployment is migrating: waiting for it" in log(),
                "one deployment waits",
                timeout=30,
            )
        printed = [process.communicate(timeout=60)[0] for process in processes]

    assert [0, 0] == [process.returncode for process in processes], log()
    assert [f"the database is at revision {head()}\n"] * 2 == printed
    assert log().count("Running upgrade") == len(REVISIONS)
    use_every_table(empty)


def test_a_locked_table_is_waited_for(
    empty: Database, postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """If another session has locked a table, the migration tries again, logs it, and succeeds later."""
    schema.upgrade(empty, "2dcca3bc26eb")
    with ThreadPoolExecutor(1) as pool, caplog.at_level("INFO", "registration_persistence.migrations"):
        with closing(postgres_server.connect(empty.settings.name)) as connection, connection.transaction():
            connection.execute("LOCK TABLE registration_events IN ACCESS SHARE MODE")
            upgrade = pool.submit(schema.upgrade, empty)
            wait_until(
                lambda: "a table is locked: attempt 1 of" in caplog.text or upgrade.done(),
                "an attempt has failed",
                timeout=30,
            )
            assert not upgrade.done()
        assert head() == upgrade.result(timeout=60)

    use_every_table(empty)


def test_a_migration_that_ends_a_deadlock_is_repeated(empty: Database, postgres_server: PostgresServer) -> None:
    """A transaction of the service may use the tables in another order than the migration; it is not disturbed."""
    schema.upgrade(empty, "c0a5f1d3e7b2")
    with ThreadPoolExecutor(1) as pool, closing(postgres_server.connect(empty.settings.name)) as service:
        service.execute("SET deadlock_timeout = '1min'")
        with service.transaction():
            service.execute("LOCK TABLE outbox IN ROW EXCLUSIVE MODE")
            upgrade = pool.submit(schema.upgrade, empty)
            wait_until(
                lambda: service.execute("SELECT FROM pg_locks WHERE NOT granted").fetchone() is not None,
                "the migration waits for the second table",
                timeout=30,
            )
            service.execute("LOCK TABLE registration_events IN ROW EXCLUSIVE MODE")
        assert head() == upgrade.result(timeout=60)

    use_every_table(empty)


@contextmanager
def locked_version(postgres_server: PostgresServer, database: Database) -> Iterator[None]:
    """Lock the table with the current revision."""
    with database.engine.begin() as owner:
        owner.execute(text(f"CREATE TABLE {schema.VERSION_TABLE} (version_num varchar(32) PRIMARY KEY)"))
    with closing(postgres_server.connect(database.settings.name)) as connection, connection.transaction():
        connection.execute(f"LOCK TABLE {schema.VERSION_TABLE} IN ACCESS EXCLUSIVE MODE")
        yield


# The owner role


@pytest.mark.parametrize("name", ['Odd "Owner"', "half 50%", "owner :of it", "Robert'); --"])
def test_everything_belongs_to_the_owner_role(
    new_database: NewDatabase, new_role: Callable[[str], str], name: str
) -> None:
    """Each table, index and function belongs to the owner role, whatever its name, and the login can use them."""
    role = new_role(name)

    with opened(new_database(role)) as database:
        schema.upgrade(database, owner_role=role)

        assert {quoted(role)} == owners(database)
        use_every_table(database)
        schema.downgrade(database, "base", owner_role=role)


def test_the_environment_names_the_owner_role(new_database: NewDatabase, new_role: Callable[[str], str]) -> None:
    """`APP_DATABASE_OWNER_ROLE` names the owner, online and offline."""
    role = new_role('Odd "Owner"')
    with opened(new_database(role)) as online, opened(new_database(role)) as offline:
        alembic("upgrade", "head", environ={"APP_DATABASE_OWNER_ROLE": role, **variables_of(online.settings)})
        script = alembic("upgrade", "head", "--sql", environ={"APP_DATABASE_OWNER_ROLE": role}).stdout
        psql(offline.settings, script)

        assert [{quoted(role)}] * 2 == [owners(online), owners(offline)]


def quoted(role: str) -> str:
    """Return *role* as PostgreSQL prints it."""
    return '"' + role.replace('"', '""') + '"'


# Models, migrations and database are equal


def test_check_finds_nothing_in_a_migrated_database(database: Database) -> None:
    """Alembic finds no difference between the models and the migrations."""
    schema.check(database)


@pytest.mark.parametrize(
    "drift",
    [
        "ALTER TABLE registrations ADD COLUMN nickname text",
        "ALTER TABLE registrations DROP COLUMN closed_at CASCADE",
        "ALTER TABLE registrations ALTER COLUMN version TYPE bigint",
        "ALTER TABLE registrations ALTER COLUMN version SET DEFAULT 2",
        "ALTER TABLE registrations ALTER COLUMN status DROP NOT NULL",
        "DROP INDEX uq_registrations_email_proven",
        "CREATE INDEX mine ON registrations (created_at)",
        "ALTER TABLE verification_tokens DROP CONSTRAINT fk_verification_tokens_registration_id",
        "ALTER TABLE verification_tokens DROP CONSTRAINT uq_verification_tokens_secret_hash",
        "DROP TABLE outbox",
    ],
)
def test_check_finds_a_manual_change(database: Database, drift: str) -> None:
    """A database that was changed without a migration is rejected."""
    with database.engine.begin() as connection:
        connection.execute(text(drift))

    with pytest.raises(SchemaDiffers, match="differs from the models"):
        schema.check(database)


def test_check_finds_that_the_database_is_behind(database: Database) -> None:
    """A database before the newest revision is rejected, and the error names the command."""
    with database.engine.begin() as connection:
        connection.execute(text(f"DELETE FROM {schema.VERSION_TABLE}"))

    with pytest.raises(SchemaDiffers, match=f"has no revision, the newest is {head()}: run"):
        schema.check(database)


def test_a_database_ahead_of_the_code_is_not_changed(database: Database) -> None:
    """If its revision is unknown, `check` and `upgrade` reject it and name the revision."""
    with database.engine.begin() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0123456789ab'"))

    for call in (schema.check, schema.upgrade):
        with pytest.raises(schema.MigrationRefused, match="0123456789ab"):
            call(database)
    assert schema.current(database) == "0123456789ab"


def test_the_migrations_create_exactly_the_models(empty: Database, database: Database) -> None:
    """Each name, type, default, CHECK, key, index and predicate is equal, also those that `check` does not compare."""
    with empty.engine.begin() as connection:
        METADATA.create_all(connection)
    kinds = ("tables", "columns", "constraints", "indexes")

    of_models = {kind: rows for kind, rows in catalog(empty).items() if kind in kinds}

    assert of_models == {
        kind: {row for row in rows if row[0] in TABLES} for kind, rows in catalog(database).items() if kind in kinds
    }


def test_every_name_follows_the_convention(empty: Database) -> None:
    """Constraints and indexes are named after kind and table, so that an error of the driver names the broken rule."""
    schema.upgrade(empty)

    found = catalog(empty)

    # Since PostgreSQL 18, NOT NULL is a constraint too, and its name is generated.
    named = [row for row in (*found["constraints"], *found["indexes"]) if not row[2].startswith("NOT NULL")]
    names = [(row[0], row[1]) for row in named if row[0] in TABLES]
    assert [] == [name for table, name in names if not re.fullmatch(rf"(pk|fk|uq|ix|ck)_{table}(_[a-z_]+)?", name)]


@pytest.mark.parametrize(
    "revision",
    [
        "0123456789ab",
        "nonsense+1",
        "current",
        "x@head",
        "head:",
        "50%",
        "a b",
        "+x",
        "héad",
        "+1+1",
        "head-99",
        "head+1",
        "base-1",
    ],
)
def test_an_unknown_revision_is_rejected(revision: str) -> None:
    """Nothing is sent to a database, so the error comes before that of a database that cannot be reached."""
    unreachable = Database(
        DatabaseSettings(host="127.0.0.1", name="none", port=1, environment="test", user="x", password="x")
    )

    with pytest.raises(InvalidInput, match=r"there is no revision .*: expected head, base"):
        schema.upgrade_sql(revision)
    for change in (schema.upgrade, schema.downgrade):
        with pytest.raises(InvalidInput, match="there is no revision"):
            change(unreachable, revision)


def test_old_correlation_ids_do_not_stop_an_upgrade(empty: Database) -> None:
    """Rows that violate the narrow form stay; new ones are refused, and the CHECK is validated once they are gone."""
    event = (
        "INSERT INTO registration_events (registration_id, seq, id, type, actor, correlation_id)"
        " VALUES (gen_random_uuid(), 1, gen_random_uuid(), 'registered', 'user', 'of Ada Lovelace')"
    )
    schema.upgrade(empty, "2dcca3bc26eb")
    with empty.engine.begin() as connection:
        connection.execute(text(event))

    schema.upgrade(empty)

    schema.check(empty)  # without a warning about the CHECK that is NOT VALID
    with pytest.raises(IntegrityError, match="correlation_id"), empty.engine.begin() as connection:
        connection.execute(text(event))
    name = "ck_registration_events_correlation_id"
    with empty.engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM registration_events")) == 1
        connection.execute(text("DELETE FROM registration_events"))
        connection.execute(text(f"ALTER TABLE registration_events VALIDATE CONSTRAINT {name}"))
    schema.downgrade(empty, "2dcca3bc26eb")


# The revisions


@pytest.mark.parametrize("file", REVISIONS, ids=lambda file: file.stem)
def test_the_name_of_a_revision_has_date_and_kind(file: Path) -> None:
    """The kind is `expand` or `contract`."""
    match = re.fullmatch(r"(\d{4})_(\d{2})_(\d{2})_(expand|contract)_[a-z0-9_]+\.py", file.name)

    assert match
    assert date(*map(int, match.groups()[:3])).year >= 2026


@pytest.mark.parametrize("file", REVISIONS, ids=lambda file: file.stem)
def test_a_revision_is_frozen(file: Path) -> None:
    """A revision does not import the package, so that a change of the models does not change the revision."""
    assert imported_packages(file) <= {"alembic", "sqlalchemy"}


def test_the_history_is_linear() -> None:
    """There is one head and one base."""
    script = ScriptDirectory(ROOT / "migrations")

    assert (1, 1, len(REVISIONS)) == (
        len(script.get_heads()),
        len(script.get_bases()),
        len(list(script.walk_revisions())),
    )


# The partitions of the event log


def test_events_are_in_the_partition_of_their_month(new_database: NewDatabase, postgres_server: PostgresServer) -> None:
    """Months are those of UTC, whatever the time zone of the server is."""
    settings = new_database()
    with postgres_server.connect() as administrator:
        for setting in ("timezone = 'Pacific/Auckland'", "datestyle = 'German'"):
            administrator.execute(sql.SQL("ALTER DATABASE {} SET " + setting).format(sql.Identifier(settings.name)))
    with opened(settings) as database:
        schema.upgrade(database)
        with database.engine.begin() as connection:
            found = connection.execute(
                text("""
                    WITH month AS (
                      SELECT generate_series(this, this + interval '12 months', interval '1 month') AS start
                      FROM date_trunc('month', now() AT TIME ZONE 'UTC') AS this
                    ), moment AS (
                      SELECT now() AS at
                      UNION ALL SELECT start AT TIME ZONE 'UTC' FROM month
                      UNION ALL SELECT (start + interval '1 month' - interval '1 microsecond') AT TIME ZONE 'UTC'
                                FROM month
                    )
                    INSERT INTO registration_events (registration_id, seq, occurred_at, id, type, actor)
                    SELECT gen_random_uuid(), 1, at, gen_random_uuid(), 'registered', 'user' FROM moment
                    RETURNING to_char(occurred_at AT TIME ZONE 'UTC', '"registration_events_y"YYYY"m"MM') AS month,
                              tableoid::regclass::text AS partition""")
            ).all()

    assert len(found) == 27
    assert [row.month for row in found] == [row.partition for row in found]


@pytest.mark.parametrize("moment", ["2100-01-01", "2020-01-01", "infinity"])
def test_events_of_other_months_are_in_the_default_partition(connection: Connection, moment: str) -> None:
    """An event whose month has no partition is stored."""
    partition = connection.scalar(
        text("""
            INSERT INTO registration_events (registration_id, seq, occurred_at, id, type, actor)
            VALUES (gen_random_uuid(), 1, CAST(:moment AS timestamptz), gen_random_uuid(), 'registered', 'user')
            RETURNING tableoid::regclass::text"""),
        {"moment": moment},
    )

    assert partition == "registration_events_default"


def test_partitions_reach_a_year_ahead(connection: Connection) -> None:
    """There are fourteen partitions: one for this month, twelve for the next months, and the default."""
    query = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'registration_events'::regclass"

    assert connection.scalar(text(query)) == 14
