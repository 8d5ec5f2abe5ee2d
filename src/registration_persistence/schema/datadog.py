"""The function that Datadog's Database Monitoring calls to get a plan; it gives the monitoring no access to rows."""

from sqlalchemy import Connection

from registration_persistence.schema.composed_sql import execute_verbatim
from registration_persistence.schema.grants import MONITORING_ROLE

DATADOG_SCHEMA = "datadog"
"""The schema in which Datadog's agent looks for the function."""

EXPLAIN_SIGNATURE = "datadog.explain_statement(text)"
"""The function with its argument type, as PostgreSQL prints it."""

# Does not look the function up by name, because that fails if the schema belongs to another role.
FIND_EXPLAIN = f"""
SELECT p.oid, p.proowner, p.proacl FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = '{DATADOG_SCHEMA}' AND p.proname = 'explain_statement' AND p.proargtypes = '25'::oidvector
"""  # noqa: S608 a constant
"""The query that finds the function in the system catalog."""

# EXPLAIN needs the owner's privileges on the tables, so nothing that runs with them may read a row. Planning calls
# stable functions, and EXECUTE calls all functions in its arguments. The functions of PostgreSQL that run a query from
# an argument, and would show its rows in an error, are matched by name. U& can escape a name, and a prepared statement
# can contain one. A plan shows the rows that the planner expects, so columns with personal data have no statistics.
_ROW_READING_PATTERN = r'_to_xml|ts_stat|ts_rewrite|u&"'

# The loop opens a cursor, which rejects a second statement behind a semicolon.
_CREATE_EXPLAIN = f"""
CREATE OR REPLACE FUNCTION datadog.explain_statement(l_query text, OUT explain json) RETURNS SETOF json
LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $function$
BEGIN
  SET TRANSACTION READ ONLY;
  IF l_query ~* '{_ROW_READING_PATTERN}'
     OR EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE statement ~* '{_ROW_READING_PATTERN}') THEN
    RAISE insufficient_privilege USING MESSAGE = 'a statement that can read rows while it is planned is not explained';
  END IF;
  FOR explain IN EXECUTE 'EXPLAIN (FORMAT JSON) ' || l_query LOOP
    RETURN NEXT;
  END LOOP;
END $function$"""


def create_explain_function(connection: Connection) -> None:
    """Create the function that returns plans, or replace it.

    Args:
        connection: A connection with the privileges of the owner role, in a transaction.
    """
    for statement in (
        _CREATE_EXPLAIN,
        f"REVOKE ALL ON FUNCTION {EXPLAIN_SIGNATURE} FROM PUBLIC",
        f"GRANT EXECUTE ON FUNCTION {EXPLAIN_SIGNATURE} TO {MONITORING_ROLE}",
        f"REVOKE ALL ON SCHEMA {DATADOG_SCHEMA} FROM PUBLIC",
        f"GRANT USAGE ON SCHEMA {DATADOG_SCHEMA} TO {MONITORING_ROLE}",
    ):
        execute_verbatim(connection, statement)
