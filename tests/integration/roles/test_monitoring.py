"""The privileges of the monitoring login."""

from contextlib import closing

import psycopg
import pytest
from clusters import INSUFFICIENT_PRIVILEGE, TABLES, Cluster, is_denied

from registration_persistence import RegistrationRepository
from registration_persistence.schema import OWNER_ROLE, READ_WRITE_ROLE


def test_the_monitoring_sees_sessions_and_plans(prepared: Cluster) -> None:
    """It can read the statements of other sessions, and explain them, also with parameters."""
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
    """It has no access to personal data."""
    refused = (
        *(f"SELECT FROM {table}" for table in TABLES),
        "DELETE FROM outbox",
        "CREATE TEMPORARY TABLE mine ()",
        f"SET ROLE {READ_WRITE_ROLE}",
        f"SET ROLE {OWNER_ROLE}",
    )
    with closing(prepared.as_login(prepared.monitoring)) as connection:
        assert [] == [statement for statement in refused if not is_denied(connection, statement)]


READ_BY_CAST = "SELECT FROM registrations WHERE version = table_to_xml('registrations', true, false, '')::text::int"


ATTACKS = (
    ("", READ_BY_CAST),
    ("", READ_BY_CAST.replace("table", "Table")),
    (
        "",
        READ_BY_CAST.replace("table_to_xml", r'U&"\0074able_to_xml"'),
    ),
    (
        "PREPARE one (int) AS SELECT $1",
        "EXECUTE one (query_to_xml('TABLE registrations', true, false, '')::text::int)",
    ),
    (f"PREPARE one AS {READ_BY_CAST}", "EXECUTE one"),
    ("", "SELECT 1; DELETE FROM registrations"),
    ("", "ANALYZE DELETE FROM registrations"),
)


def test_explain_statement_reads_no_row(prepared: Cluster) -> None:
    """The function has the owner's privileges, and yet no row can be read or changed through it."""
    with prepared.database.session() as session:
        session.connection().exec_driver_sql(f"SET LOCAL ROLE {OWNER_ROLE}")
        RegistrationRepository(session).register("ada@example.com")

    for prepare, explained in ATTACKS:
        with closing(prepared.as_login(prepared.monitoring)) as connection:
            if prepare:
                connection.execute(prepare)
            with pytest.raises(
                (INSUFFICIENT_PRIVILEGE, psycopg.errors.InvalidCursorDefinition, psycopg.errors.SyntaxError)
            ) as refused:
                connection.execute("SELECT datadog.explain_statement(%s)", [explained])
        assert "ada@" not in str(refused.value)
    with prepared.server.connect(prepared.name) as connection:
        assert connection.execute("SELECT count(*) FROM registrations").fetchall() == [(1,)]
