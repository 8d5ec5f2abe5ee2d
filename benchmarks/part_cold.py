"""Part `cold`: from the start of a process to the first result of a query."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bench_secrets import Secrets, open_secrets
from bench_servers import Server, base_environment, binaries_with_tls, newest_binaries, open_server
from instructions import count_instructions
from measurements import Measurement, skip

from registration_persistence.testing import RoundTripCounter

PROGRAM = Path(__file__).with_name("cold_clients.py")
DATABASE_LATENCY_SECONDS = 0.001
BASE = "boto3 + SQLAlchemy ORM"
PACKAGE, EXTENSION, DIRECT = "this package", "this package, extension", "this package, extension, direct TLS"
SESSION, EXTENSION_SESSION = "this package, ORM session", "this package, extension, ORM session"
GROUPS = "this package, extension, P-256 first"
_DIRECT_TLS_VERSION = 17
# valgrind makes a process fifty times as slow, and a deadline that is far away costs no instruction.
_PATIENCE = {"APP_DATABASE_CONNECT_TIMEOUT": "300"}

Result = dict[str, float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A client of `cold_clients.py`, and the variables that select its way."""

    client: str
    extension: bool = False
    variables: tuple[tuple[str, str], ...] = ()

    def environment(self, secrets: Secrets) -> dict[str, str]:
        """Return the variables of this candidate."""
        is_ours = self.client.startswith("package")
        environment = secrets.environment_of_package if is_ours else secrets.environment
        return {**environment, **(secrets.extension.environment if self.extension else {}), **dict(self.variables)}


@dataclass(frozen=True, slots=True)
class ColdStart:
    """The result of one process."""

    seconds: float
    processor_seconds: float
    modules: int


def candidates(version: int) -> dict[str, Candidate]:
    """Return the candidates that are installed and have the settings, for a server of *version*."""
    groups = (("APP_DATABASE_TLS_GROUPS", "P-256:X25519"),)
    found = {
        PACKAGE: Candidate("package"),
        SESSION: Candidate("package_session"),
        EXTENSION: Candidate("package", extension=True),
        EXTENSION_SESSION: Candidate("package_session", extension=True),
        GROUPS: Candidate("package", extension=True, variables=groups),
    }
    if version >= _DIRECT_TLS_VERSION:
        direct = (("APP_DATABASE_SSL_NEGOTIATION", "direct"),)
        found[DIRECT] = Candidate("package", extension=True, variables=direct)
    found |= {
        BASE: Candidate("naive"),
        "boto3 + SQLAlchemy Core": Candidate("naive_core"),
        "aws-secretsmanager-caching + SQLAlchemy ORM": Candidate("naive_cache"),
    }
    if find_spec("aws_advanced_python_wrapper"):
        found["AWS wrapper + SQLAlchemy ORM"] = Candidate("wrapper")
    else:
        skip("aws-advanced-python-wrapper: it is not installed")
    found["psycopg, password given"] = Candidate("raw")
    return found


@contextmanager
def cold_start(client: str, environment: Mapping[str, str]) -> Iterator[ColdStart]:
    """Start a process, and yield its result while its connection is open."""
    started = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 our own program
        [sys.executable, str(PROGRAM), client],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - started
        if not line:
            raise RuntimeError(f"the cold start of {client} failed")
        counted = json.loads(line)
        yield ColdStart(seconds, counted["cpu"], counted["modules"])


def count_trips(server: Server, secrets: Secrets, candidate: Candidate) -> tuple[int, int]:
    """Return the round trips to the database, TCP's own included, and the calls to Secrets Manager."""
    with RoundTripCounter("127.0.0.1", server.server.port) as proxy:
        environment = _environment(server, secrets, candidate, proxy.port)
        calls = secrets.manager.calls.total()
        with cold_start(candidate.client, environment):
            return proxy.round_trips() + proxy.connections, secrets.manager.calls.total() - calls


def measure(runs: int, *, with_counts: bool) -> tuple[list[Measurement], list[str]]:
    """Return the measurements, and the versions of the servers."""
    measurements: list[Measurement] = []
    with ExitStack() as stack:
        secrets = stack.enter_context(open_secrets())
        newest, encrypted = newest_binaries()
        folders = binaries_with_tls() or [newest]
        servers = [stack.enter_context(open_server(folder, encrypted=encrypted)) for folder in folders]
        if with_counts:
            for server in servers:
                measurements += _counts(server, secrets)
            measurements.append(_instructions(servers[-1], secrets))
        measurements += _times(servers[-1], secrets, runs)
    return measurements, [server.title for server in servers]


def _environment(server: Server, secrets: Secrets, candidate: Candidate, port: int) -> dict[str, str]:
    return {
        **base_environment(),
        **server.variables(port),
        **secrets.secret_of(server),
        **candidate.environment(secrets),
    }


def _counts(server: Server, secrets: Secrets) -> list[Measurement]:
    trips = Measurement(
        f"round_trips_{server.version}", f"Round trips to the first result, {server.title}", "round trips", exact=True
    )
    calls = Measurement(f"api_calls_{server.version}", f"Calls to Secrets Manager, {server.title}", "calls", exact=True)
    for name, candidate in candidates(server.version).items():
        counted = count_trips(server, secrets, candidate)
        trips.add(name, counted[0])
        calls.add(name, counted[1])
    return [trips, calls]


def _instructions(server: Server, secrets: Secrets) -> Measurement:
    """Count the instructions after the start of the interpreter, two processes at a time."""
    measurement = Measurement(
        "instructions", "Instructions to the first result", "million instructions", exact=True, base=BASE
    )
    found = candidates(server.version)

    def count(candidate: Candidate) -> int:
        environment = _environment(server, secrets, candidate, server.server.port)
        return count_instructions([str(PROGRAM), candidate.client], {**environment, **_PATIENCE})

    with ThreadPoolExecutor(2) as both:
        nothing, *counts = both.map(count, [Candidate("nothing"), *found.values()])
    for name, counted in zip(found, counts, strict=True):
        measurement.add(name, (counted - nothing) / 1e6)
    return measurement


def _times(server: Server, secrets: Secrets, runs: int) -> list[Measurement]:
    """Measure the times, the candidates in turn; the first of several rounds is not counted."""
    quantities: dict[str, tuple[Measurement, Callable[[ColdStart], float]]] = {
        "modules": (
            Measurement("modules", "Modules loaded", "modules", exact=True, base=BASE),
            lambda start: start.modules,
        ),
        "processor": (
            Measurement("processor", "Processor time to the first result", "ms", exact=False, base=BASE),
            lambda start: start.processor_seconds * 1000,
        ),
        "wall": (
            Measurement("wall", "Time to the first result at 1 ms to the database", "ms", exact=False, base=BASE),
            lambda start: start.seconds * 1000,
        ),
    }
    with RoundTripCounter("127.0.0.1", server.server.port, latency=DATABASE_LATENCY_SECONDS) as proxy:
        environments = {
            name: (candidate.client, _environment(server, secrets, candidate, proxy.port))
            for name, candidate in candidates(server.version).items()
        }
        for number in range(1 if runs == 1 else 0, runs + 1):
            for name, (client, environment) in environments.items():
                with cold_start(client, environment) as start:
                    if number:
                        for measurement, value in quantities.values():
                            measurement.add(name, value(start))
    return [measurement for measurement, _ in quantities.values()]
