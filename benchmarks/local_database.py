"""A PostgreSQL on this machine for the benchmarks."""

from registration_persistence import Database, DatabaseSettings, schema
from registration_persistence.sandbox import PostgresServer


def migrated(address: PostgresServer, name: str = "benchmark") -> DatabaseSettings:
    """Create a database with the newest schema, and return its settings."""
    address.create_database(name)
    settings = DatabaseSettings(
        environment="local",
        host=address.host,
        port=address.port,
        name=name,
        user=address.user,
        password=address.password,
        sslmode="disable",
        pool="lambda",
    )
    database = Database(settings)
    schema.upgrade(database)
    database.dispose()
    return settings
