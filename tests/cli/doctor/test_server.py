"""`doctor`: the checks of the server, each in a state with its real cause, on one database."""

import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from examined_service import Examine, Service, unusual
from poolers import open_pgbouncer

from registration_persistence.cli.doctor import activity
from registration_persistence.cli.doctor.slots import use_check
from registration_persistence.sandbox import LocalCluster
from registration_persistence.schema import READ_WRITE_ROLE, VERSION_TABLE, newest

ROLE, DATABASE = "ALTER ROLE {login}", "ALTER DATABASE {database}"
WITHOUT_TRIGGERS = "SET session_replication_role = replica"
MESSAGE = (
    "INSERT INTO outbox (event_id, registration_id, type, payload, available_at, dead_at) "
    "SELECT gen_random_uuid(), gen_random_uuid(), 'registration.verified', '{{\"seq\": 1}}', "
    "statement_timestamp() - interval '%s', %s"
)
NO_MESSAGE = (WITHOUT_TRIGGERS, "DELETE FROM outbox")


def message(due_for: str, dead_at: str = "NULL") -> tuple[str, ...]:
    """Return the statements that add a message that has been due for some time."""
    return WITHOUT_TRIGGERS, MESSAGE % (due_for, dead_at)


def set_and_reset(where: str, name: str, value: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the statements that set and reset a setting."""
    return (f"{where} SET {name} = {value}",), (f"{where} RESET {name}",)


Broken = tuple[tuple[str, ...], tuple[str, ...], dict[str, str], tuple[str, str, str]]

# For each cause: the statements that break and restore, the states that are not ok, and a check with its texts.
BROKEN: dict[str, Broken] = {
    "a revoked grant": (
        (f"REVOKE UPDATE (status, email) ON registrations FROM {READ_WRITE_ROLE}",),
        (f"GRANT UPDATE (status, email) ON registrations TO {READ_WRITE_ROLE}",),
        {"role": "failed", "protection": "failed"},
        ("role", r"registration_app lacks UPDATE \(email, status\) on registrations", "bootstrap"),
    ),
    "a revoked grant, by its statement": (
        (f"REVOKE DELETE ON outbox FROM {READ_WRITE_ROLE}",),
        (f"GRANT DELETE ON outbox TO {READ_WRITE_ROLE}",),
        {"role": "failed", "protection": "failed"},
        (
            "protection",
            "registration_rw lacks DELETE on outbox",
            'GRANT DELETE ON "public"."outbox" TO "registration_rw"',
        ),
    ),
    "a revoked function": (
        (f"REVOKE EXECUTE ON FUNCTION registrations_count_pending FROM {READ_WRITE_ROLE}",),
        (f"GRANT EXECUTE ON FUNCTION registrations_count_pending TO {READ_WRITE_ROLE}",),
        {"role": "failed"},
        ("role", r"lacks EXECUTE on registrations_count_pending\(", "bootstrap"),
    ),
    "no SELECT on the outbox": (
        (f"REVOKE SELECT ON outbox FROM {READ_WRITE_ROLE}",),
        (f"GRANT SELECT ON outbox TO {READ_WRITE_ROLE}",),
        {"role": "failed", "protection": "failed", "outbox": "skipped", "dead letters": "skipped"},
        ("outbox", "has not the privilege: permission denied for table outbox", ""),
    ),
    "too many privileges": (
        ("GRANT UPDATE, TRUNCATE ON registration_events TO {login}",),
        ("REVOKE ALL ON registration_events FROM {login}",),
        {"role": "warning", "protection": "failed"},
        ("role", r"more than the service needs: TRUNCATE on registration_events; UPDATE \(", "a login of its own"),
    ),
    "a member of the owner": (
        ("GRANT registration_owner TO {login}",),
        ("REVOKE registration_owner FROM {login}",),
        {"role": "warning"},
        ("role", "the ownership of outbox", "a login of its own"),
    ),
    "a role that creates roles": (
        (f"{ROLE} CREATEROLE",),
        (f"{ROLE} NOCREATEROLE",),
        {"role": "warning"},
        ("role", "may create roles", "a login of its own"),
    ),
    "a disabled trigger": (
        ("ALTER TABLE outbox DISABLE TRIGGER outbox_check_insert",),
        ("ALTER TABLE outbox ENABLE TRIGGER outbox_check_insert",),
        {"protection": "failed"},
        ("protection", "the trigger outbox_check_insert of outbox is disabled", "ALTER TABLE .* ENABLE TRIGGER"),
    ),
    "synchronous_commit": (
        *set_and_reset(ROLE, "synchronous_commit", "off"),
        {"settings": "warning"},
        ("settings", r"synchronous_commit is off \(user\)", 'ALTER ROLE "registration_app" RESET synchronous_commit'),
    ),
    "row_security": (
        *set_and_reset(f"{ROLE} IN DATABASE {{database}}", "row_security", "off"),
        {"settings": "warning"},
        ("settings", r"row_security is off \(database user\)", 'IN DATABASE "doctor" RESET row_security'),
    ),
    "isolation level": (
        *set_and_reset(DATABASE, "default_transaction_isolation", "serializable"),
        {"settings": "warning"},
        ("settings", r"default_transaction_isolation is serializable \(database\)", 'ALTER DATABASE "doctor" RESET'),
    ),
    "session_replication_role": (
        *set_and_reset(DATABASE, "session_replication_role", "replica"),
        {"settings": "failed"},
        ("settings", "no trigger runs", "RESET session_replication_role"),
    ),
    "jit": (
        (f"{DATABASE} SET jit = on", f"{DATABASE} SET jit_above_cost = 0"),
        (f"{DATABASE} RESET jit", f"{DATABASE} RESET jit_above_cost"),
        {"settings": "warning"},
        ("settings", "short statements are compiled first", 'ALTER ROLE "registration_app" SET jit = off'),
    ),
    "idle_session_timeout": (
        *set_and_reset(ROLE, "idle_session_timeout", "'10s'"),
        {"settings": "warning"},
        ("settings", "idle_session_timeout is 10000", "RESET idle_session_timeout"),
    ),
    "search_path": (
        *set_and_reset(ROLE, "search_path", "elsewhere"),
        {"settings": "failed"},
        ("settings", "registration_app has search_path = elsewhere", "SET search_path = elsewhere, public;"),
    ),
    "read-only by default": (
        *set_and_reset(ROLE, "default_transaction_read_only", "on"),
        {"writer": "failed", "settings": "failed"},
        (
            "writer",
            "the server is the writer, but default_transaction_read_only",
            "the check 'settings'.*type SET default_transaction_read_only = off before",
        ),
    ),
    "the limit of the role": (
        (f"{ROLE} CONNECTION LIMIT 1",),
        (f"{ROLE} CONNECTION LIMIT -1",),
        {"connection slots": "failed"},
        ("connection slots", "1 of 1 of the role registration_app: the next process finds no slot", "raise-capacity"),
    ),
    "a newer schema": (
        (f"UPDATE {VERSION_TABLE} SET version_num = '0123456789ab'",),
        (f"UPDATE {VERSION_TABLE} SET version_num = '{newest()}'",),
        {"schema": "warning"},
        ("schema", "ahead: the database is at 0123456789ab", "deploy the version"),
    ),
    "an older schema": (
        (f"UPDATE {VERSION_TABLE} SET version_num = '2dcca3bc26eb'",),
        (f"UPDATE {VERSION_TABLE} SET version_num = '{newest()}'",),
        {"schema": "failed"},
        ("schema", f"behind: the database is at 2dcca3bc26eb, the newest is {newest()}", "migrate"),
    ),
    "no revision": (
        (f"DELETE FROM {VERSION_TABLE}",),
        (f"INSERT INTO {VERSION_TABLE} VALUES ('{newest()}')",),
        {"schema": "failed", "role": "skipped", "protection": "skipped"},
        ("schema", "the database has no revision", "migrate"),
    ),
    "an old message": (
        message("10 min"),
        NO_MESSAGE,
        {"outbox": "warning"},
        ("outbox", "the oldest message has been due for 10 min", "outbox run"),
    ),
    "a very old message": (
        message("3 h"),
        NO_MESSAGE,
        {"outbox": "failed"},
        ("outbox", "the oldest message has been due for 3 h", "outbox run"),
    ),
    "a dead letter": (
        message("3 h", "'2026-11-28 10:00+00'"),
        NO_MESSAGE,
        {"dead letters": "warning"},
        ("dead letters", "1 message, the first one since 2026-11-28", "outbox dead"),
    ),
}


def test_a_healthy_service_has_no_failure(service: Service, examine: Examine) -> None:
    """With the least privileges every check can be made, and only the rotation is off."""
    checks = examine(service.environ)

    assert {"rotation": "warning"} == unusual(checks)
    assert checks["login"].detail.startswith("as registration_app, without TLS, in ")
    assert checks["role"].detail == f"registration_app has the privileges of {READ_WRITE_ROLE}, and no others"
    assert checks["partitions"].detail == "this month, and 12 months ahead"
    assert re.fullmatch(r"the server is 0\.\d+ s (ahead of|behind) this process \(.*\)", checks["clock"].detail)
    assert re.match(r"PostgreSQL 1[5-8]\.\d", checks["version"].detail)
    assert "GRANT pg_read_all_stats shows the others" in checks["old snapshots"].detail


@pytest.mark.parametrize("cause", BROKEN)
def test_a_broken_database_is_described_with_its_fix(service: Service, examine: Examine, cause: str) -> None:
    """Each cause gives the expected states and no others, and the fix is named."""
    breaking, restoring, states, (name, detail, fix) = BROKEN[cause]
    service.execute(*breaking)
    try:
        checks = examine(service.with_password)
    finally:
        service.execute(*restoring)

    assert states == unusual(checks)
    assert re.search(detail, checks[name].detail), checks[name]
    assert re.search(fix, checks[name].fix), checks[name]


def test_a_login_of_another_role_is_no_member(service: Service, examine: Examine) -> None:
    """A login without any privilege is told its missing role; checks of tables that it may not read are skipped."""
    service.server.create_login("stranger", "correct-horse-battery")
    service.execute("GRANT CONNECT ON DATABASE {database} TO stranger", "GRANT USAGE ON SCHEMA public TO stranger")
    try:
        checks = examine(
            service.with_password | {"APP_DATABASE_USER": "stranger", "APP_DATABASE_PASSWORD": "correct-horse-battery"}
        )
    finally:
        service.execute("DROP OWNED BY stranger", "DROP ROLE stranger")

    assert dict.fromkeys(("schema", "outbox", "dead letters"), "skipped") | {"role": "failed"} == unusual(checks)
    assert re.search(f"and .* more; it is no member of {READ_WRITE_ROLE}", checks["role"].detail)
    assert "bootstrap" in checks["role"].fix


def test_missing_partitions_are_counted(service: Service, examine: Examine) -> None:
    """A gap in the months ahead is a warning, and a missing present month a failure."""
    now = datetime.now(UTC)
    months = [now.year * 12 + now.month - 1 + ahead for ahead in range(3)]
    this, _, after_next = (f"registration_events_y{month // 12}m{month % 12 + 1:02}" for month in months)
    try:
        service.execute(f"ALTER TABLE registration_events DETACH PARTITION {after_next}")
        gap = examine(service.with_password)["partitions"]
        service.execute(f"ALTER TABLE registration_events DETACH PARTITION {this}")
        missing = examine(service.with_password)["partitions"]
    finally:
        for name, month in ((this, months[0]), (after_next, months[2])):
            start, end = (f"('{each // 12}-{each % 12 + 1:02}-01 00:00+00')" for each in (month, month + 1))
            service.execute(f"ALTER TABLE registration_events ATTACH PARTITION {name} FOR VALUES FROM {start} TO {end}")

    assert ("warning", "this month, and 1 month ahead") == (gap.state, gap.detail)
    assert missing.state == "failed"
    assert missing.detail.startswith(f"there is none for {now:%Y-%m}")


def test_a_long_transaction_is_named(service: Service, examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the oldest transaction that the login may see is in the fix."""
    monkeypatch.setattr(activity, "_MAX_TRANSACTION_SECONDS", 0.0)
    own = replace(service.server, user=service.login.username, password=service.login.password)
    with own.connect(service.name) as session, session.transaction():
        session.execute("SELECT count(*) FROM registrations")
        check, process = examine(service.with_password)["old snapshots"], session.info.backend_pid

    assert check.state == "warning"
    assert f"process {process} of registration_app, idle in transaction" in check.detail
    assert f"pg_terminate_backend({process})" in check.fix


def test_a_full_server_is_explained(service: Service, examine: Examine) -> None:
    """If no slot is left, the login fails, the checks of the server are skipped, and the runbook is named."""
    service.execute(f"{ROLE} CONNECTION LIMIT 0")
    try:
        checks = examine(service.with_password | {"APP_DATABASE_CONNECT_TIMEOUT": "2"})
    finally:
        service.execute(f"{ROLE} CONNECTION LIMIT -1")

    assert checks["login"].state == "failed"
    assert "too many connections for role" in checks["login"].detail
    assert "raise-capacity" in checks["login"].fix
    assert {check.detail for check in checks.values() if check.state == "skipped"} == {
        "the check 'login' did not succeed"
    }


def test_the_use_of_the_slots_is_judged_by_the_tightest_limit() -> None:
    """80 % of any limit is a warning, 95 % a failure, and a limit of 0 is used up."""
    assert use_check({"a": (79, 100)}).state == "ok"
    assert use_check({"a": (1, 100), "b": (8, 10)}).state == "warning"
    assert use_check({"a": (95, 100)}).state == "failed"
    assert use_check({"a": (0, 0)}).state == "failed"


def test_an_empty_database_is_described(service: Service, examine: Examine) -> None:
    """Before the first migration, only the schema has failed, and the checks of its tables are skipped."""
    service.server.create_database("doctor_empty", owner=service.login.username)
    try:
        checks = examine(service.with_password | {"APP_DATABASE_NAME": "doctor_empty"})
    finally:
        service.server.drop_database("doctor_empty")

    skipped = ("partitions", "role", "protection", "outbox", "dead letters")
    assert {"schema": "failed", **dict.fromkeys(skipped, "skipped")} == unusual(checks)


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder for the files of PgBouncer."""
    made = Path("/tmp") / f"doctor-pooler-{secrets.token_hex(4)}"  # noqa: S108 other users cannot read the folders of pytest
    made.mkdir()
    yield made
    shutil.rmtree(made)


def test_a_pooler_is_recognised(service: Service, examine: Examine, folder: Path) -> None:
    """PgBouncer in front of the server is a warning, unless APP_DATABASE_POOL says so."""
    own = replace(service.server, user=service.login.username, password=service.login.password)
    with open_pgbouncer(own, service.name, folder) as port:
        environ = service.with_password | {"APP_DATABASE_PORT": str(port)}
        unexpected = examine(environ)
        expected = examine(environ | {"APP_DATABASE_POOL": "proxy"})
        service.execute(f"{ROLE} SET statement_timeout = '1h'")
        try:
            other_limit = examine(environ | {"APP_DATABASE_POOL": "proxy", "APP_DATABASE_LOCK_TIMEOUT": "3"})
        finally:
            service.execute(f"{ROLE} SET statement_timeout = '15s'")

    assert {"pooler": "warning"} == unusual(unexpected)
    assert "APP_DATABASE_POOL to proxy" in unexpected["pooler"].fix
    assert {} == unusual(expected)
    assert {"settings": "warning"} == unusual(other_limit)
    assert "lock_timeout is 5000 (user): APP_DATABASE_* says 3 s" in other_limit["settings"].detail
    assert 'ALTER ROLE "registration_app" SET lock_timeout = 3000' in other_limit["settings"].fix


def test_a_standby_is_no_writer(service: Service, examine: Examine) -> None:
    """A login at a reader is examined too, although the service would be refused; read-only sessions may use it."""
    with LocalCluster(in_memory=True) as cluster:
        reader = cluster.add_reader()
        environ = {
            **service.variables,
            "APP_DATABASE_HOST": "127.0.0.2",
            "APP_DATABASE_PORT": str(reader.port),
            "APP_DATABASE_NAME": "postgres",
            "APP_DATABASE_USER": cluster.server.user,
            "APP_DATABASE_PASSWORD": cluster.server.password,
        }
        at_reader = examine(environ)
        with_reader = examine(environ | {"APP_DATABASE_HOST": "127.0.0.1", "APP_DATABASE_READER_HOST": "127.0.0.2"})
        cluster.remove_reader()
        without_reader = examine(environ | {"APP_DATABASE_HOST": "127.0.0.1", "APP_DATABASE_READER_HOST": "127.0.0.2"})

    assert ("ok", "failed") == (at_reader["login"].state, at_reader["writer"].state)
    assert "is a reader (in recovery)" in at_reader["writer"].detail
    assert at_reader["clock"].state == "ok"
    assert ("ok", "ok") == (with_reader["writer"].state, with_reader["reader"].state)
    assert without_reader["reader"].state == "warning"
    assert "does not answer" in without_reader["reader"].detail
