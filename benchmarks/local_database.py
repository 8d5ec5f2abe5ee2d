"""A migrated database on this machine for the benchmarks."""

from registration_persistence import Database, DatabaseSettings, schema
from registration_persistence.sandbox import PostgresServer


def create_migrated_database(server: PostgresServer, name: str = "benchmark") -> DatabaseSettings:
    """Create a database with the newest schema on *server*, and return its settings."""
    server.create_database(name)
    settings = DatabaseSettings(
        environment="local",
        host=server.host,
        port=server.port,
        name=name,
        user=server.user,
        password=server.password,
        sslmode="disable",
        pool="lambda",
        idle_in_transaction_timeout=3600,
    )
    database = Database(settings)
    schema.upgrade(database)
    database.dispose()
    return settings
