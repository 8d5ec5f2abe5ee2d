"""A service's tables under the roles of `bootstrap`: who owns them, and whose privileges the erasure needs."""

import re
import secrets
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from alembic import command
from alembic.config import Config
from clusters import Cluster, NewCluster, is_denied, service
from psycopg import sql
from sqlalchemy import text

from registration_persistence import (
    Database,
    PrivacyRepository,
    RegistrationRepository,
    StaticCredentials,
    schema,
)
from registration_persistence.schema import OWNER_ROLE, READ_WRITE_ROLE

EXAMPLE = Path(__file__).parents[3] / "examples/campaign_service"
(REVISION,) = EXAMPLE.glob("campaigns/migrations/versions/*.py")

TABLE = """CREATE TABLE campaigns.campaign_members
(registration_id uuid REFERENCES registrations ON DELETE CASCADE, campaign text, nickname text)"""


def erase_a_member(database: Database, table: str) -> UUID:
    """Let a person join the campaign and be erased, with the service's login."""
    with database.session() as session:
        person = RegistrationRepository(session).register("ada@example.com").registration.id
        session.connection().exec_driver_sql(f"INSERT INTO {table} VALUES ('{person}', 'spring', 'Ada')")
    with database.session(autocommit=True) as session:
        assert PrivacyRepository(session).erase(person).changed
    return person


def test_the_owner_role_owns_the_tables_of_the_service(
    prepared: Cluster, application: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's login uses its table and erases; `bootstrap` finds nothing to change, and `check` no difference."""
    with monkeypatch.context() as patch:
        patch.setenv("APP_DATABASE_OWNER_ROLE", OWNER_ROLE)
        command.upgrade(Config(EXAMPLE / "alembic.ini", attributes={"database": prepared.database}), "head")

    erase_a_member(application, "campaign_members")

    with prepared.server.connect(prepared.name) as connection:
        assert connection.execute("SELECT FROM campaign_members").fetchall() == []
    assert {OWNER_ROLE} == prepared.owners()
    assert prepared.bootstrap().changes == ()
    schema.upgrade(prepared.database, owner_role=OWNER_ROLE)
    schema.check(application)
    with closing(prepared.as_login(prepared.application)) as connection:
        for statement in (
            "TRUNCATE campaign_members",
            "DROP TRIGGER campaign_members_forget ON registrations",
            "CREATE TRIGGER mine AFTER DELETE ON outbox EXECUTE FUNCTION campaign_members_forget()",
        ):
            assert is_denied(connection, statement)


def test_a_role_of_the_service_owns_its_tables(prepared: Cluster, application: Database) -> None:
    """It needs three privileges; the erasure deletes rows that the service's login may not delete itself."""
    owner = f"campaigns_owner_{secrets.token_hex(3)}"
    revision = REVISION.read_text(encoding="utf-8").replace("public.campaign", "campaigns.campaign")
    triggers = re.findall(r'"""\n(CREATE FUNCTION.*?)"""', revision, re.DOTALL)
    assert len(triggers) == 2
    group = sql.Identifier(READ_WRITE_ROLE)
    with prepared.server.connect(prepared.name) as connection:
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(owner)))
        try:
            for statement in (
                "CREATE SCHEMA campaigns AUTHORIZATION {owner}",
                "GRANT USAGE ON SCHEMA public TO {owner}",
                "GRANT REFERENCES (id), TRIGGER ON registrations TO {owner}",
                "SET ROLE {owner}",
                TABLE,
                *triggers,
                "GRANT USAGE ON SCHEMA campaigns TO {group}",
                "GRANT INSERT, SELECT ON campaigns.campaign_members TO {group}",
                "RESET ROLE",
            ):
                connection.execute(sql.SQL(statement).format(owner=sql.Identifier(owner), group=group))

            erase_a_member(application, "campaigns.campaign_members")

            assert connection.execute("SELECT FROM campaigns.campaign_members").fetchall() == []
            assert prepared.bootstrap().changes == ()
            schema.upgrade(prepared.database, owner_role=OWNER_ROLE)
            schema.check(application)
            assert connection.execute(
                "SELECT has_table_privilege(%s, 'registrations', 'TRIGGER')", [owner]
            ).fetchone() == (True,)
        finally:
            connection.execute("RESET ROLE")
            connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(owner)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(owner)))


def test_bootstrap_leaves_the_functions_of_the_service_alone(new_cluster: NewCluster) -> None:
    """If everything was created before the roles, the trigger of the service keeps its owner and its effect."""
    cluster = new_cluster()
    schema.upgrade(cluster.database)
    command.upgrade(Config(EXAMPLE / "alembic.ini", attributes={"database": cluster.database}), "head")

    cluster.bootstrap()

    application = service(cluster, StaticCredentials(cluster.application))
    with application.session() as session:
        person = RegistrationRepository(session).register("ada@example.com").registration.id
    with cluster.database.session() as session:
        session.execute(text("INSERT INTO campaign_members VALUES (:id, 'spring', 'Ada')"), {"id": person})
    with application.session(autocommit=True) as session:
        assert PrivacyRepository(session).erase(person).changed
    application.dispose()
    with cluster.database.session() as session:
        assert session.scalar(text("SELECT count(*) FROM campaign_members")) == 0
