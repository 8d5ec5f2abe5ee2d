"""`AwaitedAuroraDialect`: the dialect of an engine whose connections await."""

from sqlalchemy.engine.interfaces import DBAPIConnection

from registration_persistence.database.dialect import AuroraDialect


class AwaitedAuroraDialect(AuroraDialect):
    """`AuroraDialect` for connections that are used in SQLAlchemy's greenlet."""

    is_async = True
    has_terminate = True
    supports_statement_cache = True

    def do_terminate(self, dbapi_connection: DBAPIConnection) -> None:
        """Close the connection; nothing waits for the server."""
        dbapi_connection.close()
