"""`create_migrated_database`: a database with a login and the newest schema."""

from registration_persistence import schema
from registration_persistence.database import Database, DatabaseSettings
from registration_persistence.database.environment_rules import Environment
from registration_persistence.database.tls_rules import SslMode
from registration_persistence.sandbox.server import PostgresServer


def create_migrated_database(
    server: PostgresServer, name: str, *, login: str, password: str, environment: Environment, sslmode: SslMode
) -> DatabaseSettings:
    """Create a database on *server* that belongs to *login*, run the migrations, and return its settings.

    Args:
        server: The server, with a superuser.
        name: The name of the new database.
        login: The role that owns it, which is created, or gets another password.
        password: The password of *login*.
        environment: The environment of the settings.
        sslmode: The TLS mode of the settings.

    Raises:
        RegistrationPersistenceError: The server cannot be reached, or a migration failed.
    """
    server.create_login(login, password)
    server.create_database(name, owner=login)
    settings = DatabaseSettings(
        environment=environment,
        host=server.host,
        port=server.port,
        name=name,
        user=login,
        password=password,
        sslmode=sslmode,
    )
    database = Database(settings)
    try:
        schema.upgrade(database)
    finally:
        database.dispose()
    return settings
