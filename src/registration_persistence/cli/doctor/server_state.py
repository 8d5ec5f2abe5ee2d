"""`read_server_state`: what several checks need to know of the server, in one round trip."""

from typing import Any

from sqlalchemy import Connection, Row, text

# Every login may read all of it: pg_settings omits a setting that it may not read, and current_setting would fail. A
# background process has no user or no database, and needs no slot.
_SERVER_STATE = text("""
SELECT current_user, session_user, current_database() AS database,
  pg_backend_pid() AS backend_pid,
  current_setting('server_version') AS version,
  current_setting('server_version_num')::int AS version_number,
  pg_is_in_recovery() AS in_recovery,
  current_setting('transaction_read_only') = 'on' AS read_only,
  current_setting('max_connections')::int AS max_connections,
  current_setting('superuser_reserved_connections')::int
    + (SELECT coalesce(sum(setting::int), 0) FROM pg_settings
       WHERE name IN ('reserved_connections', 'rds.rds_superuser_reserved_connections')) AS reserved,
  (SELECT count(*) FROM pg_stat_activity WHERE usesysid IS NOT NULL AND datid IS NOT NULL) AS connections,
  r.rolconnlimit AS role_limit,
  (SELECT count(*) FROM pg_stat_activity WHERE usesysid = r.oid) AS role_connections,
  d.datconnlimit AS database_limit,
  (SELECT count(*) FROM pg_stat_activity WHERE datid = d.oid AND usesysid IS NOT NULL) AS database_connections,
  r.rolsuper AS is_superuser, r.rolcreaterole AS creates_roles, r.rolbypassrls AS bypasses_rls,
  pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all_sessions,
  age(d.datfrozenxid) AS transaction_id_age, mxid_age(d.datminmxid) AS multixact_age
FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()
""")


def read_server_state(connection: Connection) -> Row[Any]:
    """Return the state of the server, of the role and of the database."""
    return connection.execute(_SERVER_STATE).one()
