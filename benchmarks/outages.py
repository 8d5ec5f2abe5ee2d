"""Measures the longest outage that a client sees in four faults: this package, AWS's wrapper, and plain psycopg.

The faults are real, on servers of this machine: the writer crashes and another server replaces it after 3 s; the writer
becomes read-only, another server is the writer, and the endpoint follows after 1 s; Secrets Manager answers 503 for 6 s
while processes start; 20 processes share 8 connection slots. Every contender meets every fault in one run. AWS's
Advanced Python Wrapper gets stand-ins for Aurora's functions, and goes to the instances directly, as in Aurora.

Run it with `make outages`, or `make outages ARGS=failover` for some of the faults: `failover`, `demotion`, `secrets`,
`crowd`.
"""

import argparse
import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from registration_persistence.sandbox import LocalCluster, LocalSecretsManager, TcpProxy

CLIENTS = Path(__file__).with_name("outage_clients.py")
PACKAGE, AWS, PLAIN = "package", "wrapper", "psycopg"

FAILOVER_SECONDS, MOVE_SECONDS, OUTAGE_SECONDS = 3.0, 1.0, 6.0
PROCESSES, SLOTS = 20, 8
_WRITERS = 4  # processes that write during a failover
_SETTLE_SECONDS = 1.0

# Aurora's functions. Each server knows the other one: the writer is the server that accepts writes.
_AURORA_FUNCTIONS = """
CREATE TABLE outage_rows (key text PRIMARY KEY);
GRANT INSERT, SELECT ON outage_rows TO app;
CREATE FUNCTION pg_catalog.aurora_db_instance_identifier() RETURNS text LANGUAGE sql STABLE AS
  $$ SELECT CASE current_setting('port') WHEN '{port}' THEN '11' ELSE '12' END $$;
CREATE FUNCTION pg_catalog.aurora_replica_status() RETURNS TABLE
  (server_id text, session_id text, cpu double precision, replica_lag_in_msec double precision,
   last_update_timestamp timestamptz) LANGUAGE sql STABLE AS
  $$ SELECT id, CASE WHEN (id = pg_catalog.aurora_db_instance_identifier()) =
       (NOT pg_is_in_recovery() AND
        (SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_read_only') = 'off')
       THEN 'MASTER_SESSION_ID' ELSE id END, 1.0, 0.0, now() FROM unnest(ARRAY['11', '12']) AS id $$;
"""


class Instance(TcpProxy):
    """The address of one instance, on the port of the endpoint, as in Aurora."""

    def __init__(self, address: str, port: int, server_port: int) -> None:
        super().__init__("127.0.0.1", server_port)
        self._listener.close()
        self._address, self.port = address, port
        self._listener = socket.create_server((address, port))

    def resume_accepting(self) -> None:
        """Accept new connections again."""
        if self._acceptor is None:
            self._listener = socket.create_server((self._address, self.port))
            self._accept_from(self._listener)


@dataclass
class Scene:
    """The servers of one measurement."""

    cluster: LocalCluster
    instances: list[Instance]
    manager: LocalSecretsManager


@dataclass
class Result:
    """The measurement of one contender in one fault."""

    seconds: float
    units: int
    failed: int
    connections: int
    calls: int
    error: str = ""


@contextmanager
def scene(manager: LocalSecretsManager, *, standby: bool) -> Iterator[Scene]:
    """Start a cluster with the table, the login and the functions of Aurora."""
    with ExitStack() as stack:
        cluster = stack.enter_context(LocalCluster())
        cluster.primary.server.create_login("app", "secret")
        with cluster.primary.server.connect() as connection:
            connection.execute(_AURORA_FUNCTIONS.format(port=cluster.primary.server.port).encode())
        instances: list[Instance] = []
        if standby:
            servers = [cluster.primary, cluster.add_standby()]
            for address, server in zip(("127.0.0.11", "127.0.0.12"), servers, strict=True):
                instances.append(stack.enter_context(Instance(address, cluster.endpoint.port, server.server.port)))
        yield Scene(cluster, instances, manager)


def failover(here: Scene) -> None:
    """Crash the writer; 3 s later another server is the writer, at its own address and at the endpoint."""
    for instance in here.instances:
        instance.stop_accepting()
    here.cluster.fail_over(switch_after=FAILOVER_SECONDS)
    here.instances[0].cut()
    here.instances[1].resume_accepting()


def demotion(here: Scene) -> None:
    """Make the writer read-only and another server the writer at once; 1 s later the endpoint leads to it."""
    standby = here.cluster.add_standby()
    started = time.monotonic()
    here.cluster.primary.configure(default_transaction_read_only="on", synchronous_standby_names="")
    standby.promote()
    time.sleep(max(started + MOVE_SECONDS - time.monotonic(), 0))
    here.cluster.endpoint.retarget(standby.server.host, standby.server.port)


def secrets(here: Scene) -> None:
    """Let Secrets Manager answer 503 for 6 s."""
    with here.manager.outage("down"):
        time.sleep(OUTAGE_SECONDS)


def crowd(here: Scene) -> None:
    """Do nothing: the fault is the number of processes."""


@dataclass(frozen=True)
class Fault:
    """A fault, its clients and the limit of this package."""

    happen: Callable[[Scene], None]
    title: str
    limit: Callable[[Mapping[str, Result]], float]
    rule: str
    options: Mapping[str, Any]
    processes: int = 1
    standby: bool = False


def _share_of_wrapper(factor: float) -> Callable[[Mapping[str, Result]], float]:
    return lambda results: factor * results[AWS].seconds if AWS in results else math.inf


FAULTS = {
    "failover": Fault(
        failover,
        f"failover of {FAILOVER_SECONDS:g} s",
        _share_of_wrapper(1.03),
        "1.03 x the wrapper",
        {"seconds": 8, "instances": True},
        _WRITERS,
        standby=True,
    ),
    "demotion": Fault(
        demotion,
        f"demoted writer, endpoint moves after {MOVE_SECONDS:g} s",
        _share_of_wrapper(2),
        "2 x the wrapper",
        {"seconds": 5, "instances": True},
        _WRITERS,
        standby=True,
    ),
    "secrets": Fault(
        secrets,
        f"Secrets Manager down for {OUTAGE_SECONDS:g} s, cold starts",
        lambda _results: OUTAGE_SECONDS + 0.4,
        "down + 0.4 s",
        {"seconds": 9, "cold": True, "arn": True},
        2,
    ),
    "crowd": Fault(
        crowd,
        f"{PROCESSES} processes on {SLOTS} slots",
        lambda _results: 3.2,
        "3.2 s",
        {"seconds": 30, "units": 1, "waits": True},
        PROCESSES,
    ),
}


def measure(fault: Fault, contender: str, manager: LocalSecretsManager) -> Result:
    """Let *contender* meet *fault*, and return the longest outage of its processes."""
    with scene(manager, standby=fault.standby) as here:
        options = dict(fault.options) | {"host": "127.0.0.1", "port": here.cluster.endpoint.port}
        options |= {"user": "app", "password": "secret"}
        if "arn" in options:
            options["arn"] = manager.create(f"outage-{contender}", {"username": "app", "password": "secret"})
        if fault.happen is crowd:
            with here.cluster.primary.server.connect() as connection:
                connection.execute(f"ALTER DATABASE postgres CONNECTION LIMIT {SLOTS}")
                connection.execute("ALTER ROLE app SET idle_session_timeout = '1s'")
        processes = [_start(contender, {**options, "prefix": str(n)}) for n in range(fault.processes)]
        try:
            for process in processes:
                _expect_ready(process)
            connections, calls = here.cluster.endpoint.connections, manager.calls.total()
            for process in processes:
                _tell(process)
            time.sleep(_SETTLE_SECONDS if fault.happen is not crowd else 0)
            began = time.monotonic()
            fault.happen(here)
            answers = [json.loads(_line_of(process)) for process in processes]
            attempts, asked = here.cluster.endpoint.connections - connections, manager.calls.total() - calls
        finally:
            for process in processes:
                process.kill()
                process.wait()
    return Result(
        max(_longest_gap(answer["stored"], began) for answer in answers),
        sum(answer["units"] for answer in answers),
        sum(answer["failed"] for answer in answers),
        attempts,
        asked,
        "; ".join({answer["error"] for answer in answers} - {""}),
    )


def _start(contender: str, options: dict[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 our own program
        [sys.executable, str(CLIENTS), contender, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _expect_ready(process: subprocess.Popen[str]) -> None:
    if _line_of(process) != "ready\n":
        raise SystemExit("a client did not start: run benchmarks/outage_clients.py to see its error")


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _longest_gap(stored: list[float], began: float) -> float:
    """Return the longest time without a stored row in seconds, of the time since the fault *began*."""
    gaps = [after - max(before, began) for before, after in pairwise(stored) if after > began]
    return max(gaps, default=math.inf)


def report(fault: Fault, results: Mapping[str, Result]) -> bool:
    """Print the lines of *fault*; return whether the limit holds."""
    limit = fault.limit(results)
    holds = results[PACKAGE].seconds <= limit
    for name in (PACKAGE, AWS, PLAIN):
        if name not in results:
            print(f"{fault.title if name == PACKAGE else '':46} {name:8}  missing")
            continue
        result = results[name]
        failed = f"{100 * result.failed / result.units:.0f} %" if result.failed else "0"
        verdict = f"{'holds' if holds else 'EXCEEDED'}: {fault.rule} = {limit:.2f} s" if name == PACKAGE else ""
        print(
            f"{fault.title if name == PACKAGE else '':46} {name:8} {result.seconds:8.2f} {failed:>7} "
            f"{result.connections:12} {result.calls:6}  {verdict}"
        )
    return holds


def main() -> int:
    """Print one table; return 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description="Measure the longest outage that a client sees.")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"{', '.join(FAULTS)}; all by default")
    options = parser.parse_args()
    if unknown := set(options.faults) - set(FAULTS):
        parser.error(f"unknown fault {min(unknown)!r}: expected {', '.join(FAULTS)}")
    contenders = [PACKAGE, AWS, PLAIN]
    if not find_spec("aws_advanced_python_wrapper"):
        contenders.remove(AWS)
    held = []
    with LocalSecretsManager() as manager:
        os.environ.update(manager.environment)
        print(f"{'':46} {'client':8} {'longest':>8} {'failed':>7} {'connections':>12} {'calls':>6}")
        for name in options.faults or FAULTS:
            fault = FAULTS[name]
            results = {contender: measure(fault, contender, manager) for contender in contenders}
            held.append(report(fault, results))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
