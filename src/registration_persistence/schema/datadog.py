"""What Datadog's Database Monitoring calls to get a plan, without giving the monitoring a row."""

from sqlalchemy import Connection

from registration_persistence.schema.grants import MONITORING_ROLE

SCHEMA = "datadog"

EXPLAIN = "datadog.explain_statement(text)"

# Without a look-up by name, which fails where the schema is another's.
FIND_EXPLAIN = f"""
SELECT p.oid, p.proowner, p.proacl FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = '{SCHEMA}' AND p.proname = 'explain_statement' AND p.proargtypes = '25'::oidvector
"""  # noqa: S608 a constant

# EXPLAIN needs the owner's rights on the tables, so what runs with those must read nothing. Planning calls stable
# functions, and EXECUTE calls all that its arguments name. Those of PostgreSQL that read what they are told, and would
# show it in an error, are known by name; a name can be escaped with U&, or stand in a prepared statement.
_READING = r'_to_xml|ts_stat|ts_rewrite|u&"'

# A loop opens a cursor, which refuses a second statement behind a semicolon.
_FUNCTION = f"""
CREATE OR REPLACE FUNCTION datadog.explain_statement(l_query text, OUT explain json) RETURNS SETOF json
LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $function$
BEGIN
  SET TRANSACTION READ ONLY;
  IF l_query ~* '{_READING}'
     OR EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE statement ~* '{_READING}') THEN
    RAISE insufficient_privilege USING MESSAGE = 'a statement that can read rows while it is planned is not explained';
  END IF;
  FOR explain IN EXECUTE 'EXPLAIN (FORMAT JSON) ' || l_query LOOP
    RETURN NEXT;
  END LOOP;
END $function$"""


def make_explain_function(connection: Connection) -> None:
    """Make the function that returns plans, or make it anew; as the owner role, whose schema it is in."""
    for statement in (
        _FUNCTION,
        f"REVOKE ALL ON FUNCTION {EXPLAIN} FROM PUBLIC",
        f"GRANT EXECUTE ON FUNCTION {EXPLAIN} TO {MONITORING_ROLE}",
        f"REVOKE ALL ON SCHEMA {SCHEMA} FROM PUBLIC",
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {MONITORING_ROLE}",
    ):
        connection.exec_driver_sql(statement.replace("%", "%%"))
