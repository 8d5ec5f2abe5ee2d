"""Fixtures of the tests of roles: databases with an admin as on Aurora."""

import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from clusters import GROUPS, Cluster, NewCluster, service
from psycopg import sql
from server_versions import local_kind

from registration_persistence import Credentials, Database, DatabaseSettings, StaticCredentials
from registration_persistence.sandbox import PostgresServer
from registration_persistence.testing import ServerMissing, open_server, skip_or_fail

FOLDER = Path(__file__).parent

# The privileges of these tests are the same on every version of PostgreSQL, once `bootstrap` has granted them.
SAME_ON_EVERY_VERSION = {"test_disclosure", "test_forgery", "test_statistics"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the second version of PostgreSQL to the nightly workflow if its result is known from the first one."""
    for item in items:
        if isinstance(item, pytest.Function) and item.path.parent == FOLDER and item.path.stem in SAME_ON_EVERY_VERSION:
            kind = item.callspec.params.get("postgres_server")
            if kind == "system" != local_kind():
                item.add_marker(pytest.mark.nightly)


@pytest.fixture(
    scope="session",
    params=[*dict.fromkeys([local_kind(), "system"]), pytest.param("container", marks=pytest.mark.container)],
    name="postgres_server",
)
def servers_old_and_new(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """Each kind of server; on PostgreSQL 15 of the system, a role with CREATEROLE may change every role."""
    try:
        with open_server(request.param) as address:
            yield address
    except ServerMissing as error:
        skip_or_fail(error)


@pytest.fixture
def new_cluster(postgres_server: PostgresServer) -> Iterator[NewCluster]:
    """Create empty databases, with an admin as on Aurora: CREATEROLE, but no superuser."""
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
    """An empty database."""
    return new_cluster()


@pytest.fixture
def prepared(cluster: Cluster) -> Cluster:
    """A database with roles and tables."""
    cluster.prepare()
    return cluster


@pytest.fixture
def application(prepared: Cluster) -> Iterator[Database]:
    """The database as the service uses it."""
    database = service(prepared, StaticCredentials(prepared.application))
    yield database
    database.dispose()
