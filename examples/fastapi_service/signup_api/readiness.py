"""`Readiness`: whether this process can serve requests, found out without a connection of the pool."""

import asyncio
from dataclasses import replace

from sqlalchemy import Connection, String, column, select, table

from registration_persistence import AsyncDatabase, RegistrationPersistenceError, deadline, schema

# Of these, half is kept for the response.
_SECONDS = 1.0

_REVISION = select(column("version_num", String)).select_from(table(schema.VERSION_TABLE, schema="public"))


class NotReady(Exception):
    """This process cannot serve requests; the message says why."""


class Readiness:
    """Asks the database with a connection of its own, which it keeps.

    A busy process is ready: if it were taken out of the load balancer because its pool is exhausted, the others would
    get its requests and be exhausted next. So the question must not wait for the requests, and a process that has no
    connection left must still notice that its database is gone. The price is one more connection for each process.

    Args:
        database: The database of the requests, whose settings and credentials are used.
    """

    def __init__(self, database: AsyncDatabase) -> None:
        self._database = AsyncDatabase(replace(database.settings, pool="service", pool_size=1), database.credentials)
        self._needed = schema.newest()

    async def warm_up(self) -> None:
        """Open the connection."""
        await self._database.warm_up()

    async def dispose(self) -> None:
        """Close the connection."""
        await self._database.dispose()

    async def check(self) -> None:
        """Query the writer, and compare the revision of its schema with the one that this code needs.

        A newer revision is accepted: the migrations of a release run before its code is deployed.

        Raises:
            NotReady: The database does not answer in time, or its schema is older than this code.
        """
        try:
            with deadline(_SECONDS):
                revision = await self._database.run(_read_revision, single=True)
        except RegistrationPersistenceError as error:
            raise NotReady(f"the database does not answer: {type(error).__name__}") from error
        # The revisions are files, which are read only if there is a difference.
        if revision != self._needed and (revision is None or await asyncio.to_thread(schema.is_known, revision)):
            raise NotReady(f"the schema is at revision {revision}, expected {self._needed}: run the migrations")


def _read_revision(connection: Connection) -> str | None:
    revision: str | None = connection.scalar(_REVISION)
    return revision
