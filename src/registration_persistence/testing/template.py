"""A database that the real migrations made, for others to be copied from."""

import secrets

from registration_persistence import schema
from registration_persistence.database import Database, DatabaseSettings
from registration_persistence.sandbox import PostgresServer

# Of this run alone: the server may be shared, and may have roles that others use.
_RUN = secrets.token_hex(4)
LOGIN = f"registration_app_{_RUN}"
TEMPLATE = f"registration_template_{_RUN}"


def make_template(server: PostgresServer) -> DatabaseSettings:
    """Make the login and the database, and return the settings with which the one reaches the other."""
    password = secrets.token_urlsafe(16)
    server.create_login(LOGIN, password)
    server.create_database(TEMPLATE, owner=LOGIN)
    settings = DatabaseSettings(
        environment="test",
        host=server.host,
        port=server.port,
        name=TEMPLATE,
        user=LOGIN,
        password=password,
        sslmode="prefer",
    )
    database = Database(settings)
    try:
        schema.upgrade(database)
    finally:
        database.dispose()
    return settings


def copy_template(server: PostgresServer) -> str:
    """Make a database like the template and return its name."""
    name = f"registration_{secrets.token_hex(8)}"
    server.create_database(name, owner=LOGIN, template=TEMPLATE)
    return name
