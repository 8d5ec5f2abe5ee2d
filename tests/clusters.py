"""A database whose roles are managed by `schema.bootstrap`, and helpers for the tests of its privileges."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from support import TERMS

from registration_persistence import (
    Consent,
    ConsentRepository,
    Credentials,
    Database,
    EventRepository,
    ImportRow,
    OutboxRepository,
    Peppers,
    PrivacyRepository,
    RegistrationRepository,
    Retention,
    VerificationRepository,
    bulk_import,
    schema,
)
from registration_persistence.models import RegistrationRow
from registration_persistence.outcomes import Issued, Registered, Verified
from registration_persistence.sandbox import PostgresServer
from registration_persistence.schema import GRANTS, MONITORING_ROLE, OWNER_ROLE, READ_WRITE_ROLE, VERSION_TABLE

TABLES = sorted(RegistrationRow.metadata.tables)
INSUFFICIENT_PRIVILEGE = psycopg.errors.InsufficientPrivilege
GROUPS = (OWNER_ROLE, READ_WRITE_ROLE, MONITORING_ROLE)

CATALOGUE = """
SELECT 'role', rolname, to_jsonb(r) - 'oid' - 'rolpassword' || jsonb_build_object('hash', rolpassword)
FROM pg_authid r WHERE rolname !~ '^pg_'
UNION ALL SELECT 'member', roleid::regrole::text, to_jsonb(m) - 'oid' FROM pg_auth_members m
UNION ALL SELECT 'setting', setrole::regrole::text, to_jsonb(s) FROM pg_db_role_setting s
UNION ALL SELECT 'database', datname, to_jsonb(datacl) FROM pg_database WHERE datname = current_database()
UNION ALL SELECT 'schema', nspname, jsonb_build_array(nspowner::regrole, nspacl) FROM pg_namespace
UNION ALL SELECT 'table', oid::regclass::text, jsonb_build_array(relowner::regrole, relacl)
FROM pg_class WHERE relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'datadog'))
UNION ALL SELECT 'column', attrelid::regclass::text, jsonb_build_array(attname, attacl)
FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid >= 16384
UNION ALL SELECT 'function', oid::regprocedure::text, to_jsonb(p) - 'oid'
FROM pg_proc p WHERE pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'datadog'))
ORDER BY 1, 2, 3"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A new database with the admin login of a new Aurora cluster."""

    server: PostgresServer
    admin: PostgresServer
    database: Database
    application: Credentials
    monitoring: Credentials

    @property
    def name(self) -> str:
        """The name of the database."""
        return self.database.settings.name

    @property
    def clone(self) -> str:
        """The second user of an alternating rotation."""
        return f"{self.application.username}_clone"

    @property
    def server_version(self) -> int:
        """The version of the server, such as 150018."""
        with self.server.connect() as connection:
            return connection.info.server_version

    def bootstrap(self, **changes: Any) -> schema.Bootstrapped:
        """Create the roles."""
        return schema.bootstrap(self.database, self.application, **{"monitoring": self.monitoring, **changes})

    def prepare(self) -> None:
        """Create the roles, and the tables as the owner."""
        self.bootstrap()
        schema.upgrade(self.database, owner_role=OWNER_ROLE)

    def as_login(self, credentials: Credentials) -> psycopg.Connection:
        """Open a connection in autocommit with *credentials*."""
        return replace(self.server, user=credentials.username, password=credentials.password).connect(self.name)

    def catalogue(self, database: str | None = None) -> list[tuple[Any, ...]]:
        """Return all roles, passwords and privileges of the server."""
        with self.server.connect(database or self.name) as connection:
            return connection.execute(CATALOGUE).fetchall()

    def privileges(self) -> set[tuple[str, str, str]]:
        """Return the privileges of all roles but the owner; one on a column has its name in parentheses."""
        with self.server.connect(self.name) as connection:
            rows = connection.execute("""
                SELECT relname, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type
                FROM pg_class, aclexplode(relacl)
                WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND grantee <> relowner
                UNION ALL
                SELECT relname, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
                       format('%s (%s)', privilege_type, attname)
                FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid, aclexplode(attacl)
                WHERE relnamespace = 'public'::regnamespace AND grantee <> relowner""")
            return set(rows)

    def owners(self) -> set[str]:
        """Return the owners of the tables and functions."""
        with self.server.connect(self.name) as connection:
            rows = connection.execute("""
                SELECT relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
                UNION SELECT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace""")
            return {owner for (owner,) in rows}

    def execute(self, statement: str, *names: str) -> None:
        """Execute *statement* as the superuser."""
        with self.server.connect(self.name) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def expected_privileges() -> set[tuple[str, str, str]]:
    """Return the privileges of `GRANTS`, as `Cluster.privileges` returns them."""
    return {
        (table, READ_WRITE_ROLE, f"{privilege} ({column})" if column else privilege)
        for table, privileges in GRANTS.items()
        for privilege, columns in privileges.items()
        for column in columns or ("",)
    }


NewCluster = Callable[[], Cluster]


def service(cluster: Cluster, credentials: Any) -> Database:
    """Return the database with the credentials of a service."""
    return Database(replace(cluster.database.settings, user="unused", password="unused"), credentials)


def use_every_method(database: Database) -> None:
    """Call every method that a service and its daily jobs use."""
    run = secrets.token_hex(8)
    with database.session() as session:
        registrations = RegistrationRepository(session)
        verification = VerificationRepository(session, peppers=Peppers({1: b"p" * 32}))
        consents, outbox, retention = ConsentRepository(session), OutboxRepository(session), Retention(session)
        privacy = PrivacyRepository(session)

        ada = registrations.register(f"ada.{run}@example.com", consents=[TERMS], idempotency_key=run)
        assert isinstance(ada, Registered)
        registrations.register(f"ada.{run}@example.com", consents=[TERMS], idempotency_key=run)
        verification.issue_token(ada.registration.id, min_gap=timedelta(0))
        code = verification.issue_code(ada.registration.id, min_gap=timedelta(0))
        assert isinstance(code, Issued)
        verified = verification.verify_by_code(ada.registration.id, code.secret)
        assert isinstance(verified, Verified)
        consents.record(ada.registration.id, [Consent("newsletter", "2026-02")])
        assert len(consents.current(ada.registration.id)) == 2
        registrations.update_profile(ada.registration.id, {"city": "London"})
        registrations.activate(ada.registration.id)
        eve = registrations.register(f"eve.{run}@example.com")
        assert isinstance(eve, Registered)
        verification.peek_token(eve.token)
        verification.verify_by_token(eve.token)
        registrations.cancel(eve.registration.id)
        registrations.register(f"bob.{run}@example.com", ttl=timedelta(minutes=5))
        assert (
            bulk_import(session, [ImportRow(f"cy.{run}@example.com", consents=(TERMS,))], announce=True).inserted == 1
        )

        (first, second, third, *_) = outbox.claim(10)
        outbox.retry(first, "smtp:450", timedelta(0))
        outbox.bury(second, "smtp:550")
        outbox.revive([message.event_id for message in outbox.dead()])
        outbox.release([third])
        assert outbox.ack(outbox.claim(10)) > 0

        assert EventRepository(session).list_events(ada.registration.id)
        assert privacy.export_subject(ada.registration.id)["consents"]
        assert privacy.erase(ada.registration.id).changed
        assert privacy.ids_by_email(f"bob.{run}@example.com")
        assert registrations.find_by_email(f"cy.{run}@example.com")
        assert registrations.list_page().items
        retention.expire_due()
        retention.purge_tokens(datetime.now(UTC))
        assert retention.purge_closed(datetime.now(UTC) + timedelta(days=1)) == 1


DENIED_STATEMENTS = (
    "UPDATE registration_events SET actor = 'user'",
    "DELETE FROM registration_events",
    "SELECT FROM registration_events FOR UPDATE",
    "SELECT FROM registration_events_default",
    "INSERT INTO registration_events_default DEFAULT VALUES",
    "UPDATE registration_consents SET granted = false",
    "DELETE FROM registration_consents",
    f"UPDATE {VERSION_TABLE} SET version_num = 'x'",
    "TRUNCATE outbox",
    "ALTER TABLE registrations ADD COLUMN mine text",
    "ALTER TABLE registrations DISABLE TRIGGER ALL",
    "DROP TABLE outbox",
    "CREATE TABLE mine ()",
    "CREATE TEMPORARY TABLE mine ()",
    "CREATE SCHEMA mine",
    "CREATE INDEX ON registrations (status)",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TRIGGER mine BEFORE DELETE ON outbox EXECUTE FUNCTION registrations_check_move()",
    f"SET ROLE {OWNER_ROLE}",
    f"SET ROLE {MONITORING_ROLE}",
    "CREATE ROLE mine",
    "CREATE DATABASE mine",
    "SELECT datadog.explain_statement('SELECT 1')",
    "COPY registrations TO PROGRAM 'cat'",
)


def is_denied(connection: psycopg.Connection, statement: str) -> bool:
    """Return whether PostgreSQL rejects *statement* because of a missing privilege."""
    try:
        connection.execute(statement)
    except INSUFFICIENT_PRIVILEGE:
        return True
    return False
