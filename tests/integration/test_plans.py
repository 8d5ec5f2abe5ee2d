"""No statement of a repository reads a whole table, also when PostgreSQL plans it without looking at the values."""

import dataclasses

import pytest
from sqlalchemy import event, text

from registration_persistence import Database, DatabaseSettings, Registered, RegistrationRepository

# Enough that reading it all costs more than any index.
CROWD = """
INSERT INTO registrations (id, email, email_key, email_key_rev, status, expires_at, verified_at, activated_at,
                           submit_key, submit_digest)
SELECT gen_random_uuid(), n || '@example.org', n || '@example.org', 1,
       CASE WHEN n % 5 = 0 THEN 'pending' ELSE 'active' END,
       CASE WHEN n % 5 = 0 THEN now() + interval '1 day' END, now(), now(), sha256(n::text::bytea), sha256('')
FROM generate_series(1, 20000) AS n
"""
TOKENS = """
INSERT INTO verification_tokens (id, registration_id, purpose, secret_hash, hash_key_id, expires_at)
SELECT gen_random_uuid(), id, 'verify_email', sha256(id::text::bytea), 0, now() + interval '1 day' FROM registrations
"""


@pytest.mark.parametrize("plan", ["force_generic_plan", "force_custom_plan"])
def test_no_statement_reads_a_whole_table(database: Database, plan: str) -> None:
    """With 20,000 registrations, none of the methods makes PostgreSQL scan a table from end to end."""
    settings: DatabaseSettings = dataclasses.replace(database.settings, pool="lambda")
    with database.session() as session:
        for statement in (CROWD, TOKENS, "ANALYZE registrations", "ANALYZE verification_tokens"):
            session.execute(text(statement))
    planned = Database(settings)
    event.listen(planned.engine, "connect", lambda connection, _: setattr(connection, "prepare_threshold", 0))
    with planned.session() as session:
        session.execute(text(f"SET LOCAL plan_cache_mode = {plan}"))
        registrations = RegistrationRepository(session)
        made = registrations.register("ada@example.com", idempotency_key="key")
        assert isinstance(made, Registered)
        registrations.register("ada@example.com", idempotency_key="key")
        registrations.peek_token(made.secret)
        registrations.verify_by_token(made.secret)
        registrations.find_by_email("77@example.org")
        registrations.find_by_email("nobody@example.org")
        registrations.get(made.registration.id)
        registrations.activate(made.registration.id)
        other = registrations.register("eve@example.com")
        registrations.cancel(other.registration.id)
        page = registrations.list_page(limit=100)
        registrations.list_page(after=page.next_cursor, limit=100, status="active")
        scanned = session.execute(
            text(
                "SELECT relname, seq_scan FROM pg_stat_xact_user_tables"
                " WHERE seq_scan > 0 AND relname IN ('registrations', 'verification_tokens')"
            )
        ).all()
        prepared = session.scalar(text("SELECT count(*) FROM pg_prepared_statements"))
        session.execute(text("SELECT count(*) FROM registrations WHERE profile <> '{}'"))
        noticed = session.scalar(text("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'registrations'"))
    planned.dispose()

    assert [] == scanned
    assert prepared is not None
    assert prepared >= 8, "the plans that are meant are those of prepared statements"
    assert noticed == 1, "a scan would have been noticed"
