"""The queries of the system catalog that `bootstrap` needs."""

from sqlalchemy import text

from registration_persistence.schema.datadog import DATADOG_SCHEMA, EXPLAIN_SIGNATURE, FIND_EXPLAIN
from registration_persistence.schema.grants import OWNER_ROLE, PACKAGE_OBJECTS_CTE

ADMIN = text("""
SELECT current_user AS name, CAST(current_setting('server_version_num') AS integer) AS version,
       rolsuper OR rolcreaterole AS creates_roles,
       (SELECT pg_has_role(current_user, datdba, 'USAGE') FROM pg_database WHERE datname = current_database())
         AS owns_database,
       (SELECT pg_has_role(current_user, nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'public') AS owns_public
FROM pg_roles WHERE rolname = current_user
""")
"""The login that runs bootstrap, and whether it may."""

ROLES = text("""
SELECT rolname AS name, rolsuper OR rolreplication OR rolbypassrls AS is_privileged, rolcanlogin AS login,
       rolcreatedb OR rolcreaterole AS creates, rolinherit AS inherits, rolconnlimit AS connections,
       pg_has_role(current_user, oid, 'MEMBER WITH ADMIN OPTION') AS administrable
FROM pg_roles WHERE rolname = ANY(:roles)
""")
"""The attributes of roles."""

ADMIN_USES_IAM = text("""
SELECT coalesce(bool_or(pg_has_role(current_user, oid, CASE WHEN current_setting('server_version_num')::integer < 160000
                                                        THEN 'MEMBER' ELSE 'USAGE' END)), false)
FROM pg_roles WHERE rolname = 'rds_iam'
""")
"""Whether RDS asks the admin for a token of IAM.

Since PostgreSQL 16, the creator of a role becomes a member that does not inherit its privileges. That does not count.
"""

IAM_ROLE_EXISTS = text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_iam')")
"""Whether the server is one of RDS."""

OBJECT_OWNERS = text(f"""
WITH {PACKAGE_OBJECTS_CTE}
SELECT name, kind, pg_get_userbyid(owner) AS owner FROM ours
UNION ALL
SELECT nspname, 'n', pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = '{DATADOG_SCHEMA}'
UNION ALL
SELECT '{EXPLAIN_SIGNATURE}', 'f', pg_get_userbyid(proowner) FROM ({FIND_EXPLAIN}) AS explain
ORDER BY name
""")  # noqa: S608 constants
"""The objects of this package and their owners. Kinds: `r` is a table, `f` a function, `n` a schema."""

MEMBERSHIPS = text("""
SELECT DISTINCT pg_get_userbyid(roleid) AS role, pg_get_userbyid(member) AS member FROM pg_auth_members
WHERE pg_get_userbyid(member) = ANY(:roles) ORDER BY 1, 2
""")
"""The roles that roles are members of."""

STATE = text(f"""
WITH {PACKAGE_OBJECTS_CTE}, allowed AS (
  SELECT 'the database' AS what, datdba AS owner, coalesce(datacl, acldefault('d', datdba)) AS acl
  FROM pg_database WHERE datname = current_database()
  UNION ALL
  SELECT 'the schema ' || nspname, nspowner, coalesce(nspacl, acldefault('n', nspowner))
  FROM pg_namespace WHERE nspname IN ('public', '{DATADOG_SCHEMA}')
  UNION ALL
  SELECT name, owner, coalesce(acl, acldefault(kind, owner)) FROM ours
  UNION ALL
  SELECT '{EXPLAIN_SIGNATURE}', proowner, coalesce(proacl, acldefault('f', proowner))
  FROM ({FIND_EXPLAIN}) AS explain
)
SELECT format('%s is a role %s%s%s', rolname, CASE WHEN rolcanlogin THEN 'with' ELSE 'without' END, ' login',
              CASE WHEN rolcreatedb OR rolcreaterole THEN ' that creates others' ELSE '' END
              || CASE WHEN rolconnlimit >= 0 THEN format(' and %s connections', rolconnlimit) ELSE '' END)
FROM pg_roles WHERE rolname = ANY(:roles)
UNION
SELECT format('%s is a member of %s', pg_get_userbyid(member), pg_get_userbyid(roleid)) FROM pg_auth_members
WHERE pg_get_userbyid(member) = ANY(:roles)
UNION
SELECT format('%s can become %s', current_user, rolname) FROM pg_roles
WHERE rolname = '{OWNER_ROLE}' AND pg_has_role(current_user, oid, 'USAGE')
UNION
SELECT format('%s has %s%s', rolname, setting, CASE WHEN s.setdatabase <> 0 THEN ' in this database' ELSE '' END)
FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) AS setting
WHERE rolname = ANY(:roles)
  AND (s.setdatabase = 0 OR s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))
UNION
SELECT format('%s may %s on %s', CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END,
              string_agg(privilege_type, ', ' ORDER BY privilege_type), what)
FROM allowed, aclexplode(acl) WHERE grantee <> owner AND (grantee = 0 OR pg_get_userbyid(grantee) = ANY(:roles))
GROUP BY grantee, what
UNION
SELECT format('%s may %s (%s) on %s', CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END,
              privilege_type, string_agg(attname, ', ' ORDER BY attname), name)
FROM ours JOIN pg_attribute ON kind = 'r' AND attrelid = ours.oid AND NOT attisdropped, aclexplode(attacl)
WHERE grantee <> owner AND (grantee = 0 OR pg_get_userbyid(grantee) = ANY(:roles))
GROUP BY grantee, name, privilege_type
UNION
SELECT format('%s belongs to %s', name, pg_get_userbyid(owner)) FROM ours
UNION
SELECT format('{EXPLAIN_SIGNATURE} has the body %s', md5(pg_get_functiondef(oid))) FROM ({FIND_EXPLAIN}) AS explain
""")  # noqa: S608 constants
"""Everything that bootstrap may change, one sentence each. The difference between two results lists the changes."""
