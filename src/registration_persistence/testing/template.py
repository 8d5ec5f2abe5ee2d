"""A template database, made by the migrations, of which the databases of tests are copies."""

import secrets
from collections.abc import Callable

from registration_persistence.database import DatabaseSettings
from registration_persistence.sandbox import PostgresServer
from registration_persistence.sandbox.isolation import hidden_variables, is_foreign
from registration_persistence.sandbox.migrated_database import create_migrated_database

# The names are unique to this run, because another run may use the same server.
_RUN_ID = secrets.token_hex(4)
LOGIN = f"registration_app_{_RUN_ID}"
TEMPLATE = f"registration_template_{_RUN_ID}"


MigrateService = Callable[[DatabaseSettings], object]
"""A function that runs a service's own migrations; it gets the settings of a database with the tables of this package.

The settings belong to the login that owns the database.
"""

_END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"


def make_template(server: PostgresServer, migrate_service: MigrateService) -> DatabaseSettings:
    """Create the login and the template database on *server*, and return the settings that connect to it."""
    with hidden_variables(is_foreign):
        settings = create_migrated_database(
            server, TEMPLATE, login=LOGIN, password=secrets.token_urlsafe(16), environment="test", sslmode="prefer"
        )
        migrate_service(settings)
    with server.connect() as connection:
        # PostgreSQL copies no database that has sessions, and the function may have left a pool open.
        connection.execute(_END_SESSIONS, [TEMPLATE])
    return settings


def copy_template(server: PostgresServer) -> str:
    """Create a copy of the template database on *server*, and return its name."""
    name = f"registration_{secrets.token_hex(8)}"
    server.create_database(name, owner=LOGIN, template=TEMPLATE)
    return name
