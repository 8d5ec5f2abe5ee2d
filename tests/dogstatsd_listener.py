"""`DogstatsdListener`: a UDP socket that receives metrics as Datadog's agent does."""

import re
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Self

# One metric: name, value, kind and tags.
_METRIC = re.compile(r"([\w.]+):(-?[\d.]+(?:e-?\d+)?)\|([cd])\|#([\w.:/,-]+)")

_SILENCE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Received:
    """One metric that arrived."""

    name: str
    value: float
    kind: str
    tags: frozenset[str]


class DogstatsdListener:
    """A UDP socket on 127.0.0.1; use it as a context manager.

    Attributes:
        port: Its port.
        packets: The packets so far, as text.
    """

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(_SILENCE_SECONDS)
        self.port: int = self._socket.getsockname()[1]
        self.packets: list[str] = []
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def received(self) -> list[Received]:
        """Return the metrics that have arrived since the last call, when no more arrive."""
        metrics: list[Received] = []
        while True:
            try:
                packet = self._socket.recv(65_536).decode()
            except TimeoutError:
                return metrics
            self.packets.append(packet)
            for line in packet.splitlines():
                if line:  # of the probe
                    match = _METRIC.fullmatch(line)
                    assert match, line
                    metrics.append(Received(match[1], float(match[2]), match[3], frozenset(match[4].split(","))))
