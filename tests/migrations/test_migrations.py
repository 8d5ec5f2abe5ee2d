"""The migrations: upgrade, downgrade, locks, and the rules of the schema."""

import ast
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection, Engine, insert, text, update
from sqlalchemy.exc import IntegrityError
from support import TERMS

from registration_persistence import (
    Database,
    DatabaseSettings,
    RegistrationRepository,
    VerificationRepository,
    models,
    schema,
)
from registration_persistence.domain.ids import new_id
from registration_persistence.domain.status import Status
from registration_persistence.outcomes import Registered, Verified
from registration_persistence.sandbox import PostgresServer, embedded_binaries, wait_until
from registration_persistence.schema import SchemaDiffers
from registration_persistence.testing.plugin import LOGIN

ROOT = Path(__file__).parents[2]
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
NewDatabase = Callable[..., DatabaseSettings]


@pytest.fixture
def new_role(postgres_server: PostgresServer) -> Iterator[Callable[[str], str]]:
    """Creates an owner role without login, and makes the login a member of it."""
    roles = []

    def create(name: str) -> str:
        with postgres_server.connect() as connection:
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))
            roles.append(name)
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(name), sql.Identifier(LOGIN)))
        return name

    yield create
    with postgres_server.connect() as connection:
        for role in roles:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.fixture
def new_database(
    postgres_server: PostgresServer,
    migrated_template: DatabaseSettings,
    new_role: Callable[[str], str],  # noqa: ARG001 databases are dropped before their owner
) -> Iterator[NewDatabase]:
    """Creates an empty database that belongs to the login or to another role."""
    names = []

    def create(owner: str = LOGIN) -> DatabaseSettings:
        names.append(f"migrations_{secrets.token_hex(8)}")
        postgres_server.create_database(names[-1], owner=owner)
        return replace(migrated_template, name=names[-1])

    yield create
    for name in names:
        postgres_server.drop_database(name)


@pytest.fixture
def empty(new_database: NewDatabase) -> Iterator[Database]:
    """An empty database."""
    with opened(new_database()) as database:
        yield database


@pytest.fixture(scope="module")
def migrated(postgres_server: PostgresServer, migrated_template: DatabaseSettings) -> Iterator[Engine]:
    """A migrated database for all tests that roll back."""
    name = f"migrations_{secrets.token_hex(8)}"
    postgres_server.create_database(name, owner=LOGIN, template=migrated_template.name)
    with opened(replace(migrated_template, name=name)) as database:
        yield database.engine
    postgres_server.drop_database(name)


@pytest.fixture
def connection(migrated: Engine) -> Iterator[Connection]:
    """A connection to a migrated database; its transaction is rolled back."""
    with migrated.connect() as connection:
        yield connection


@contextmanager
def opened(settings: DatabaseSettings) -> Iterator[Database]:
    """Open a `Database`, and dispose of its connections at the end."""
    database = Database(settings)
    try:
        yield database
    finally:
        database.engine.dispose()


def environment(settings: DatabaseSettings) -> dict[str, str]:
    """Return the variables of a database."""
    return {
        "APP_ENVIRONMENT": "test",
        "APP_DATABASE_HOST": settings.host,
        "APP_DATABASE_PORT": str(settings.port),
        "APP_DATABASE_NAME": settings.name,
        "APP_DATABASE_USER": settings.user or "",
        "APP_DATABASE_PASSWORD": settings.password or "",
        "APP_DATABASE_SSLMODE": settings.sslmode,
    }


def alembic(*arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `alembic` at the root of the repository in an environment of PATH and *environ*."""
    program = Path(sys.executable).with_name("alembic")
    done = subprocess.run(
        [program, *arguments],
        cwd=ROOT,
        env={"PATH": f"{program.parent}:/usr/bin:/bin", **(environ or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


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

    done = alembic("upgrade", "head", environ=environment(settings))

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
    assert {"alembic_version", "alembic_version_pkc"} == set(left)
    assert schema.current(empty) is None
    assert head() == schema.upgrade(empty)
    use_every_table(empty)


def test_upgrading_again_changes_nothing(database: Database) -> None:
    """At the newest revision, `upgrade` does nothing."""
    before = catalog(database)

    assert head() == schema.upgrade(database)

    assert before == catalog(database)


def test_a_passed_connection_is_used(empty: Database) -> None:
    """A program can migrate on its own connection, and decides whether to commit."""
    with empty.engine.connect() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(ROOT / "migrations"))
        config.set_main_option("path_separator", "os")
        with connection.begin():
            command.upgrade(config, "head")
            assert connection.scalar(text("SELECT count(*) FROM registrations")) == 0

    assert head() == schema.current(empty)


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
                        env=environment(empty.settings),
                        stdout=subprocess.PIPE,
                        stderr=file,
                        text=True,
                    )
                )
                for file in files
            ]
            wait_until(
                lambda: "another deployment is migrating: waiting for it" in log(), "one deployment waits", timeout=30
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
    with ThreadPoolExecutor(1) as pool, caplog.at_level("INFO", "registration_persistence.migrations"):
        with locked_version(postgres_server, empty):
            upgrade = pool.submit(schema.upgrade, empty)
            wait_until(
                lambda: "a table is locked: attempt 1 of" in caplog.text or upgrade.done(),
                "an attempt has failed",
                timeout=30,
            )
            assert not upgrade.done()
        assert head() == upgrade.result(timeout=60)

    use_every_table(empty)


@contextmanager
def locked_version(postgres_server: PostgresServer, database: Database) -> Iterator[None]:
    """Lock the table with the current revision."""
    with database.engine.begin() as owner:
        owner.execute(text("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"))
    with closing(postgres_server.connect(database.settings.name)) as connection, connection.transaction():
        connection.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
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
        alembic("upgrade", "head", environ={"APP_DATABASE_OWNER_ROLE": role, **environment(online.settings)})
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
        "CREATE TABLE mine (id integer)",
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
        connection.execute(text("DELETE FROM alembic_version"))

    with pytest.raises(SchemaDiffers, match=f"is at revision None, the newest is {head()}: run"):
        schema.check(database)


def test_a_database_ahead_of_the_code_is_not_changed(database: Database) -> None:
    """If its revision is unknown, `check` and `upgrade` reject it and name the revision."""
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0123456789ab'"))

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

    names = [(row[0], row[1]) for kind in ("constraints", "indexes") for row in found[kind] if row[0] in TABLES]
    assert [] == [name for table, name in names if not re.fullmatch(rf"(pk|fk|uq|ix|ck)_{table}(_[a-z_]+)?", name)]


# The revisions


@pytest.mark.parametrize("file", REVISIONS, ids=lambda file: file.stem)
def test_the_name_of_a_revision_has_date_and_kind(file: Path) -> None:
    """The kind is `expand` or `contract`."""
    match = re.fullmatch(r"(\d{4})_(\d{2})_(\d{2})_(expand|contract)_[a-z0-9_]+\.py", file.name)

    assert match
    assert date(*map(int, match.groups()[:3])).year >= 2026


@pytest.mark.parametrize("file", [*REVISIONS, ROOT / "migrations" / "script.py.mako"], ids=lambda file: file.stem)
def test_a_revision_is_frozen(file: Path) -> None:
    """A revision does not import the package, so that a change of the models does not change the revision."""
    source = re.sub(r"\$\{.*?\}", "None", file.read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or ""))

    assert {name.partition(".")[0] for name in imported} <= {"alembic", "sqlalchemy", ""} - {""}


def test_the_history_is_linear() -> None:
    """There is one head and one base."""
    script = ScriptDirectory(ROOT / "migrations")

    assert (1, 1, len(REVISIONS)) == (
        len(script.get_heads()),
        len(script.get_bases()),
        len(list(script.walk_revisions())),
    )


# Rows and changes that the schema rejects

COLUMNS_OF_STATUS: dict[Status, dict[str, Any]] = {
    Status.PENDING: {"expires_at": NOW},
    Status.VERIFIED: {"expires_at": NOW, "verified_at": NOW},
    Status.ACTIVE: {"verified_at": NOW, "activated_at": NOW},
    Status.EXPIRED: {"closed_at": NOW, "close_reason": "ttl"},
    Status.CANCELLED: {"closed_at": NOW, "close_reason": "user"},
    Status.ERASED: {"closed_at": NOW, "close_reason": "erasure", "email": None, "email_key": None, "profile": {}},
}
OPEN = {
    "email": "Ada@example.com",
    "email_key": "ada@example.com",
    "profile": {"name": "Ada"},
    "expires_at": None,
    "verified_at": None,
    "activated_at": None,
    "closed_at": None,
    "close_reason": None,
}
ALLOWED = {
    Status.PENDING: {Status.VERIFIED, Status.EXPIRED, Status.CANCELLED, Status.ERASED},
    Status.VERIFIED: {Status.ACTIVE, Status.EXPIRED, Status.CANCELLED, Status.ERASED},
    Status.ACTIVE: {Status.ERASED},
    Status.EXPIRED: {Status.ERASED},
    Status.CANCELLED: {Status.ERASED},
    Status.ERASED: set(),
}


def registration(status: Status, /, **changes: Any) -> dict[str, Any]:
    """Return a row of `registrations` with the columns of *status*, and with *changes*."""
    return {"id": new_id(), "email_key_rev": 1, **OPEN, "status": status.value, **COLUMNS_OF_STATUS[status], **changes}


@pytest.mark.parametrize(("before", "after"), list(permutations(Status, 2)))
def test_only_documented_moves_are_possible(connection: Connection, before: Status, after: Status) -> None:
    """Every other UPDATE of the status is rejected."""
    table = METADATA.tables["registrations"]
    row = registration(before)
    connection.execute(insert(table).values(row))
    move = update(table).where(table.c.id == row["id"]).values(registration(after, id=row["id"]))

    if after in ALLOWED[before]:
        assert connection.execute(move).rowcount == 1
    else:
        assert violated_constraint(connection, move) == "ck_registrations_move"


@pytest.mark.parametrize("status", list(Status))
def test_a_row_can_change_without_a_move(connection: Connection, status: Status) -> None:
    """An UPDATE to the same status is not a move."""
    table = METADATA.tables["registrations"]
    connection.execute(insert(table).values(registration(status)))

    assert connection.execute(update(table).values(status=status.value, version=2)).rowcount == 1


def test_a_mailbox_is_verified_once(connection: Connection) -> None:
    """A mailbox can have any number of pending registrations, and one that has verified it."""
    table = METADATA.tables["registrations"]
    for status in (Status.PENDING, Status.PENDING, Status.EXPIRED, Status.CANCELLED, Status.ERASED, Status.ACTIVE):
        connection.execute(insert(table).values(registration(status)))

    assert "uq_registrations_email_proven" == violated_constraint(
        connection, insert(table).values(registration(Status.VERIFIED))
    )


VALID: dict[str, dict[str, Any]] = {
    "verification_tokens": {
        "id": new_id(),
        "registration_id": new_id(),
        "purpose": "verify_email",
        "secret_hash": b"h" * 32,
        "hash_key_id": 0,
        "expires_at": NOW + timedelta(days=1),
    },
    "registration_consents": {
        "registration_id": new_id(),
        "purpose": "terms",
        "id": new_id(),
        "document_version": "2026-01",
        "granted": True,
        "source": "web",
    },
    "registration_events": {
        "registration_id": new_id(),
        "seq": 1,
        "id": new_id(),
        "type": "registered",
        "actor": "user",
    },
    "outbox": {"event_id": new_id(), "registration_id": new_id(), "type": "registration.registered"},
}

REJECTED_REGISTRATIONS: list[tuple[str, Status, dict[str, Any]]] = [
    ("status", Status.PENDING, {"status": "unknown", "expires_at": None}),
    ("open_expires", Status.PENDING, {"expires_at": None}),
    ("open_expires", Status.VERIFIED, {"expires_at": None}),
    ("open_expires", Status.ACTIVE, {"expires_at": NOW}),
    ("closed_at", Status.EXPIRED, {"closed_at": None, "close_reason": None}),
    ("closed_at", Status.PENDING, {"closed_at": NOW, "close_reason": "user"}),
    ("close_reason_when_closed", Status.CANCELLED, {"close_reason": None}),
    ("close_reason_when_closed", Status.PENDING, {"close_reason": "user"}),
    ("close_reason", Status.CANCELLED, {"close_reason": "bored"}),
    ("verified_at", Status.VERIFIED, {"verified_at": None}),
    ("verified_at", Status.ACTIVE, {"verified_at": None}),
    ("activated_at", Status.ACTIVE, {"activated_at": None}),
    ("email_key_until_erased", Status.ERASED, {"email_key": "ada@example.com"}),
    ("email_key_until_erased", Status.PENDING, {"email_key": None}),
    ("email_until_erased", Status.ERASED, {"email": "ada@example.com"}),
    ("email_until_erased", Status.CANCELLED, {"email": None}),
    ("profile_until_erased", Status.ERASED, {"profile": {"name": "Ada"}}),
    ("profile", Status.PENDING, {"profile": ["Ada"]}),
    ("profile", Status.PENDING, {"profile": "Ada"}),
    ("profile", Status.PENDING, {"profile": {"name": "A" * 65_536}}),
    ("email_length", Status.PENDING, {"email": "é" * 160 + "@"}),
    ("email_key_length", Status.PENDING, {"email_key": "a@"}),
    ("email_key_length", Status.PENDING, {"email_key": "é" * 160 + "@"}),
    ("email_key_lower", Status.PENDING, {"email_key": "Ada@example.com"}),
    ("email_key_lower", Status.PENDING, {"email_key": "ada@Example.com"}),
    ("email_key_normalized", Status.PENDING, {"email_key": "e\u0301va@example.com"}),
    ("email_key_normalized", Status.PENDING, {"email_key": "\uff41da@example.com"}),
    ("email_key_normalized", Status.PENDING, {"email_key": "\ufb01@example.com"}),
    ("submit_pair", Status.PENDING, {"submit_key": b"k" * 32}),
    ("submit_pair", Status.PENDING, {"submit_digest": b"d" * 32}),
    ("submit_length", Status.PENDING, {"submit_key": b"k" * 31, "submit_digest": b"d" * 32}),
    ("submit_length", Status.PENDING, {"submit_key": b"k" * 32, "submit_digest": b"d" * 33}),
    ("counters", Status.PENDING, {"version": 0}),
    ("counters", Status.PENDING, {"tokens_issued": -1}),
]
REJECTED_ROWS_OF_OTHER_TABLES: list[tuple[str, str, dict[str, Any]]] = [
    ("verification_tokens", "purpose", {"purpose": "reset_password"}),
    ("verification_tokens", "secret_hash", {"secret_hash": b"h" * 31}),
    ("verification_tokens", "counters", {"attempts": -1}),
    ("verification_tokens", "counters", {"hash_key_id": -1}),
    ("verification_tokens", "expires_at", {"created_at": NOW, "expires_at": NOW}),
    ("registration_consents", "purpose", {"purpose": "Terms"}),
    ("registration_consents", "purpose", {"purpose": "t" * 64}),
    ("registration_consents", "document_version", {"document_version": ""}),
    ("registration_consents", "document_version", {"document_version": "v" * 65}),
    ("registration_consents", "source", {"source": ""}),
    ("registration_consents", "source", {"source": "s" * 65}),
    ("registration_events", "seq", {"seq": 0}),
    ("registration_events", "actor", {"actor": "admin:"}),
    ("registration_events", "actor", {"actor": "admin:ada@example.com"}),
    ("registration_events", "actor", {"actor": "users"}),
    ("registration_events", "correlation_id", {"correlation_id": "c" * 129}),
    ("registration_consents", "seq", {"seq": 0}),
    ("outbox", "attempts", {"attempts": -1}),
    ("outbox", "last_error", {"last_error": "550 ada@example.com"}),
    ("outbox", "last_error", {"last_error": ""}),
]
REJECTED = [
    *(("registrations", rule, registration(status, **changes)) for rule, status, changes in REJECTED_REGISTRATIONS),
    *((table, rule, VALID[table] | changes) for table, rule, changes in REJECTED_ROWS_OF_OTHER_TABLES),
]


@pytest.mark.parametrize(
    ("table", "rule", "row"), REJECTED, ids=[f"{number}-{rule}" for number, (_, rule, _) in enumerate(REJECTED)]
)
def test_a_row_that_violates_a_check_is_rejected(
    connection: Connection, table: str, rule: str, row: dict[str, Any]
) -> None:
    """The driver's error names the CHECK."""
    assert f"ck_{table}_{rule}" == violated_constraint(connection, insert(METADATA.tables[table]).values(row))


@pytest.mark.parametrize("status", list(Status))
def test_a_valid_row_is_stored(connection: Connection, status: Status) -> None:
    """A row of each status, with a token, consent, event and message, satisfies every CHECK."""
    row = registration(status, submit_key=b"k" * 32, submit_digest=b"d" * 32)
    connection.execute(insert(METADATA.tables["registrations"]).values(row))

    for table, valid in VALID.items():
        connection.execute(insert(METADATA.tables[table]).values({**valid, "registration_id": row["id"]}))


def test_every_check_is_tested(connection: Connection) -> None:
    """The rows above violate each CHECK of the database at least once."""
    query = """
        SELECT conname FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid AND NOT relispartition
        WHERE contype = 'c' AND connamespace = 'public'::regnamespace"""

    assert {f"ck_{table}_{rule}" for table, rule, _ in REJECTED} == set(connection.scalars(text(query)))


def violated_constraint(connection: Connection, statement: Any) -> str | None:
    """Return the name of the constraint that rejects *statement*."""
    with pytest.raises(IntegrityError) as rejected:
        connection.execute(statement)
    diagnostics: Any = rejected.value.orig
    return str(diagnostics.diag.constraint_name)


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
