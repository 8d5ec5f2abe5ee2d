"""A standby without a free connection slot."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psycopg

from registration_persistence.sandbox import PostgresServer


@contextmanager
def all_slots_held(server: PostgresServer) -> Iterator[None]:
    """Hold every connection slot until the block ends; on a standby no login can be created for it."""
    with ExitStack() as stack:
        with suppress(psycopg.OperationalError):
            while True:
                stack.enter_context(server.connect())
        yield
