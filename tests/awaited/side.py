"""The asynchronous side in a process: every `Database` waits like `AsyncDatabase`."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from awaited.tasks import fork, sleep
from sqlalchemy.util.concurrency import greenlet_spawn

from registration_persistence import Database
from registration_persistence.database.awaited_database import AwaitedDatabase
from registration_persistence.sandbox import handler_process
from registration_persistence.sandbox.handler_process import HandlerProcess

T = TypeVar("T")

REPORT_VARIABLE = "AWAITED_SLOW_CALLBACKS"
"""The variable with the file in which a handler's process reports slow callbacks."""


def await_every_wait() -> None:
    """Give each `Database` of this process the waits of `AsyncDatabase`, and let `time.sleep` run other tasks."""
    # A service has imported this module, and the ORM with it, before its event loop runs.
    import_module("registration_persistence.database.async_database")
    for name in ("_waits", "_credentials_in_use"):
        setattr(Database, name, vars(AwaitedDatabase)[name])
    setattr(time, "sleep", sleep)  # noqa: B010 its type is that of a built-in function
    os.fork = fork


def run_in_loop(function: Callable[[], T], report: Path | None) -> T:
    """Call *function* in a greenlet of a new event loop, and return its result.

    Args:
        function: The function.
        report: The file to which slow callbacks are appended. `None`: they are not watched.
    """

    async def call() -> T:
        if report is None:
            return await greenlet_spawn(function)
        from awaited.slow_callbacks import SlowCallbacks

        watch = SlowCallbacks(lambda found: _append(report, found))
        try:
            return await greenlet_spawn(function)
        finally:
            watch.stop()

    return asyncio.run(call(), debug=report is not None)


def start_handlers_in_loops(report: Path | None) -> None:
    """Let each `LambdaProcess` of this process run its handler in an event loop."""
    start: Callable[..., None] = HandlerProcess.__init__
    variables = {} if report is None else {REPORT_VARIABLE: os.fspath(report)}

    def start_in_loop(process: HandlerProcess, handler: str, name: str, environment: Mapping[str, str]) -> None:
        start(process, handler, name, {**environment, **variables})

    handler_process._RUNTIME = "awaited.handler_runtime"
    replaced: Any = HandlerProcess
    replaced.__init__ = start_in_loop


def _append(report: Path, found: str) -> None:
    with report.open("a") as file:
        file.write(f"{found}\n")
