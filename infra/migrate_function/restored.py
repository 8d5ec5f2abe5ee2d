"""The Lambda function that tests a restored cluster: it migrates the copy, compares its schema and counts its rows.

It is a function of its own, with the code of the migration function: its network reaches only restored clusters, and
its role reads only the secrets of restored clusters.
"""

import logging
import os
from typing import Any

from sqlalchemy import func, select

from registration_persistence import Database, DatabaseSettings, LambdaContext, deadline, models, schema

logger = logging.getLogger(__name__)


class InvalidEvent(ValueError):
    """The event is invalid; the message describes the expected form."""


def handle(event: Any, context: LambdaContext) -> dict[str, Any]:
    """Upgrade the schema of a restored cluster to the newest revision, check it, and count the rows of each table.

    Args:
        event: `host`, the endpoint of the restored cluster, and `secret_arn`, the secret of its administrator.
        context: The Lambda context; its remaining time limits all waits.

    Returns:
        `healthy`, whether the schema is in step and there are enough registrations; a `message`; the revisions `before`
        and `after`, and the number of `rows` of each table.

    Raises:
        InvalidEvent: The event does not have this form, or the host is not that of a restored cluster.
        RegistrationPersistenceError: The cluster cannot be reached or migrated; the message contains no password.
    """
    database = _restored_database(event)
    try:
        with deadline(context):
            before = schema.current(database)
            schema.upgrade(database, wait=0)
            after, rows = schema.current(database), _rows(database)
            problem = _problem_of(database, rows[models.RegistrationRow.__tablename__])
    finally:
        database.dispose()
    counts = ", ".join(f"{number} {table}" for table, number in rows.items())
    message = f"{problem or 'in step'}: revision {before}, now {after}; {counts}"
    logger.info("the restored database is %s", message)
    return {"healthy": problem is None, "message": message, "before": before, "after": after, "rows": rows}


def _restored_database(event: Any) -> Database:
    expected = "expected an object with host and secret_arn"
    if not isinstance(event, dict) or event.keys() != {"host", "secret_arn"}:
        raise InvalidEvent(f"the event has other keys: {expected}")
    host, secret_arn = event["host"], event["secret_arn"]
    if not isinstance(host, str) or not isinstance(secret_arn, str):
        raise InvalidEvent(f"a value of the event is not text: {expected}")
    start = os.environ["RESTORED_HOST_START"]
    if not host.startswith(start):
        # This function migrates, so an error in the definition of the test must not lead it to another database.
        raise InvalidEvent(f"the host is not that of a restored cluster: expected a name that starts with {start}")
    variables = {"APP_DATABASE_HOST": host, "APP_DATABASE_SECRET_ARN": secret_arn}
    # A count reads the whole table; the time of the function limits it.
    limits = {"APP_DATABASE_STATEMENT_TIMEOUT": "0"}
    return Database(DatabaseSettings.from_env({**os.environ, **variables, **limits}))


def _rows(database: Database) -> dict[str, int]:
    """Return the number of rows of each table of the package; a count reads all of them from the restored storage."""
    owner = schema.set_role_statement()
    with database.session() as session:
        if owner is not None:
            session.connection().exec_driver_sql(owner)
        tables = models.Base.metadata.sorted_tables
        return {table.name: session.scalars(select(func.count()).select_from(table)).one() for table in tables}


def _problem_of(database: Database, registrations: int) -> str | None:
    try:
        schema.check(database)
    except schema.SchemaDiffers as error:
        return f"the schema differs ({error})"
    least = int(os.environ["RESTORE_TEST_MIN_REGISTRATIONS"])
    if registrations < least:
        return f"expected {least} registrations or more"
    return None
