"""The privileges of the service, of the owner and of PUBLIC."""

import importlib
import pkgutil
import re
import secrets
from collections import defaultdict
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from clusters import DENIED_STATEMENTS, INSUFFICIENT_PRIVILEGE, TABLES, Cluster, is_denied, service, use_every_method
from sqlalchemy import TextClause, TextualSelect, text
from sqlalchemy.exc import ProgrammingError

from registration_persistence import Credentials, Database, StaticCredentials, schema
from registration_persistence.models import RegistrationRow
from registration_persistence.repositories import sql as sql_modules
from registration_persistence.schema import GRANTS, OWNER_ROLE, READ_WRITE_ROLE, VERSION_TABLE
from registration_persistence.schema.grants import PACKAGE_OBJECTS_PARAMETERS
from registration_persistence.schema.partitions import ensure_event_partitions


def test_every_table_has_its_grants() -> None:
    """The tables of `GRANTS` are exactly those of the models."""
    assert {*TABLES, VERSION_TABLE} == set(GRANTS)


def test_the_grants_suffice_for_every_method(application: Database) -> None:
    """Every method works with the granted privileges."""
    use_every_method(application)
    with application.session() as session:
        assert session.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")) == schema.newest()
    schema.check(application)


def test_the_service_has_no_other_privilege(prepared: Cluster) -> None:
    """The event log and the consents are append-only, and no object can be created, changed or dropped."""
    with closing(prepared.as_login(prepared.application)) as connection:
        assert [] == [statement for statement in DENIED_STATEMENTS if not is_denied(connection, statement)]


def test_every_privilege_is_needed(prepared: Cluster) -> None:
    """If any privilege on rows is missing, some method of the service fails."""
    for table in TABLES:
        for privilege, columns in GRANTS[table].items():
            prepared.execute(f"REVOKE {privilege} ON {{}} FROM {{}}", table, READ_WRITE_ROLE)
            database = service(prepared, StaticCredentials(prepared.application))
            try:
                with pytest.raises(ProgrammingError, match="permission denied"):
                    use_every_method(database)
            finally:
                database.dispose()
            described = f"{privilege} ({', '.join(columns)})" if columns else privilege
            prepared.execute(f"GRANT {described} ON {{}} TO {{}}", table, READ_WRITE_ROLE)


_INSERTED = re.compile(r"INSERT INTO (\w+)(?: AS \w+)? \(([^)]*)\)")
_UPDATED = re.compile(r"UPDATE (\w+) \w+\s+SET (.*?)(?=\s+(?:FROM|WHERE|RETURNING)\s)", re.DOTALL)
_UPDATED_WITHOUT_ALIAS = re.compile(r"UPDATE (\w+) SET (.*?)(?=\s+WHERE\s)", re.DOTALL)
_ASSIGNED = re.compile(r"(?:^|,|\s)\s*(\w+) = ")


def test_every_column_is_needed() -> None:
    """The columns that the service may insert and update are exactly those of the statements of the package."""
    needed: dict[tuple[str, str], set[str]] = defaultdict(set)
    needed["registrations", "UPDATE"].add("submit_key")  # ON CONFLICT … DO UPDATE
    for module in pkgutil.iter_modules(sql_modules.__path__, f"{sql_modules.__name__}."):
        for statement in vars(importlib.import_module(module.name)).values():
            if isinstance(statement, TextClause | TextualSelect):
                for table, columns in _INSERTED.findall(str(statement)):
                    needed[table, "INSERT"] |= set(re.split(r",\s*", columns))
                for pattern in (_UPDATED, _UPDATED_WITHOUT_ALIAS):
                    for table, assignments in pattern.findall(str(statement)):
                        needed[table, "UPDATE"] |= set(_ASSIGNED.findall(assignments)) & columns_of(table)

    assert needed == {
        (table, privilege): set(columns)
        for table, privileges in GRANTS.items()
        for privilege, columns in privileges.items()
        if columns
    }


def columns_of(table: str) -> set[str]:
    """Return the names of the columns of a table of the models."""
    return set(RegistrationRow.metadata.tables[table].columns.keys())


def test_partitions_are_created_as_the_owner(prepared: Cluster) -> None:
    """The owner role creates the partitions, and the service inserts events into them."""
    with prepared.database.session(autocommit=True) as session:
        session.connection().exec_driver_sql(schema.set_role_statement(OWNER_ROLE) or "")
        assert ensure_event_partitions(session, 40)

    database = service(prepared, StaticCredentials(prepared.application))
    use_every_method(database)
    database.dispose()
    assert {OWNER_ROLE} == prepared.owners()
    assert not [row for row in prepared.privileges() if row[0].startswith("registration_events_")]


PUBLIC = """
SELECT what, privilege_type FROM (
  SELECT 'database' AS what, coalesce(datacl, acldefault('d', datdba)) AS acl FROM pg_database
  WHERE datname = current_database()
  UNION ALL SELECT nspname, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace
  WHERE nspname IN ('public', 'datadog')
  UNION ALL SELECT relname, coalesce(relacl, acldefault('r', relowner)) FROM pg_class
  WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
  UNION ALL SELECT proname, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
  WHERE pronamespace IN ('public'::regnamespace, 'datadog'::regnamespace)
) AS ours, aclexplode(acl) WHERE grantee = 0"""


def test_public_has_no_privilege(prepared: Cluster) -> None:
    """Another login cannot connect; if it is granted CONNECT, it sees no table."""
    with prepared.server.connect(prepared.name) as connection:
        assert [] == connection.execute(PUBLIC).fetchall()
    stranger = Credentials(f"stranger_{secrets.token_hex(3)}", "password")
    prepared.server.create_login(stranger.username, stranger.password)
    try:
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            prepared.as_login(stranger)
        prepared.execute("GRANT CONNECT ON DATABASE {} TO {}", prepared.name, stranger.username)
        with closing(prepared.as_login(stranger)) as connection:
            for statement in ("SELECT FROM registrations", "CREATE TABLE mine ()", "CREATE TEMPORARY TABLE mine ()"):
                with pytest.raises(
                    (INSUFFICIENT_PRIVILEGE, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)
                ):
                    connection.execute(statement)
    finally:
        prepared.execute("DROP OWNED BY {}", stranger.username)
        prepared.execute("DROP ROLE {}", stranger.username)


def test_the_logins_have_time_limits(prepared: Cluster) -> None:
    """A login that connects through a pooler, which drops startup options, has the default time limits."""
    for credentials in (prepared.application, prepared.monitoring):
        with closing(prepared.as_login(credentials)) as connection:
            limits = [
                connection.execute(f"SHOW {name}").fetchall()[0][0]
                for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
            ]
        assert ["15s", "5s", "30s"] == limits


def test_the_logins_of_the_service_have_a_limit_for_idle_sessions_if_it_is_set(prepared: Cluster) -> None:
    """The limit of the environment is set on both logins of the service alone, and stays if it is not set any more."""
    settings = replace(prepared.database.settings, idle_session_timeout=90)
    schema.bootstrap(
        Database(settings, prepared.database.credentials), prepared.application, monitoring=prepared.monitoring
    )
    assert prepared.bootstrap().changes == ()

    for credentials, limit in ((prepared.application, "90s"), (prepared.monitoring, "0")):
        with closing(prepared.as_login(credentials)) as connection:
            assert connection.execute("SHOW idle_session_timeout").fetchone() == (limit,)
    with prepared.server.connect() as connection:
        configuration = connection.execute("SELECT rolconfig FROM pg_roles WHERE rolname = %s", [prepared.clone])
        assert "idle_session_timeout=90000ms" in configuration.fetchall()[0][0]


def test_the_objects_of_a_service_are_left_alone(cluster: Cluster) -> None:
    """A service's tables and functions keep owner and privileges, even with its own trigger on a table of ours."""
    login = cluster.application.username
    cluster.prepare()
    cluster.execute("CREATE TABLE campaigns (id uuid)")
    cluster.execute("GRANT ALL ON campaigns TO {}, PUBLIC", login)
    cluster.execute("CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'")
    cluster.execute("CREATE TRIGGER forget BEFORE DELETE ON registrations FOR EACH ROW EXECUTE FUNCTION forget()")
    cluster.execute("CREATE TABLE campaigns_of_owner (id uuid)")
    cluster.execute("ALTER TABLE campaigns_of_owner OWNER TO {}", OWNER_ROLE)
    cluster.execute("GRANT ALL ON campaigns_of_owner TO {}, PUBLIC", login)
    cluster.execute("CREATE VIEW everyone AS SELECT FROM registrations")
    cluster.execute("GRANT SELECT ON everyone TO PUBLIC")

    def objects_of_service() -> list[tuple[Any, ...]]:
        return [row for row in cluster.catalogue() if row[1] in {"campaigns", "campaigns_of_owner", "forget()"}]

    before = objects_of_service()
    assert cluster.bootstrap().changes == ()
    cluster.execute("DROP VIEW everyone")
    schema.downgrade(cluster.database, "base", owner_role=OWNER_ROLE)
    schema.upgrade(cluster.database, owner_role=OWNER_ROLE)

    assert len(before) == 3
    assert objects_of_service() == before


def test_every_function_of_ours_is_listed(prepared: Cluster) -> None:
    """The functions of the migrations are exactly those that bootstrap hands over."""
    with prepared.server.connect(prepared.name) as connection:
        rows = connection.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1")
        assert PACKAGE_OBJECTS_PARAMETERS["functions"] == [name for (name,) in rows]


def test_settings_with_which_a_login_fails(prepared: Cluster) -> None:
    """`bootstrap` sets the styles of its logins; `check` prints a statement for each setting that it leaves."""
    prepared.execute("ALTER DATABASE {} SET datestyle = 'SQL, DMY'", prepared.name)
    prepared.execute("ALTER ROLE {} IN DATABASE {} SET datestyle = 'German'", prepared.clone, prepared.name)
    prepared.execute("ALTER DATABASE {} SET intervalstyle = 'iso_8601'", prepared.name)
    prepared.execute("ALTER DATABASE {} SET search_path = shop", prepared.name)
    prepared.execute("ALTER ROLE {} SET default_transaction_read_only = yes", prepared.application.username)
    prepared.execute("CREATE ROLE {} LOGIN IN ROLE {}", own := f"own_{prepared.clone}", READ_WRITE_ROLE)

    with pytest.raises(schema.SchemaDiffers, match="has settings with which the service fails") as failure:
        schema.check(prepared.database)

    app, clone = prepared.application.username, prepared.clone
    assert [line.split(": ")[0] for line in failure.value.differences] == [
        f"the login {own} has datestyle = SQL, DMY",
        f"the login {own} has intervalstyle = iso_8601",
        f"the login {own} has search_path = shop",
        f"the login {app} has default_transaction_read_only = yes",
        f"the login {app} has search_path = shop",
        f"the login {clone} has datestyle = German",
        f"the login {clone} has search_path = shop",
    ]
    assert f"no longer: {clone} has DateStyle=German in this database" in prepared.bootstrap().changes
    with closing(prepared.as_login(prepared.application)) as connection:
        assert connection.execute("SHOW datestyle").fetchone() == ("ISO, MDY",)
        assert connection.execute("SHOW intervalstyle").fetchone() == ("postgres",)
    for line in failure.value.differences:
        prepared.execute(line.split(": ")[1])
    schema.check(prepared.database)
    prepared.execute("DROP ROLE {}", own)


def test_check_finds_missing_protection(prepared: Cluster) -> None:
    """A trigger that is missing or disabled, and each wrong privilege, has a line with the statement that corrects it.

    `bootstrap` corrects the privileges, too.
    """
    login, public = prepared.application.username, "PUBLIC"
    for statement in (
        "DROP TRIGGER registrations_check_delete ON registrations",
        "DROP TRIGGER registrations_check_move ON registrations",
        "ALTER TABLE verification_tokens DISABLE TRIGGER ALL",
        "ALTER TABLE registration_events DISABLE TRIGGER registration_events_check_insert",
        "ALTER TABLE outbox ENABLE REPLICA TRIGGER outbox_check_insert",
    ):
        prepared.execute(statement)
    triggers = differences(prepared)
    for statement in (
        "REVOKE INSERT (seq) ON registration_events FROM {}",
        "GRANT INSERT ON registration_events TO {}",
        "GRANT INSERT ON registration_events_default TO {}",
        "GRANT UPDATE (granted) ON registration_consents TO {}",
    ):
        prepared.execute(statement, READ_WRITE_ROLE)
    prepared.execute("GRANT SELECT ON registrations TO PUBLIC")
    prepared.execute("GRANT UPDATE ON registration_schema_version TO {}", login)
    lines = differences(prepared)

    assert [line.split(": ")[0] for line in triggers] == [
        "the trigger outbox_check_insert of outbox is disabled",
        "the trigger registration_events_check_insert of registration_events is disabled",
        "the trigger registrations_check_delete of registrations is missing",
        "the trigger registrations_check_move of registrations is missing",
        "the trigger verification_tokens_check_update of verification_tokens is disabled",
    ]
    assert [line.split(": ")[0] for line in lines[len(triggers) :]] == [
        f"{public} has SELECT on registrations",
        f"{login} has UPDATE on registration_schema_version",
        "registration_rw has UPDATE (granted) on registration_consents",
        "registration_rw has INSERT on registration_events",
        "registration_rw has INSERT on registration_events_default",
        "registration_rw lacks INSERT (seq) on registration_events",
    ]
    for line in triggers:
        prepared.execute(line.split(": ")[1])
    changes = prepared.bootstrap().changes
    assert "no longer: registration_rw may UPDATE (granted) on registration_consents" in changes
    assert "no longer: registration_rw may INSERT on registration_events_default" in changes
    schema.check(prepared.database)
    prepared.execute("REVOKE ALL ON outbox FROM {}", READ_WRITE_ROLE)
    prepared.execute("GRANT UPDATE (granted) ON registration_consents TO PUBLIC")
    for line in differences(prepared):
        prepared.execute(line.split(": ")[1])
    schema.check(prepared.database)
    assert prepared.bootstrap().changes == ()


def differences(cluster: Cluster) -> tuple[str, ...]:
    """Return the lines of the error of `check`."""
    with pytest.raises(schema.SchemaDiffers, match="does not protect its rows from the service") as failure:
        schema.check(cluster.database)
    return failure.value.differences


def test_the_version_of_a_development_version_is_moved(prepared: Cluster, application: Database) -> None:
    """The owner role moves the revision to our own table, which the service can read as before."""
    schema.downgrade(prepared.database, "2dcca3bc26eb", owner_role=OWNER_ROLE)
    prepared.execute("ALTER TABLE {} RENAME TO alembic_version", VERSION_TABLE)
    prepared.execute("ALTER INDEX {} RENAME TO alembic_version_pkc", f"{VERSION_TABLE}_pkc")
    prepared.execute("UPDATE alembic_version SET version_num = 'b41d5e0c92fa'")

    assert schema.upgrade(prepared.database, owner_role=OWNER_ROLE) == schema.newest()

    assert schema.current(application) == schema.newest()
    assert prepared.owners() == {OWNER_ROLE}
    assert prepared.bootstrap().changes == ()
