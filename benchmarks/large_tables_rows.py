"""The rows of the databases of `large_tables.py`, made by the server."""

from hashlib import md5

from registration_persistence import DatabaseSettings
from registration_persistence.sandbox import PostgresServer

OVERDUE = 3000
"""The number of lapsed registrations, the same in each database, for the batches of `expire_due`."""

# A year of sign-ups, with ids in the order of their times, as UUIDv7 are. Of 20 registrations 13 are active, one is
# verified, one was cancelled, and five have expired, or are pending in the last week.
_REGISTRATIONS = """
INSERT INTO registrations (id, email, email_key, email_key_rev, status, profile, version, tokens_issued,
                           token_issued_at, created_at, updated_at, expires_at, verified_at, activated_at, closed_at,
                           close_reason, submit_key, submit_digest)
SELECT CAST(substr(lpad(to_hex(CAST(extract(epoch FROM born) * 1000 AS bigint)), 12, '0') || '7' || substr(hash, 1, 3)
            || '8' || substr(hash, 4, 15), 1, 32) AS uuid),
       email, email, 1, status, '{{"name": "Ada", "language": "en"}}', 1, 1, born, born, born,
       CASE WHEN status IN ('pending', 'verified') THEN born + interval '7 days' + now_open * interval '1 year' END,
       CASE WHEN status IN ('verified', 'active') THEN born END, CASE WHEN status = 'active' THEN born END,
       CASE WHEN status IN ('expired', 'cancelled') THEN born + interval '7 days' END,
       CASE status WHEN 'expired' THEN 'ttl' WHEN 'cancelled' THEN 'user' END,
       sha256(convert_to(hash, 'UTF8')), sha256('')
FROM generate_series({first}, {last}) AS n,
     LATERAL (SELECT md5(CAST(n AS text)) AS hash) AS hashed,
     LATERAL (SELECT substr(hash, 1, 14) || '@example.com' AS email) AS mailbox,
     LATERAL (SELECT {born} AS born, {status} AS status, {now_open} AS now_open) AS made
"""

_YEAR = {
    "born": "now() - interval '9 days' - ({rows} - n) * (interval '356 days' / {rows})",
    "status": """CASE WHEN n % 20 < 13 THEN 'active' WHEN n % 20 = 13 THEN 'verified' WHEN n % 20 = 14 THEN 'cancelled'
                 WHEN n > 0.98 * {rows} THEN 'pending' ELSE 'expired' END""",
    "now_open": "1",
}
_LAPSED = {"born": "now() - interval '8 days' + n * interval '1 ms'", "status": "'pending'", "now_open": "0"}

_OTHER_ROWS = (
    """
INSERT INTO verification_tokens (id, registration_id, purpose, secret_hash, hash_key_id, created_at, expires_at,
                                 used_at)
SELECT gen_random_uuid(), id, 'verify_email', sha256(uuid_send(id)), 0, created_at, created_at + interval '1 day',
       verified_at
FROM registrations
""",
    """
INSERT INTO registration_consents (registration_id, purpose, id, document_version, granted, source, recorded_at)
SELECT id, purpose, gen_random_uuid(), '2026-01', true, 'web', created_at
FROM registrations, unnest(CAST('{terms,newsletter}' AS text[])) WITH ORDINALITY AS given (purpose, number)
WHERE number = 1 OR get_byte(uuid_send(id), 15) < 128
""",
    """
INSERT INTO registration_events (registration_id, seq, id, type, actor, occurred_at)
SELECT id, seq, gen_random_uuid(), type, 'user', created_at + seq * interval '1 min'
FROM registrations,
     LATERAL unnest(CASE status WHEN 'active' THEN CAST('{registered,verified,activated}' AS text[])
                    WHEN 'pending' THEN '{registered}' WHEN 'verified' THEN '{registered,verified}'
                    WHEN 'expired' THEN '{registered,expired}' ELSE '{registered,cancelled}' END)
             WITH ORDINALITY AS happened (type, seq)
""",
)

# The partitions of the year before, which exist in a database that is a year old.
_PARTITIONS = """
DO $$
DECLARE
  month timestamp;
BEGIN
  FOR ago IN 1..13 LOOP
    month = date_trunc('month', now() AT TIME ZONE 'UTC') - ago * interval '1 month';
    EXECUTE format(
      'CREATE TABLE %I PARTITION OF registration_events FOR VALUES FROM (%L) TO (%L)',
      to_char(month, '"registration_events_y"YYYY"m"MM'), month || '+00', month + interval '1 month' || '+00'
    );
  END LOOP;
END $$
"""


def email_of(number: int) -> str:
    """Return the mailbox of the registration *number*, from 1; it is active if `number % 20 < 13`."""
    return f"{md5(str(number).encode(), usedforsecurity=False).hexdigest()[:14]}@example.com"


def fill(server: PostgresServer, settings: DatabaseSettings, rows: int) -> None:
    """Store *rows* registrations and `OVERDUE` lapsed ones, with their tokens, consents and events, and vacuum."""
    year = {name: sql.format(rows=rows) for name, sql in _YEAR.items()}
    with server.connect(settings.name) as connection:
        connection.autocommit = True
        connection.execute("SET session_replication_role = replica")  # without triggers and foreign keys
        connection.execute("SET synchronous_commit = off")
        connection.execute(_PARTITIONS)
        connection.execute(_REGISTRATIONS.format(first=1, last=rows, **year))
        connection.execute(_REGISTRATIONS.format(first=rows + 1, last=rows + OVERDUE, **_LAPSED))
        for statement in _OTHER_ROWS:
            connection.execute(statement)
        connection.execute("VACUUM (ANALYZE)")
