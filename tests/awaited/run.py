"""Runs tests of the synchronous API on the asynchronous side: every `Database` of them waits like `AsyncDatabase`.

    python tests/awaited/run.py tests/integration -m "not container"

pytest runs in one greenlet of one event loop, so each wait of a test for the database lets the loop run, as a unit of
work of `AsyncDatabase.run` does. A test that starts threads needs a twin with tasks, and is not selected: a thread has
no event loop.
"""

import asyncio
import sys

import pytest
from sqlalchemy.util.concurrency import greenlet_spawn

from registration_persistence import Database
from registration_persistence.database.awaited_database import AwaitedDatabase


def await_every_wait() -> None:
    """Give each `Database` the waits of `AsyncDatabase`."""
    for name in ("_waits", "_credentials_in_use"):
        setattr(Database, name, vars(AwaitedDatabase)[name])


async def run(arguments: list[str]) -> int:
    """Run pytest with *arguments*, and return its exit code."""
    return await greenlet_spawn(pytest.main, arguments)


if __name__ == "__main__":
    await_every_wait()
    raise SystemExit(asyncio.run(run(sys.argv[1:])))
