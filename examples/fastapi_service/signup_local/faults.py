"""`Faults`: asks the parent process for a fault, and records what the database layer has survived."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from registration_persistence.database import DatabaseEvent

FaultName = Literal["rotate", "fail_over", "freeze"]

_MAX_ENTRIES = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the operator's list.

    Args:
        number: The number of the line, from 1.
        at: The time, ISO 8601.
        name: The name of a fault or of a `DatabaseEvent`.
        cause: The cause of the event; empty for a fault.
        seconds: The duration in seconds.
    """

    number: int
    at: str
    name: str
    cause: str
    seconds: float


class FaultRunning(Exception):
    """Another fault has not ended."""


class Faults:
    """The list of the operator, and the connection to the parent process.

    Args:
        reader: Yields a line when a fault has ended.
        writer: Takes the name of a fault.
        ended: Called if the parent process has ended.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, ended: Callable[[], None]
    ) -> None:
        self._reader, self._writer, self._ended = reader, writer, ended
        self._entries: deque[Entry] = deque(maxlen=_MAX_ENTRIES)
        self._number = 0
        self._running: asyncio.Future[float] | None = None

    def ready(self) -> None:
        """Tell the parent process that the service answers."""
        self._writer.write(b"\n")

    async def watch(self) -> None:
        """Read the answers of the parent process until it ends."""
        with suppress(OSError):
            async for line in self._reader:
                if self._running is not None and not self._running.done():
                    self._running.set_result(float(json.loads(line)["seconds"]))
        self._ended()

    async def cause(self, name: FaultName) -> float:
        """Cause a fault, and return its duration in seconds when it has ended.

        Raises:
            FaultRunning: Another one has not ended.
        """
        if self._running is not None:
            raise FaultRunning
        self._running = asyncio.get_running_loop().create_future()
        self._add(name, "started", 0.0)
        try:
            self._writer.write(f"{name}\n".encode())
            seconds = await self._running
        finally:
            self._running = None
        self._add(name, "ended", seconds)
        return seconds

    def note(self, event: DatabaseEvent) -> None:
        """Add an event of the database layer to the list."""
        self._add(event.name, event.cause, event.seconds)

    def after(self, number: int) -> list[dict[str, Any]]:
        """Return the lines after the line with this *number*, the oldest first."""
        return [asdict(entry) for entry in self._entries if entry.number > number]

    def _add(self, name: str, cause: str, seconds: float) -> None:
        self._number += 1
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._entries.append(Entry(self._number, now, name, cause, round(seconds, 3)))
