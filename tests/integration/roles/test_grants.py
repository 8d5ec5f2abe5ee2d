"""The privileges of the service, of the owner and of PUBLIC."""

import secrets
from contextlib import closing

import psycopg
import pytest
from clusters import DENIED_STATEMENTS, INSUFFICIENT_PRIVILEGE, TABLES, Cluster, is_denied, service, use_every_method
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from registration_persistence import Credentials, Database, StaticCredentials, schema
from registration_persistence.schema import GRANTS, OWNER_ROLE, READ_WRITE_ROLE, VERSION_TABLE
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
