"""The metrics for Datadog's agent: how it is found, and that no failure of it delays or fails a caller."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from dogstatsd_listener import DogstatsdListener
from processes import python_environment

from registration_persistence.telemetry import datadog_metrics
from registration_persistence.telemetry.datadog_metrics import agent_listens, open_metrics
from registration_persistence.telemetry.emf import EmbeddedMetrics

VARIABLES = ("DD_DOGSTATSD_URL", "DD_AGENT_HOST", "DD_DOGSTATSD_PORT", "DD_ENV", "DD_SERVICE", "DD_VERSION")


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable, extension, socket or port of an agent."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DD_DOGSTATSD_PORT", str(closed_port()))
    monkeypatch.setattr(datadog_metrics, "EXTENSION", tmp_path / "datadog-agent")
    monkeypatch.setattr(datadog_metrics, "SOCKET", tmp_path / "dsd.socket")


def closed_port() -> int:
    """Return a UDP port at which nothing listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


@pytest.mark.parametrize("variable", [("DD_DOGSTATSD_URL", "udp://agent:8125"), ("DD_AGENT_HOST", "agent")])
def test_a_variable_names_the_agent(monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str]) -> None:
    """It may start later than the service, so nothing is asked."""
    assert not agent_listens()
    with monkeypatch.context() as wrong:
        for port in ("99999", "9" * 5000):
            wrong.setenv("DD_DOGSTATSD_PORT", port)
            assert not agent_listens(), port[:9]
    monkeypatch.setenv(*variable)

    assert agent_listens()


def test_a_socket_a_port_or_the_extension_is_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed port is none, and an empty variable names none."""
    monkeypatch.setenv("DD_AGENT_HOST", "")
    assert isinstance(open_metrics("dev"), EmbeddedMetrics)
    for path in (datadog_metrics.EXTENSION, datadog_metrics.SOCKET):
        path.touch()
        assert agent_listens(), path
        path.unlink()
    with DogstatsdListener() as agent:
        monkeypatch.setenv("DD_DOGSTATSD_PORT", str(agent.port))
        assert agent_listens()
        assert agent.received() == []  # an empty line is no metric


def test_the_metrics_of_a_unit_of_work_are_one_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have the environment, which `DD_ENV` changes, and are sent by `flush`, without a thread."""
    threads = threading.enumerate()
    with DogstatsdListener() as agent:
        monkeypatch.setenv("DD_DOGSTATSD_PORT", str(agent.port))
        for expected in ("dev", "production"):
            metrics: Any = open_metrics("dev")
            metrics.increment("a.retry", tags=["cause:lock_timeout"])
            metrics.distribution("a.unit_of_work.seconds", 0.25, tags=["outcome:kept"])
            assert agent.received() == []
            assert threading.enumerate() == threads
            metrics.flush()
            metrics.close_socket()
            assert [(each.name, each.value, each.kind, each.tags) for each in agent.received()] == [
                ("a.retry", 1, "c", frozenset({"cause:lock_timeout", f"env:{expected}"})),
                ("a.unit_of_work.seconds", 0.25, "d", frozenset({"outcome:kept", f"env:{expected}"})),
            ]
            monkeypatch.setenv("DD_ENV", "production")
        assert len([packet for packet in agent.packets if packet.strip()]) == 2


@contextlib.contextmanager
def full_socket(folder: Path) -> Iterator[str]:
    """Yield the address of a Unix socket that nobody reads, so that it fills up."""
    path = folder / "full.socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unread:
        unread.bind(str(path))
        yield f"unixgram://{path}"


@pytest.mark.parametrize("failure", ["down", "full", "absent", "unknown", "slow"])
def test_an_agent_that_fails_delays_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: str) -> None:
    """1,000 units of work lose their metrics, but no time: a packet that cannot be sent at once is dropped."""
    released = Event()

    def never_resolve(*_arguments: Any, **_named: Any) -> Any:
        if failure == "slow":
            released.wait(10)
        raise socket.gaierror("no answer")

    with contextlib.ExitStack() as stack:
        match failure:
            case "down":
                monkeypatch.setenv("DD_AGENT_HOST", "127.0.0.1")
            case "full":
                monkeypatch.setenv("DD_DOGSTATSD_URL", stack.enter_context(full_socket(tmp_path)))
            case "absent":
                monkeypatch.setenv("DD_DOGSTATSD_URL", f"unix://{tmp_path}/absent.socket")
            case _:
                monkeypatch.setattr(socket, "getaddrinfo", never_resolve)
                monkeypatch.setenv("DD_AGENT_HOST", "agent.invalid")
        metrics: Any = open_metrics("dev")
        stack.callback(metrics.close_socket)
        stack.callback(metrics.disable_background_sender, 1)
        stack.callback(released.set)
        began = time.monotonic()
        for _ in range(1000):
            metrics.increment("a.retry", tags=["cause:lock_timeout"])
            metrics.distribution("a.unit_of_work.seconds", 0.25, tags=["outcome:kept"])
            metrics.flush()
            assert time.monotonic() - began < 5


# A name server that is slow, and a process that ends before it has answered.
SHORT_LIVED = """
import socket, time
from registration_persistence.telemetry.datadog_metrics import open_metrics

resolve = socket.getaddrinfo

def resolve_slowly(host, *arguments, **named):
    time.sleep(0.3)
    return resolve("127.0.0.1", *arguments, **named)

socket.getaddrinfo = resolve_slowly
metrics = open_metrics("dev")
metrics.increment("a.retry", tags=["cause:lock_timeout"])
metrics.flush()
"""


def test_the_end_of_the_process_waits_for_the_last_packets() -> None:
    """The metrics that wait until the name of the agent is resolved are sent before the process ends."""
    with DogstatsdListener() as agent:
        environment = python_environment(DD_AGENT_HOST="agent.invalid", DD_DOGSTATSD_PORT=str(agent.port))
        subprocess.run([sys.executable, "-c", SHORT_LIVED], env=environment, check=True, timeout=60)

        assert [each.name for each in agent.received()] == ["a.retry"]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the package that is missing and the extra that installs it."""
    for package in ("ddtrace", "prometheus_client"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "registration_persistence.telemetry.prometheus", raising=False)

    with pytest.raises(ImportError, match=r"^ddtrace is missing: pip install 'registration-persistence\[datadog\]'$"):
        import registration_persistence.telemetry.datadog
    with pytest.raises(ImportError, match=r"^prometheus_client is missing: .*-persistence\[prometheus\]'$"):
        import registration_persistence.telemetry.prometheus  # noqa: F401 it raises
