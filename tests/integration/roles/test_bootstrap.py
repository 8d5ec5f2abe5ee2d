"""Tests of `schema.bootstrap`: the roles that it creates."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import psycopg
import pytest
from clusters import Cluster, NewCluster, expected_privileges
from psycopg import sql

from registration_persistence import Credentials, deadline, schema
from registration_persistence.errors import StatementTimeout
from registration_persistence.schema import OWNER_ROLE, READ_WRITE_ROLE, BootstrapRefused, DeploymentInProgress


def test_a_second_bootstrap_changes_nothing(cluster: Cluster) -> None:
    """The first run reports each change; the second reports none, and changes no password hash."""
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


def test_roles_and_tables_can_be_created_in_either_order(new_cluster: NewCluster) -> None:
    """If the tables come first, bootstrap changes their owner."""
    first, second = new_cluster(), new_cluster()
    first.prepare()
    schema.upgrade(second.database)
    assert {second.admin.user} == second.owners()

    second.bootstrap()

    assert {OWNER_ROLE} == first.owners() == second.owners()
    assert first.privileges() == second.privileges()
    assert expected_privileges() == first.privileges()
    kinds = ("schema", "table", "function", "member", "setting")
    strip = [[row[:2] for row in each.catalogue() if row[0] in kinds] for each in (first, second)]
    assert strip[0] == strip[1]
    schema.check(second.database)
    assert schema.upgrade(second.database, owner_role=OWNER_ROLE) == schema.newest()


def test_each_revision_has_its_grants(cluster: Cluster) -> None:
    """After each revision, all existing tables have their grants, also after a downgrade and an upgrade."""
    cluster.bootstrap()
    schema.upgrade(cluster.database, "+1", owner_role=OWNER_ROLE)
    assert expected_privileges() == cluster.privileges()

    schema.downgrade(cluster.database, "base", owner_role=OWNER_ROLE)
    schema.upgrade(cluster.database, owner_role=OWNER_ROLE)

    assert expected_privileges() == cluster.privileges()


def test_bootstrap_reverts_manual_changes(prepared: Cluster) -> None:
    """Grants, attributes, memberships and passwords that were changed are restored."""
    before = prepared.catalogue()
    login = prepared.application.username
    prepared.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}, {}, PUBLIC", login, READ_WRITE_ROLE)
    prepared.execute("REVOKE INSERT ON registrations FROM {}", READ_WRITE_ROLE)
    prepared.execute("GRANT INSERT (occurred_at) ON registration_events TO {}, {}, PUBLIC", login, READ_WRITE_ROLE)
    prepared.execute("REVOKE UPDATE (version) ON registrations FROM {}", READ_WRITE_ROLE)
    prepared.execute("ALTER ROLE {} NOLOGIN CREATEDB CREATEROLE", login)
    prepared.execute("ALTER ROLE {} RESET ALL", login)
    prepared.execute("GRANT {} TO {}", login, prepared.clone)
    prepared.execute("GRANT CREATE, TEMPORARY ON DATABASE {} TO PUBLIC", prepared.name)

    changes = revoked_by_hand(prepared, login).changes

    assert "no longer: PUBLIC may CREATE, TEMPORARY on the database" in changes
    assert f"{login} has the password of its secret" in changes
    assert without_hashes(before) == without_hashes(prepared.catalogue())


def revoked_by_hand(cluster: Cluster, login: str) -> schema.Bootstrapped:
    """Call bootstrap again after revoking a membership that, since PostgreSQL 16, only the superuser can revoke."""
    with cluster.server.connect() as connection:
        is_old = connection.info.server_version < 160_000
    if not is_old:
        with pytest.raises(BootstrapRefused, match=f"of {login}: REVOKE {login} FROM {cluster.clone}"):
            cluster.bootstrap()
        cluster.execute("REVOKE {} FROM {}", login, cluster.clone)
    return cluster.bootstrap()


def without_hashes(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the catalogue without password hashes and ids of memberships."""
    return [(*row[:2], {**row[2], "hash": ""} if row[0] == "role" else row[2]) for row in rows]


@pytest.mark.parametrize("current", ["base", "clone"])
def test_bootstrap_sets_the_password_of_the_user_in_the_secret(prepared: Cluster, current: str) -> None:
    """The other user of the rotation keeps its password, so that the secrets of today open a restored cluster."""
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


def test_the_secret_may_name_the_clone(cluster: Cluster) -> None:
    """If neither user exists, both are created, and the clone can log in."""
    rotated = Credentials(cluster.clone, cluster.application.password)

    replace(cluster, application=rotated).bootstrap()

    cluster.as_login(rotated).close()
    with pytest.raises(psycopg.OperationalError):
        cluster.as_login(cluster.application)


def test_passwords_are_sent_as_hashes(cluster: Cluster) -> None:
    """Passwords are sent as SCRAM hashes, so the log and the statistics of the server do not contain them."""
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
        log_file = connection.execute("SELECT pg_read_file('log')").fetchone() if logs_to_file(connection) else ("",)

    assert all(hashed.startswith("SCRAM-SHA-256$4096:") for (hashed,) in hashes)
    assert log_file is not None
    for password in (cluster.application.password, cluster.monitoring.password):
        assert password not in log_file[0]
    assert not log_file[0] or "ALTER ROLE" in log_file[0]


def logs_to_file(connection: psycopg.Connection) -> bool:
    """Return whether the server logs to the file `log` in its folder, as `LocalPostgres` starts it."""
    row = connection.execute("SELECT (pg_stat_file('log', true)).size").fetchone()
    return row is not None and row[0] is not None


def test_databases_of_one_cluster_are_bootstrapped_at_the_same_time(new_cluster: NewCluster) -> None:
    """The databases share their roles; every bootstrap succeeds, if it creates the roles and if it corrects them."""
    clusters = [new_cluster() for _ in range(3)]
    barrier = Barrier(len(clusters))

    def bootstrap(cluster: Cluster) -> schema.Bootstrapped:
        barrier.wait(timeout=30)
        return cluster.bootstrap()

    with ThreadPoolExecutor(len(clusters)) as pool:
        for _ in range(3):
            list(pool.map(bootstrap, clusters))
            clusters[0].execute("ALTER ROLE {} CREATEDB CONNECTION LIMIT 3", clusters[0].clone)
            clusters[0].execute("REVOKE {} FROM {}", READ_WRITE_ROLE, clusters[0].clone)
            clusters[0].execute("ALTER ROLE {} PASSWORD 'another'", clusters[0].application.username)
        list(pool.map(bootstrap, clusters))

    assert [cluster.bootstrap().changes for cluster in clusters] == [()] * len(clusters)


def test_a_locked_role_ends_a_bootstrap_in_time(cluster: Cluster) -> None:
    """If another session never ends its transaction, the error is ours, and comes before the deadline."""
    cluster.bootstrap()
    with cluster.server.connect(cluster.name) as other, other.transaction():
        other.execute(sql.SQL("ALTER ROLE {} SET lock_timeout = '1s'").format(sql.Identifier(cluster.clone)))

        with deadline(4, reserve=0), pytest.raises((DeploymentInProgress, StatementTimeout)):
            cluster.bootstrap()
