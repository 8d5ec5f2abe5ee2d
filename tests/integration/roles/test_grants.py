"""The privileges of the service, of the owner and of PUBLIC."""

import secrets
from contextlib import closing
from typing import Any

import psycopg
import pytest
from clusters import DENIED_STATEMENTS, INSUFFICIENT_PRIVILEGE, TABLES, Cluster, is_denied, service, use_every_method
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from registration_persistence import Credentials, Database, StaticCredentials, schema
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
        for privilege in GRANTS[table]:
            prepared.execute(f"REVOKE {privilege} ON {{}} FROM {{}}", table, READ_WRITE_ROLE)
            database = service(prepared, StaticCredentials(prepared.application))
            try:
                with pytest.raises(ProgrammingError, match="permission denied"):
                    use_every_method(database)
            finally:
                database.dispose()
            prepared.execute(f"GRANT {privilege} ON {{}} TO {{}}", table, READ_WRITE_ROLE)


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
        rows = connection.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
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


def test_the_version_of_a_development_version_is_moved(prepared: Cluster, application: Database) -> None:
    """The owner role moves the revision to our own table, which the service can read as before."""
    prepared.execute("ALTER TABLE {} RENAME TO alembic_version", VERSION_TABLE)
    prepared.execute("ALTER INDEX {} RENAME TO alembic_version_pkc", f"{VERSION_TABLE}_pkc")
    prepared.execute("UPDATE alembic_version SET version_num = 'b41d5e0c92fa'")

    assert schema.upgrade(prepared.database, owner_role=OWNER_ROLE) == schema.newest()

    assert schema.current(application) == schema.newest()
    assert prepared.owners() == {OWNER_ROLE}
    assert prepared.bootstrap().changes == ()
