"""The statistics of the planner, which plans reveal, contain no personal data and no secrets."""

from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest
from clusters import INSUFFICIENT_PRIVILEGE, Cluster, is_denied

from registration_persistence import schema
from registration_persistence.models import RegistrationRow
from registration_persistence.schema import OWNER_ROLE

BEFORE_STATISTICS = "2dcca3bc26eb"
"""The revision after which the columns have no statistics."""

VICTIM = "ada.lovelace@example.com"
ALPHABET = sorted("abcdefghijklmnopqrstuvwxyz0123456789.@-")

FILL = (
    f"""
INSERT INTO registrations (id, email, email_key, email_key_rev, status, profile, submit_key, submit_digest, expires_at)
SELECT gen_random_uuid(), address, address, 1, 'pending', jsonb_build_object('name', address),
       sha256(n::text::bytea), sha256(address::bytea), now() + interval '1 day'
FROM generate_series(1, 600) AS n,
     LATERAL (SELECT CASE WHEN n <= 300 THEN '{VICTIM}' ELSE n || '@example.org' END AS address) AS chosen
""",
    """
INSERT INTO verification_tokens (id, registration_id, purpose, secret_hash, hash_key_id, expires_at)
SELECT gen_random_uuid(), id, 'verify_email', sha256(id::text::bytea), 0, now() + interval '1 day' FROM registrations
""",
    """
INSERT INTO registration_consents (registration_id, purpose, id, document_version, granted, source)
SELECT id, 'terms', gen_random_uuid(), '1', true, 'web' FROM registrations
""",
    """
INSERT INTO registration_events (registration_id, seq, id, type, data, actor, correlation_id)
SELECT id, 1, gen_random_uuid(), 'registered', '{"a": 1}', 'admin:kim', 'trace' FROM registrations
""",
    """
INSERT INTO outbox (event_id, registration_id, type, payload, last_error)
SELECT gen_random_uuid(), id, 'registration.registered', '{"seq": 1}', 'smtp:421' FROM registrations
""",
)

# Fixed vocabularies, whose statistics the planner needs.
VOCABULARIES = {
    ("registrations", "status"),
    ("registrations", "close_reason"),
    ("verification_tokens", "purpose"),
    ("registration_consents", "purpose"),
    ("registration_events", "type"),
    ("outbox", "type"),
}

# The columns that can contain text or bytes, of all tables and partitions, with the table of the model.
COLUMNS = """
SELECT coalesce(parent.relname, c.relname), c.relname, a.attname, a.attstattarget,
       EXISTS (SELECT FROM pg_statistic s WHERE s.starelid = c.oid AND s.staattnum = a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class parent ON parent.oid = i.inhparent
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
  AND a.atttypid IN ('text'::regtype, 'bytea'::regtype, 'jsonb'::regtype)
"""

Estimate = Callable[[str], int]


@pytest.fixture
def monitoring(prepared: Cluster) -> Iterator[psycopg.Connection]:
    """A session of the monitoring login, on a database whose people were stored before the statistics were hidden."""
    schema.downgrade(prepared.database, BEFORE_STATISTICS, owner_role=OWNER_ROLE)
    with prepared.server.connect(prepared.name) as owner:
        for statement in (*FILL, "ANALYZE"):
            owner.execute(statement)
    with closing(prepared.as_login(prepared.monitoring)) as connection:
        yield connection


def estimate(connection: psycopg.Connection, table: str, condition: str) -> int:
    """Return the number of rows that the planner expects, as `datadog.explain_statement` discloses it."""
    statement = f"SELECT FROM {table} WHERE {condition}"
    row = connection.execute("SELECT datadog.explain_statement(%s)", [statement]).fetchone()
    assert row is not None
    rows = row[0][0]["Plan"]["Plan Rows"]
    assert isinstance(rows, int)
    return rows


def recovered(connection: psycopg.Connection, column: str) -> str:
    """Return the most common value of *column*, which a search through plans finds letter by letter."""
    everything = estimate(connection, "registrations", f"{column} >= ''")
    known = ""
    while len(known) < len(VICTIM):
        low, high = 0, len(ALPHABET)
        while high - low > 1:
            middle = (low + high) // 2
            guess = f"{column} >= '{known}{ALPHABET[middle]}' COLLATE \"C\""
            low, high = (
                (middle, high) if estimate(connection, "registrations", guess) >= everything * 0.4 else (low, middle)
            )
        known += ALPHABET[low]
    return known


def test_plans_reveal_no_mailbox(prepared: Cluster, monitoring: psycopg.Connection) -> None:
    """An attack that recovers a mailbox from statistics that exist recovers nothing after the migration."""
    assert recovered(monitoring, "email_key") == VICTIM

    schema.upgrade(prepared.database, owner_role=OWNER_ROLE)

    for _ in range(2):
        assert recovered(monitoring, "email_key") != VICTIM
        for column in ("email", "email_key"):
            for operator in ("=", "<>", "<", ">=", "LIKE", "~"):
                estimates = {
                    estimate(monitoring, "registrations", f"{column} {operator} '{value}'")
                    for value in (VICTIM, VICTIM[:-1] + "n", "z" + VICTIM[1:], "0" + VICTIM[1:])
                }
                assert len(estimates) == 1, (column, operator)
        with prepared.server.connect(prepared.name) as owner:
            owner.execute("ANALYZE")


def test_no_column_with_texts_has_statistics(prepared: Cluster, monitoring: psycopg.Connection) -> None:
    """Neither those that existed nor those of a new partition remain after the migration and an ANALYZE."""
    schema.upgrade(prepared.database, owner_role=OWNER_ROLE)
    with prepared.database.session() as session:
        session.connection().exec_driver_sql(f"SET LOCAL ROLE {OWNER_ROLE}")
        schema.partitions.ensure_event_partitions(session, 15)
    with prepared.server.connect(prepared.name) as owner:
        remaining = [row for row in owner.execute(COLUMNS).fetchall() if row[4]]
        assert {(row[0], row[2]) for row in remaining} <= VOCABULARIES
        owner.execute(
            "INSERT INTO registration_events (registration_id, seq, occurred_at, id, type, data, actor, correlation_id)"
            " SELECT gen_random_uuid(), 1, now() + interval '14 months', id, 'registered', data, actor, 'x'"
            " FROM registration_events"
        )
        owner.execute("ANALYZE")
        columns = owner.execute(COLUMNS).fetchall()

    tables = set(RegistrationRow.metadata.tables)
    assert {(row[0], row[2]) for row in columns if row[0] in tables and row[3] != 0} == VOCABULARIES
    assert {(row[0], row[2]) for row in columns if row[4]} <= VOCABULARIES
    assert [] == monitoring.execute("SELECT FROM pg_stats WHERE schemaname = 'public'").fetchall()
    assert [] == monitoring.execute("SELECT FROM pg_stats_ext").fetchall()
    assert [] == monitoring.execute("SELECT FROM pg_stats_ext_exprs").fetchall()
    for catalog in ("pg_statistic", "pg_statistic_ext_data"):
        assert is_denied(monitoring, f"SELECT * FROM {catalog}")


def test_statistics_cannot_be_read_through_the_function(prepared: Cluster) -> None:
    """Neither a catalog of statistics nor a plan that runs is available to the monitoring."""
    with closing(prepared.as_login(prepared.monitoring)) as connection:
        for statement in (
            "ANALYZE registrations",
            "(ANALYZE) SELECT FROM registrations",
            "SELECT FROM registrations; ANALYZE registrations",
            "CREATE STATISTICS mine (mcv) ON email, email_key FROM registrations",
            "EXPLAIN ANALYZE SELECT FROM registrations",
        ):
            with pytest.raises(
                (INSUFFICIENT_PRIVILEGE, psycopg.errors.SyntaxError, psycopg.errors.InvalidCursorDefinition)
            ):
                connection.execute("SELECT datadog.explain_statement(%s)", [statement])
