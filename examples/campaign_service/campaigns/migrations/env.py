"""Alembic's environment of the service."""

from alembic import context
from campaigns.models import Base

from registration_persistence import Database, DatabaseSettings, schema

database = context.config.attributes.get("database") or Database(DatabaseSettings.from_env())
with schema.deployment(database, name="campaigns") as connection:
    if set_role := schema.set_role_statement():
        connection.exec_driver_sql(set_role)
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=schema.exclude_ours,
    )
    with context.begin_transaction():
        context.run_migrations()
