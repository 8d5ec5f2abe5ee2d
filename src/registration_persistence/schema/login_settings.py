"""The settings of the service's logins on the server, which a connection through a proxy cannot override."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from registration_persistence.schema.grants import GRANTS, READ_WRITE_ROLE

READABLE_STYLES = {"datestyle": "ISO", "intervalstyle": "postgres"}
"""The only styles that psycopg can parse, by the name of the setting."""

# A table of the service that comes first in the search_path would be used instead of ours. The default search_path
# starts with the schema that has the name of the login.
# PostgreSQL applies the setting of a role in a database first, then that of the role, the database, and all roles.
_UNSUITABLE = text(r"""
WITH login AS (
  SELECT r.oid, r.rolname AS name, g.oid IS NOT NULL OR CAST(:proxied AS boolean) AS keeps_styles
  FROM pg_roles r LEFT JOIN pg_roles g ON g.rolname = :group
  WHERE r.rolcanlogin AND NOT r.rolsuper
    AND CASE WHEN g.oid IS NULL OR CAST(:proxied AS boolean) AND r.rolname = current_user THEN r.rolname = current_user
        ELSE pg_has_role(r.oid, g.oid, 'USAGE') END
), configured AS (
  SELECT DISTINCT ON (login.name, setting) login.name AS login, setting, value, keeps_styles
  FROM login, LATERAL (
    SELECT lower(split_part(entry, '=', 1)), substr(entry, strpos(entry, '=') + 1), s.setrole, s.setdatabase, false
    FROM pg_db_role_setting s, unnest(s.setconfig) AS entry
    WHERE s.setrole IN (0, login.oid)
      AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    UNION ALL SELECT name, boot_val, 0, 0, true FROM pg_settings WHERE name = 'search_path'
  ) AS s (setting, value, setrole, setdatabase, by_default)
  ORDER BY login.name, setting, by_default, setrole <> 0 DESC, setdatabase <> 0 DESC
), unsuitable AS (
  SELECT *, CASE
    WHEN setting = 'datestyle' AND keeps_styles AND value ~* 'sql|postgres|german' THEN 'ISO'
    WHEN setting = 'intervalstyle' AND keeps_styles AND value !~* '^postgres$' THEN 'postgres'
    WHEN setting = 'search_path' AND value !~ '\ypublic\y' THEN concat_ws(', ', nullif(value, '""'), 'public')
    WHEN setting = 'search_path' AND EXISTS (
      SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relname = ANY(:tables) AND quote_ident(n.nspname) = ANY(string_to_array(
        replace(regexp_replace(value, '(^|, )public(,.*|$)', ''), '"$user"', quote_ident(login)), ', ')))
      THEN 'public, ' || array_to_string(array_remove(string_to_array(value, ', '), 'public'), ', ')
    WHEN setting = 'default_transaction_read_only' AND value ~* '^(on|t|tr|tru|true|y|ye|yes|1)$' THEN 'off'
  END AS expected
  FROM configured
)
SELECT format('the login %I has %s = %s: ALTER ROLE %I IN DATABASE %I SET %s = %s;',
              login, setting, value, login, current_database(), setting, expected)
FROM unsuitable WHERE expected IS NOT NULL ORDER BY login, setting
""")


def unsuitable_settings(connection: Connection, *, proxied: bool) -> Sequence[str]:
    """Return one line for each setting with which a login of the service fails, with the statement that corrects it.

    The logins are those of `READ_WRITE_ROLE`, or that of *connection* if there is no such role.

    Args:
        connection: A connection to the database.
        proxied: Whether connections go through a proxy, so that they cannot set the styles themselves. The login of
            *connection* is then checked, too.
    """
    parameters = {"group": READ_WRITE_ROLE, "proxied": proxied, "tables": list(GRANTS)}
    return connection.scalars(_UNSUITABLE, parameters).all()
