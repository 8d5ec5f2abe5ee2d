"""`open_metrics`: the way of metrics to Datadog's agent, or to CloudWatch if there is no agent."""

import atexit
import os
import socket
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from registration_persistence.telemetry.emf import EmbeddedMetrics

if TYPE_CHECKING:
    from datadog.dogstatsd.base import DogStatsd

EXTENSION = Path("/opt/extensions/datadog-agent")
"""The program of Datadog's extension in a Lambda function."""

SOCKET = Path("/var/run/datadog/dsd.socket")
"""The usual Unix socket of the agent."""

_USUAL_PORT = 8125

# The number of packets that wait until the name of the agent's host is resolved; more are dropped.
_MAX_QUEUED = 1000

# The time for these packets at the end of the process.
_STOP_TIMEOUT_SECONDS = 1.0


class Metrics(Protocol):
    """The methods of `datadog.dogstatsd.DogStatsd` that this package uses."""

    def increment(self, metric: str, value: float = ..., tags: list[str] | None = ...) -> object:
        """Add *value* to a counter."""

    def distribution(self, metric: str, value: float, tags: list[str] | None = ...) -> object:
        """Record one value."""

    def flush(self) -> object:
        """Write or send what waits."""


def open_metrics(environment: str) -> Metrics:
    """Return a client of the agent, if there is one, or lines for CloudWatch.

    Args:
        environment: The environment of the metrics. The agent's client prefers `DD_ENV`.
    """
    return _client(environment) if agent_listens() else EmbeddedMetrics(environment)


def agent_listens() -> bool:
    """Return whether metrics go to an agent: variables name one, it is the extension, or it listens on this machine."""
    return (
        any(os.environ.get(name) for name in ("DD_DOGSTATSD_URL", "DD_AGENT_HOST"))
        or EXTENSION.exists()
        or SOCKET.exists()
        or _is_port_open()
    )


def _is_port_open() -> bool:
    """Return whether something listens at the agent's port on this machine; it receives an empty line."""
    port = os.environ.get("DD_DOGSTATSD_PORT", "")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError, ValueError, OverflowError):
        probe.settimeout(0)
        probe.connect(("127.0.0.1", int(port) if port.isdecimal() else _USUAL_PORT))
        # The kernel reports the refusal of the first packet when the second one is sent.
        return all(probe.send(b"\n") for _ in range(2))
    return False


def _client(environment: str) -> "DogStatsd":
    from datadog.dogstatsd.base import DogStatsd  # its import takes longer than all else of this package

    is_named = any(os.environ.get(name) for name in ("DD_DOGSTATSD_URL", "DD_AGENT_HOST"))
    path = None if is_named or EXTENSION.exists() or not SOCKET.exists() else str(SOCKET)
    tags = [] if os.environ.get("DD_ENV") else [f"env:{environment}"]
    # It sends when `flush` is called, or when a packet is full, and has no thread, which would stand still in Lambda.
    client = DogStatsd(
        socket_path=path, constant_tags=tags, disable_telemetry=True, disable_buffering=False, flush_interval=0
    )
    if not _is_reached_at_once(client.host):
        # Resolving the name can take seconds, so a thread does it.
        client.enable_background_sender(sender_queue_size=_MAX_QUEUED, sender_queue_timeout=0)
        atexit.register(client.disable_background_sender, _STOP_TIMEOUT_SECONDS)
    return client


def _is_reached_at_once(host: str | None) -> bool:
    """Return whether *host* needs no look-up by name; `None` is a Unix socket."""
    with suppress(ValueError):
        return host in {None, "localhost"} or bool(ip_address(host))
    return False
