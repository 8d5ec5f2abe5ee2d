"""The exact counts of this package that a test compares with recorded ones: `make record-counts` records them again.

No count is a time. The numbers of modules and of instructions depend on the version of Python and on the architecture.
"""

import json
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench_secrets import open_secrets
from bench_servers import Server, base_environment, binaries_with_tls, open_server
from instructions import instructions_per_unit
from part_cold import Candidate, cold_start, count_trips
from part_warm import calls_of_warm_units, trips_per_unit, unit_database

from registration_persistence.sandbox import embedded_binaries

FILE = Path(__file__).parents[1] / "tests" / "performance" / "recorded_counts.json"
WARM_UNITS = 1000
REGISTER_UNITS = 40
_UNITS = {
    "transaction of 1 statement": ("package_session", 1),
    "transaction of 3 statements": ("package_session", 3),
    "one statement in autocommit": ("package_session_autocommit", 1),
    "look-up": ("package_look_up", 1),
    "register": ("package_register", 1),
}

Counts = dict[str, float]


def this_python() -> str:
    """Return the version of Python and the architecture on which the modules and the instructions depend."""
    return f"{sys.version_info.major}.{sys.version_info.minor} {platform.machine()}"


def cold_counts() -> Counts:
    """Return the round trips and the calls to Secrets Manager of a cold start, on each PostgreSQL that is here."""
    counts: Counts = {}
    with open_secrets() as secrets, _servers() as servers:
        for server in servers:
            trips, calls = count_trips(server, secrets, Candidate("package"))
            counts[f"round trips of a cold start, {server.title}"] = trips
            counts[f"calls to Secrets Manager of a cold start, {server.title}"] = calls
    return counts


def warm_counts() -> Counts:
    """Return the round trips of units on an open connection, and the calls to Secrets Manager of 1000 units."""
    with unit_database() as (_, options):
        counts = {
            f"round trips, {title}": trips_per_unit(kind, {**options, "statements": statements})
            for title, (kind, statements) in _UNITS.items()
        }
    return {**counts, f"calls to Secrets Manager of {WARM_UNITS} warm units": calls_of_warm_units(WARM_UNITS)}


def modules_at_import() -> int:
    """Return the number of modules that `import registration_persistence` loads, the interpreter's included."""
    with cold_start("package_import", base_environment()) as start:
        return start.modules


def instructions_per_register() -> float:
    """Return the number of instructions of one `register` on an open connection."""
    with unit_database() as (_, options):
        return round(instructions_per_unit(["package_register"], options, REGISTER_UNITS)["package_register"])


@contextmanager
def _servers() -> Iterator[list[Server]]:
    with ExitStack() as stack:
        encrypted = [stack.enter_context(open_server(folder)) for folder in binaries_with_tls()]
        yield [*encrypted, stack.enter_context(open_server(embedded_binaries(), encrypted=False))]


def read_recorded() -> dict[str, Any]:
    """Return the recorded counts."""
    recorded: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return recorded


def main() -> None:
    """Record the counts; those of other servers and of other versions of Python stay."""
    recorded = read_recorded() if FILE.exists() else {"counts": {}, "by_python": {}}
    recorded["counts"] |= cold_counts() | warm_counts()
    recorded["by_python"][this_python()] = {
        "modules at import": modules_at_import(),
        "instructions per register": instructions_per_register(),
    }
    FILE.write_text(json.dumps(recorded, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(FILE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
