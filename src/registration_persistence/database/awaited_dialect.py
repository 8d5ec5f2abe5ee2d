"""`AwaitedAuroraDialect`: the dialect of an engine whose connections await."""

import asyncio
from typing import Any

from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import PoolProxiedConnection

from registration_persistence.database.dialect import AuroraDialect


class AwaitedAuroraDialect(AuroraDialect):
    """`AuroraDialect` for connections that are used in SQLAlchemy's greenlet."""

    is_async = True
    has_terminate = True
    supports_statement_cache = True

    def do_terminate(self, dbapi_connection: DBAPIConnection) -> None:
        """Close the connection; nothing waits for the server."""
        dbapi_connection.close()

    def do_commit(self, dbapi_connection: PoolProxiedConnection) -> None:
        """Commit; if the task is cancelled meanwhile, report what became of the transaction."""
        try:
            super().do_commit(dbapi_connection)
        except asyncio.CancelledError:
            driver: Any = dbapi_connection.dbapi_connection
            if self.commit_resolver is not None and driver is not None and driver.cancelled_outcome is not None:
                self.commit_resolver.report(driver.cancelled_outcome)
            raise
