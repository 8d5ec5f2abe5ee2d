"""The pool with one connection: who holds it is known, also while it passes from one task to the next."""

import asyncio
from dataclasses import replace

from registration_persistence import AsyncDatabase, DatabaseSettings


def test_a_task_that_has_returned_the_connection_can_wait_for_it_again(database_settings: DatabaseSettings) -> None:
    """The connection was given to a waiting task that has not run since then, so nothing is nested."""
    database = AsyncDatabase(replace(database_settings, pool="lambda"))

    async def ping_often() -> int:
        return len([await database.ping() for _ in range(5)])

    async def main() -> list[int]:
        return await asyncio.wait_for(asyncio.gather(*(ping_often() for _ in range(3))), 30)

    assert [5, 5, 5] == asyncio.run(main())
    database.close_idle()
