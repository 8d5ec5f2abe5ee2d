"""`Facts`: the settings, the database and the connection, which the checks share."""

from typing import Any

from sqlalchemy import Connection, Row

from registration_persistence.database import Database, DatabaseSettings


class Facts:
    """The subject of the checks, and the results that later checks use.

    Args:
        database: The database to examine; no connection is open yet.

    Attributes:
        database: The database to examine.
        addresses: The IP addresses of its host, once they are known; an empty text stands for a Unix socket.
        server: The state of the server, once the login succeeded: the row of `read_server_state`.
        has_tables: Whether the database has a revision; true until the check of the schema says otherwise.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.addresses: tuple[str, ...] = ()
        self.server: Row[Any] | None = None
        self.has_tables: bool = True
        self._connection: Connection | None = None

    @property
    def settings(self) -> DatabaseSettings:
        """The settings of the database."""
        return self.database.settings

    @property
    def connection(self) -> Connection:
        """The open connection, in autocommit.

        Raises:
            ConnectionGone: There is none, or a check before could not end on it.
        """
        if self._connection is None:
            raise ConnectionGone
        return self._connection

    def use_connection(self, connection: Connection) -> None:
        """Run the checks of the server on *connection*."""
        self._connection = connection

    def abandon_connection(self) -> None:
        """Use the connection no more, because a check is still waiting for it in another thread."""
        self._connection = None

    def close(self) -> None:
        """Close the connection if no thread is waiting for it."""
        if self._connection is not None:
            self._connection.close()
        self.database.dispose()


class ConnectionGone(Exception):
    """There is no connection for the check."""
