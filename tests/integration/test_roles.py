"""The roles of a cluster: what `bootstrap` makes with an admin that is no superuser, and who may do what then."""

import secrets
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from support import TERMS

from registration_persistence import (
    Consent,
    ConsentRepository,
    Credentials,
    Database,
    DatabaseSettings,
    EventRepository,
    ImportRow,
    OutboxRepository,
    Peppers,
    PrivacyRepository,
    RegistrationRepository,
    Retention,
    StaticCredentials,
    VerificationRepository,
    bulk_import,
    schema,
)
from registration_persistence.database.credentials.secrets_manager import SecretsManagerCredentials
from registration_persistence.errors import ConfigurationError, SecretMalformed
from registration_persistence.models import RegistrationRow
from registration_persistence.outcomes import Issued, Registered, Verified
from registration_persistence.sandbox import LocalSecretsManager, PostgresServer, rotate
from registration_persistence.sandbox.rotation import RotationStyle
from registration_persistence.schema import (
    GRANTS,
    MONITORING_ROLE,
    OWNER_ROLE,
    READ_WRITE_ROLE,
    BootstrapRefused,
    DeploymentInProgress,
)
from registration_persistence.schema.deployment_lock import ADVISORY_LOCK
from registration_persistence.schema.partitions import ensure_event_partitions
from registration_persistence.testing import ServerMissing, open_server, skip_or_fail

TABLES = sorted(RegistrationRow.metadata.tables)
DENIED = psycopg.errors.InsufficientPrivilege
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
UNION ALL SELECT 'function', oid::regprocedure::text, to_jsonb(p) - 'oid'
FROM pg_proc p WHERE pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'datadog'))
ORDER BY 1, 2, 3"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A new database, and the login that a cluster on Aurora has at first."""

    server: PostgresServer
    admin: PostgresServer
    database: Database
    application: Credentials
    monitoring: Credentials

    @property
    def name(self) -> str:
        """The database's name."""
        return self.database.settings.name

    @property
    def clone(self) -> str:
        """The other user of an alternating rotation."""
        return f"{self.application.username}_clone"

    def bootstrap(self, **changes: Any) -> schema.Bootstrapped:
        """Make the roles."""
        return schema.bootstrap(self.database, self.application, **{"monitoring": self.monitoring, **changes})

    def prepare(self) -> None:
        """Make the roles, and the tables as the owner."""
        self.bootstrap()
        schema.upgrade(self.database, owner_role=OWNER_ROLE)

    def as_login(self, credentials: Credentials) -> psycopg.Connection:
        """Open a connection in autocommit as somebody else."""
        return replace(self.server, user=credentials.username, password=credentials.password).connect(self.name)

    def catalogue(self, database: str | None = None) -> list[tuple[Any, ...]]:
        """What the server knows of roles, passwords and privileges, to the last detail."""
        with self.server.connect(database or self.name) as connection:
            return connection.execute(CATALOGUE).fetchall()

    def privileges(self) -> set[tuple[str, str, str]]:
        """Who but the owner may do what, with which table."""
        with self.server.connect(self.name) as connection:
            rows = connection.execute("""
                SELECT relname, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type
                FROM pg_class, aclexplode(relacl)
                WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND grantee <> relowner""")
            return set(rows)

    def owners(self) -> set[str]:
        """Whom tables and functions belong to."""
        with self.server.connect(self.name) as connection:
            rows = connection.execute("""
                SELECT relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
                UNION SELECT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace""")
            return {owner for (owner,) in rows}

    def execute(self, statement: str, *names: str) -> None:
        """Change something as the superuser."""
        with self.server.connect(self.name) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


NewCluster = Callable[[], Cluster]


@pytest.fixture(
    scope="module",
    params=["embedded", "system", pytest.param("container", marks=pytest.mark.container)],
    name="postgres_server",
)
def servers_old_and_new(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """Also the system's server: until PostgreSQL 15, who may create roles may change all of them."""
    try:
        with open_server(request.param) as address:
            yield address
    except ServerMissing as error:
        skip_or_fail(error)


@pytest.fixture
def new_cluster(postgres_server: PostgresServer) -> Iterator[NewCluster]:
    """Makes databases in which nothing was done yet, with an admin as on Aurora: no superuser, but it creates roles."""
    run = secrets.token_hex(3)
    admin = replace(postgres_server, user=f"admin_{run}", password=secrets.token_urlsafe(16))
    application, monitoring = (
        Credentials(f"{name}_{run}", secrets.token_urlsafe(16)) for name in ("registration_app", "datadog")
    )
    roles = [application.username, f"{application.username}_clone", monitoring.username, *GROUPS, admin.user]
    clusters: list[Cluster] = []
    with postgres_server.connect() as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER CREATEROLE CREATEDB PASSWORD {}").format(
                sql.Identifier(admin.user), sql.Literal(admin.password)
            )
        )
        connection.execute(sql.SQL("GRANT pg_monitor TO {} WITH ADMIN OPTION").format(sql.Identifier(admin.user)))

    def create() -> Cluster:
        name = f"roles_{secrets.token_hex(6)}"
        admin.create_database(name)
        settings = DatabaseSettings(
            environment="test",
            host=admin.host,
            port=admin.port,
            name=name,
            user=admin.user,
            password=admin.password,
            sslmode="prefer",
        )
        clusters.append(Cluster(postgres_server, admin, Database(settings), application, monitoring))
        return clusters[-1]

    yield create
    for cluster in clusters:
        cluster.database.dispose()
        postgres_server.drop_database(cluster.name)
    with postgres_server.connect() as connection:
        for role in roles:
            known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone()
            for statement in ("DROP OWNED BY {}", "DROP ROLE {}") if known is not None else ():
                connection.execute(sql.SQL(statement).format(sql.Identifier(role)))


@pytest.fixture
def cluster(new_cluster: NewCluster) -> Cluster:
    """A database in which nothing was done yet."""
    return new_cluster()


@pytest.fixture
def prepared(cluster: Cluster) -> Cluster:
    """A database with roles and tables."""
    cluster.prepare()
    return cluster


@pytest.fixture
def application(prepared: Cluster) -> Iterator[Database]:
    """The package, as the service uses it."""
    database = service(prepared, StaticCredentials(prepared.application))
    yield database
    database.dispose()


def service(cluster: Cluster, credentials: Any) -> Database:
    """The package with the credentials of a service."""
    return Database(replace(cluster.database.settings, user="unused", password="unused"), credentials)


def live(database: Database) -> None:
    """Do all that a service and its daily jobs do with the tables."""
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


# What bootstrap makes


def test_every_table_has_its_grants() -> None:
    """No table of the models is forgotten, and none is there that the models do not know."""
    assert {*TABLES, "alembic_version"} == set(GRANTS)


def test_bootstrap_says_what_it_did_and_changes_nothing_the_second_time(cluster: Cluster) -> None:
    """The first run tells of each role, the second of nothing, and not even a password's hash is another."""
    first = cluster.bootstrap()
    before = cluster.catalogue()

    second = cluster.bootstrap()

    assert (cluster.application.username, cluster.clone) == (first.application, first.alternate)
    assert {
        f"{OWNER_ROLE} is a role without login",
        f"{cluster.clone} is a role with login",
        f"{cluster.clone} is a member of {READ_WRITE_ROLE}",
        f"{cluster.application.username} has statement_timeout=15s",
        f"{cluster.application.username} has the password of its secret",
        "no longer: PUBLIC may CONNECT, TEMPORARY on the database",
    } <= set(first.changes)
    assert () == second.changes
    assert before == cluster.catalogue()


def test_both_orders_end_in_the_same(new_cluster: NewCluster) -> None:
    """Roles before tables, and tables before roles, which are handed to the owner then."""
    first, second = new_cluster(), new_cluster()
    first.prepare()
    schema.upgrade(second.database)
    assert {second.admin.user} == second.owners()

    second.bootstrap()

    assert {OWNER_ROLE} == first.owners() == second.owners()
    assert first.privileges() == second.privileges()
    assert {
        (table, READ_WRITE_ROLE, privilege) for table in GRANTS for privilege in GRANTS[table]
    } == first.privileges()
    kinds = ("schema", "table", "function", "member", "setting")
    strip = [[row[:2] for row in each.catalogue() if row[0] in kinds] for each in (first, second)]
    assert strip[0] == strip[1]
    schema.check(second.database)
    assert schema.upgrade(second.database, owner_role=OWNER_ROLE) == schema.newest()


def test_each_revision_brings_its_grants(cluster: Cluster) -> None:
    """Half way up, the tables that are there have their grants; and again after going down and up."""
    cluster.bootstrap()
    schema.upgrade(cluster.database, "+1", owner_role=OWNER_ROLE)
    expected = {(table, READ_WRITE_ROLE, privilege) for table in GRANTS for privilege in GRANTS[table]}
    assert expected == cluster.privileges()

    schema.downgrade(cluster.database, "base", owner_role=OWNER_ROLE)
    schema.upgrade(cluster.database, owner_role=OWNER_ROLE)

    assert expected == cluster.privileges()


def test_bootstrap_sets_right_what_was_changed_by_hand(prepared: Cluster) -> None:
    """Grants, attributes, memberships and passwords that somebody changed are as they should be again."""
    before = prepared.catalogue()
    login = prepared.application.username
    prepared.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}, {}, PUBLIC", login, READ_WRITE_ROLE)
    prepared.execute("REVOKE INSERT ON registrations FROM {}", READ_WRITE_ROLE)
    prepared.execute("ALTER ROLE {} NOLOGIN CREATEDB CREATEROLE", login)
    prepared.execute("ALTER ROLE {} RESET ALL", login)
    prepared.execute("GRANT {} TO {}", login, prepared.clone)
    prepared.execute("GRANT CREATE, TEMPORARY ON DATABASE {} TO PUBLIC", prepared.name)

    changes = revoked_by_hand(prepared, login).changes

    assert "no longer: PUBLIC may CREATE, TEMPORARY on the database" in changes
    assert f"{login} has the password of its secret" in changes
    assert without_hashes(before) == without_hashes(prepared.catalogue())


def revoked_by_hand(cluster: Cluster, login: str) -> schema.Bootstrapped:
    """Repeat bootstrap, and take from the clone what only the superuser can take back since PostgreSQL 16."""
    with cluster.server.connect() as connection:
        is_old = connection.info.server_version < 160_000
    if not is_old:
        with pytest.raises(BootstrapRefused, match=f"of {login}: REVOKE {login} FROM {cluster.clone}"):
            cluster.bootstrap()
        cluster.execute("REVOKE {} FROM {}", login, cluster.clone)
    return cluster.bootstrap()


def without_hashes(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The catalogue, the salts of passwords and the ids of memberships apart."""
    return [(*row[:2], {**row[2], "hash": ""} if row[0] == "role" else row[2]) for row in rows]


@pytest.mark.parametrize("current", ["base", "clone"])
def test_the_password_becomes_that_of_the_secret_and_the_others_is_left_alone(prepared: Cluster, current: str) -> None:
    """Whichever of the two users the secret names; so a restored cluster is reached with the secrets of today."""
    base = prepared.application
    clone = Credentials(prepared.clone, "of the last rotation")
    named, other = (base, clone) if current == "base" else (clone, base)
    for credentials in (base, clone):
        prepared.admin.create_login(credentials.username, credentials.password)
    rotated = Credentials(named.username, "of a later rotation")

    done = replace(prepared, application=rotated).bootstrap()

    assert (named.username, other.username) == (done.application, done.alternate)
    assert (f"{named.username} has the password of its secret",) == done.changes
    for credentials in (rotated, other):
        prepared.as_login(credentials).close()
    with pytest.raises(psycopg.OperationalError):
        prepared.as_login(named)


def test_a_rotation_that_came_first_is_taken_up(cluster: Cluster) -> None:
    """Where the secret names the clone and nobody was ever made, both are, and the clone logs in."""
    rotated = Credentials(cluster.clone, cluster.application.password)

    replace(cluster, application=rotated).bootstrap()

    cluster.as_login(rotated).close()
    with pytest.raises(psycopg.OperationalError):
        cluster.as_login(cluster.application)


def test_the_server_hears_no_password(cluster: Cluster) -> None:
    """Passwords are sent as SCRAM hashes, so that neither the server's log nor its statistics have them."""
    with cluster.server.connect(cluster.name) as connection:
        connection.execute(
            sql.SQL("ALTER ROLE {} SET log_statement = 'all'").format(sql.Identifier(cluster.admin.user))
        )
        cluster.bootstrap()
        (log,) = connection.execute(
            "SELECT setting FROM pg_settings WHERE name = 'log_destination' AND setting = 'stderr'"
        ).fetchone() or ("",)
        assert log == "stderr"
        hashes = connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname IN (%s, %s)",
            [cluster.application.username, cluster.monitoring.username],
        ).fetchall()
        told = connection.execute("SELECT pg_read_file('log')").fetchone() if served_here(connection) else ("",)

    assert all(hashed.startswith("SCRAM-SHA-256$4096:") for (hashed,) in hashes)
    assert told is not None
    for password in (cluster.application.password, cluster.monitoring.password):
        assert password not in told[0]
    assert not told[0] or "ALTER ROLE" in told[0]


def served_here(connection: psycopg.Connection) -> bool:
    """Tell whether the server's log is the file `log` in its folder, as `LocalPostgres` starts it."""
    row = connection.execute("SELECT (pg_stat_file('log', true)).size").fetchone()
    return row is not None and row[0] is not None


# What bootstrap refuses


def test_another_deployment_is_refused_at_once(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """While another one holds the migrations' lock, neither roles nor tables are made, and nobody waits."""
    with cluster.server.connect(cluster.name) as other, caplog.at_level("INFO", "registration_persistence.migrations"):
        other.execute("SELECT pg_advisory_lock(%s)", [ADVISORY_LOCK])
        before = cluster.catalogue()

        with pytest.raises(DeploymentInProgress, match="another deployment is migrating: wait until it is done"):
            cluster.bootstrap()
        with pytest.raises(DeploymentInProgress):
            schema.upgrade(cluster.database, wait=0)

        assert before == cluster.catalogue()
        assert "waiting" not in caplog.text
        with pytest.raises(DeploymentInProgress, match=r"has been migrating for [12] s: see what it does"):
            schema.upgrade(cluster.database, wait=1)
        assert "another deployment is migrating: waiting for it" in caplog.text
    cluster.prepare()


def test_one_transaction(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the last step fails, nothing of the first is kept."""
    before = cluster.catalogue()

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("registration_persistence.schema.bootstrap.make_explain_function", fail)
    with pytest.raises(RuntimeError):
        cluster.bootstrap()

    assert before == cluster.catalogue()


def test_who_may_not_lend_pg_monitor_is_told(cluster: Cluster) -> None:
    """Until PostgreSQL 15, who creates roles may; after it, the catalog does not say it all, so it is tried."""
    cluster.execute("REVOKE pg_monitor FROM {}", cluster.admin.user)
    before = cluster.catalogue()

    if cluster.database.ping().server_version.startswith("15"):
        cluster.bootstrap()
    else:
        with pytest.raises(BootstrapRefused, match=r"may not grant pg_monitor: GRANT pg_monitor TO admin_\w+"):
            cluster.bootstrap()
        assert before == cluster.catalogue()


def test_a_name_that_cannot_be_a_login_is_refused(cluster: Cluster) -> None:
    """A user name that somebody else's quoting may get wrong, or that means something already, makes nothing."""
    for name in (
        "Capital",
        "with-dash",
        'quo"te',
        "a" * 58,
        "",
        "1st",
        "pg_mine",
        "rds_mine",
        "registration_owner",
        "postgres",
    ):
        with pytest.raises(BootstrapRefused, match="user name cannot be one: expected lower-case letters"):
            schema.bootstrap(cluster.database, Credentials(name, "password"))


def test_all_that_is_in_the_way_is_told_at_once(cluster: Cluster) -> None:
    """Somebody else's login, tables of somebody else, and the same user twice: each with what to do."""
    login = cluster.application.username
    cluster.execute("CREATE ROLE {} SUPERUSER LOGIN", login)
    cluster.execute("CREATE TABLE outbox ()")
    cluster.execute("CREATE SCHEMA datadog")

    with pytest.raises(BootstrapRefused) as refused:
        cluster.bootstrap(monitoring=Credentials(cluster.admin.user, "password"))

    said = str(refused.value)
    assert "two of the secrets have the same user name" in said
    assert f"the role {login} is a superuser" in said
    assert f"outbox belongs to {cluster.server.user}: ALTER TABLE outbox OWNER TO {cluster.admin.user}" in said
    assert f"datadog belongs to {cluster.server.user}: ALTER SCHEMA datadog OWNER TO {cluster.admin.user}" in said
    assert "password" not in said


def test_a_login_that_is_no_admin_is_refused(prepared: Cluster) -> None:
    """The service's own login cannot bootstrap, and hears why."""
    with pytest.raises(BootstrapRefused) as refused:
        schema.bootstrap(service(prepared, StaticCredentials(prepared.application)), Credentials("somebody", "else"))

    assert f"{prepared.application.username} may not create roles: use the cluster's own secret" in str(refused.value)
    assert "the database does not belong to" in str(refused.value)


def test_no_error_shows_a_password(cluster: Cluster) -> None:
    """Neither messages nor the local variables of a traceback's frames hold one."""
    cluster.execute("CREATE ROLE {} SUPERUSER LOGIN", cluster.application.username)

    with pytest.raises(BootstrapRefused) as refused:
        cluster.bootstrap()

    shown = "".join(traceback.TracebackException.from_exception(refused.value, capture_locals=True).format())
    ours = shown[shown.index("_Bootstrap(") :]
    for password in (cluster.application.password, cluster.monitoring.password, cluster.admin.password):
        assert password not in ours


# Who may do what


def test_the_service_lives_with_its_grants(application: Database) -> None:
    """Every method works with what is granted."""
    live(application)
    with application.session() as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == schema.newest()
    schema.check(application)


REFUSED = (
    "UPDATE registration_events SET actor = 'user'",
    "DELETE FROM registration_events",
    "SELECT FROM registration_events FOR UPDATE",
    "SELECT FROM registration_events_default",
    "INSERT INTO registration_events_default DEFAULT VALUES",
    "UPDATE registration_consents SET granted = false",
    "DELETE FROM registration_consents",
    "UPDATE alembic_version SET version_num = 'x'",
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


def test_the_service_may_not(prepared: Cluster) -> None:
    """The trail is append-only, consents too, and nothing is made, changed or dropped."""
    with closing(prepared.as_login(prepared.application)) as connection:
        assert [] == [statement for statement in REFUSED if not is_denied(connection, statement)]


def is_denied(connection: psycopg.Connection, statement: str) -> bool:
    """Tell whether PostgreSQL refuses *statement* for want of a privilege, and not for another reason."""
    try:
        connection.execute(statement)
    except DENIED:
        return True
    return False


def test_every_privilege_is_needed(prepared: Cluster) -> None:
    """Without any one of the privileges on rows, something that the service does is refused."""
    for table in TABLES:
        for privilege in GRANTS[table]:
            prepared.execute(f"REVOKE {privilege} ON {{}} FROM {{}}", table, READ_WRITE_ROLE)
            database = service(prepared, StaticCredentials(prepared.application))
            try:
                with pytest.raises(ProgrammingError, match="permission denied"):
                    live(database)
            finally:
                database.dispose()
            prepared.execute(f"GRANT {privilege} ON {{}} TO {{}}", table, READ_WRITE_ROLE)


def test_partitions_are_made_as_the_owner(prepared: Cluster) -> None:
    """With the owner's role the trail gets its partitions, and the service writes into them."""
    with prepared.database.session(autocommit=True) as session:
        session.connection().exec_driver_sql(schema.set_role_statement(OWNER_ROLE) or "")
        assert ensure_event_partitions(session, 40)

    database = service(prepared, StaticCredentials(prepared.application))
    live(database)
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


def test_public_has_nothing(prepared: Cluster) -> None:
    """A login of which nobody thought cannot even connect; with the right to, it sees no table."""
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
                with pytest.raises((DENIED, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)):
                    connection.execute(statement)
    finally:
        prepared.execute("DROP OWNED BY {}", stranger.username)
        prepared.execute("DROP ROLE {}", stranger.username)


def test_limits_hold_where_the_client_may_not_ask_for_them(prepared: Cluster) -> None:
    """A login that comes through a pooler has the time limits of the settings' defaults."""
    for credentials in (prepared.application, prepared.monitoring):
        with closing(prepared.as_login(credentials)) as connection:
            limits = [
                connection.execute(f"SHOW {name}").fetchall()[0][0]
                for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
            ]
        assert ["15s", "5s", "30s"] == limits


# The monitoring


def test_the_monitoring_sees_sessions_and_plans(prepared: Cluster) -> None:
    """What others run, with which plan, also of a statement with parameters."""
    with (
        closing(prepared.as_login(prepared.application)) as busy,
        closing(prepared.as_login(prepared.monitoring)) as monitoring,
    ):
        busy.execute("SELECT 'seen' FROM registrations")
        seen = monitoring.execute(
            "SELECT query FROM pg_stat_activity WHERE pid = %s", [busy.info.backend_pid]
        ).fetchall()
        assert [("SELECT 'seen' FROM registrations",)] == seen
        monitoring.execute("PREPARE one (uuid) AS SELECT * FROM registrations WHERE id = $1")
        for statement in ("SELECT email FROM registrations", "EXECUTE one (NULL)", "DELETE FROM outbox"):
            (plan,) = monitoring.execute("SELECT datadog.explain_statement(%s)", [statement]).fetchall()[0]
            assert "Plan" in plan[0]


def test_the_monitoring_reads_no_row(prepared: Cluster) -> None:
    """Of people it sees nothing."""
    refused = (
        *(f"SELECT FROM {table}" for table in TABLES),
        "DELETE FROM outbox",
        "CREATE TEMPORARY TABLE mine ()",
        f"SET ROLE {READ_WRITE_ROLE}",
        f"SET ROLE {OWNER_ROLE}",
    )
    with closing(prepared.as_login(prepared.monitoring)) as connection:
        assert [] == [statement for statement in refused if not is_denied(connection, statement)]


READING = "SELECT FROM registrations WHERE version = table_to_xml('registrations', true, false, '')::text::int"


EXPLAINED = (
    ("", READING),
    ("", READING.replace("table", "Table")),
    (
        "",
        READING.replace("table_to_xml", r'U&"\0074able_to_xml"'),
    ),
    (
        "PREPARE one (int) AS SELECT $1",
        "EXECUTE one (query_to_xml('TABLE registrations', true, false, '')::text::int)",
    ),
    (f"PREPARE one AS {READING}", "EXECUTE one"),
    ("", "SELECT 1; DELETE FROM registrations"),
    ("", "ANALYZE DELETE FROM registrations"),
)


def test_a_plan_shows_no_row(prepared: Cluster) -> None:
    """The function that explains has the owner's rights, and yet nobody reads or changes anything through it."""
    with prepared.database.session() as session:
        session.connection().exec_driver_sql(f"SET LOCAL ROLE {OWNER_ROLE}")
        RegistrationRepository(session).register("ada@example.com")

    for prepare, explained in EXPLAINED:
        with closing(prepared.as_login(prepared.monitoring)) as connection:
            if prepare:
                connection.execute(prepare)
            with pytest.raises((DENIED, psycopg.errors.InvalidCursorDefinition, psycopg.errors.SyntaxError)) as refused:
                connection.execute("SELECT datadog.explain_statement(%s)", [explained])
        assert "ada@" not in str(refused.value)
    with prepared.server.connect(prepared.name) as connection:
        assert connection.execute("SELECT count(*) FROM registrations").fetchall() == [(1,)]


# Rotation


@pytest.mark.parametrize("style", ["alternating", "single"])
def test_rotation_changes_nothing_but_who_logs_in(
    prepared: Cluster, secrets_manager: LocalSecretsManager, style: RotationStyle
) -> None:
    """The four steps, three times, as the cluster's admin; the service goes on with the same privileges after each."""
    value = {"username": prepared.application.username, "password": prepared.application.password, "ssl": True}
    arn = secrets_manager.create(f"registration/{secrets.token_hex(4)}", value)
    database = service(prepared, SecretsManagerCredentials(arn, region="eu-west-1"))
    privileges = prepared.privileges()

    def pending_logs_in() -> None:
        pending = secrets_manager.read(arn, "AWSPENDING")
        prepared.as_login(Credentials(pending["username"], pending["password"])).close()

    users = []
    for _ in range(3):
        rotated = rotate(prepared.admin, secrets_manager, arn, style=style, pause_in_window=pending_logs_in)
        database.dispose()
        live(database)
        cold = service(prepared, SecretsManagerCredentials(arn, region="eu-west-1"))
        with cold.session() as session:
            users.append(session.scalar(text("SELECT current_user")))
        cold.dispose()
        with closing(prepared.as_login(rotated)) as connection:
            assert [] == [statement for statement in REFUSED if not is_denied(connection, statement)]
        # A bootstrap after a rotation finds nothing to do, whoever is current.
        assert () == replace(prepared, application=rotated).bootstrap().changes
    database.dispose()

    base, clone = prepared.application.username, prepared.clone
    assert users == ([clone, base, clone] if style == "alternating" else [base] * 3)
    assert privileges == prepared.privileges()


def test_a_clone_that_the_rotation_makes_would_hang_on_the_first_user(
    prepared: Cluster, secrets_manager: LocalSecretsManager
) -> None:
    """Where the clone was dropped, the rotation makes it a member of the first; it works, and bootstrap says so."""
    prepared.execute("DROP ROLE {}", prepared.clone)
    value = {"username": prepared.application.username, "password": prepared.application.password}
    arn = secrets_manager.create(f"registration/{secrets.token_hex(4)}", value)

    rotated = rotate(prepared.admin, secrets_manager, arn, style="alternating")
    changes = replace(prepared, application=rotated).bootstrap().changes

    assert f"{prepared.clone} is a member of {READ_WRITE_ROLE}" in changes
    assert f"no longer: {prepared.clone} is a member of {prepared.application.username}" in changes


# From secrets


def test_secrets_are_read_and_checked(cluster: Cluster, secrets_manager: LocalSecretsManager) -> None:
    """`bootstrap_from_secrets` reads both secrets; what is no ARN, no login or twice the same is one clear error."""
    arn = secrets_manager.create(f"app/{secrets.token_hex(4)}", {"username": "registration_app", "password": "right"})
    empty = secrets_manager.create(f"empty/{secrets.token_hex(4)}", {"password": "right"})

    with pytest.raises(ConfigurationError, match="APP_DATABASE_APPLICATION_SECRET_ARN is not set"):
        schema.bootstrap_from_secrets(cluster.database)
    with pytest.raises(ConfigurationError, match="APP_DATABASE_MONITORING_SECRET_ARN is 'nonsense': expected arn:"):
        schema.bootstrap_from_secrets(cluster.database, arn, monitoring="nonsense")
    with pytest.raises(ConfigurationError, match="are not all different"):
        schema.bootstrap_from_secrets(cluster.database, arn, monitoring=arn)
    with pytest.raises(SecretMalformed, match="has no key 'username'"):
        schema.bootstrap_from_secrets(cluster.database, empty)
