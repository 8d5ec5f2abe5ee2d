"""Measures this package beside its peers: `make bench`, or `make bench ONLY=cold` for one part.

Each part starts its own servers and measures its candidates alternately. The tables go to the standard output, and the
results to docs/performance/, with which docs/performance.md and its figures are generated again.
"""

import argparse
import runpy
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import expiry
import neutral_timing
import part_asyncio
import part_bulk
import part_cold
import part_outbox
import part_register
import part_rotation
import part_warm
import register_in_one_statement
from figures import draw_all
from measurements import Measurement, write_part

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "performance"

Results = tuple[list[Measurement], list[str]]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the benchmark.

    Args:
        measure: Measures with the sizes that the documentation shows.
        measure_smallest: Measures as little as possible, to check that the part works.
    """

    measure: Callable[[], Results]
    measure_smallest: Callable[[], Results]


PARTS: Mapping[str, Part] = {
    "cold": Part(
        lambda: part_cold.measure(9, with_counts=True),
        lambda: part_cold.measure(1, with_counts=False),
    ),
    "warm": Part(
        lambda: part_warm.measure(15, instruction_units=100),
        lambda: part_warm.measure(1, instruction_units=0),
    ),
    "register": Part(
        lambda: part_register.measure(15, instruction_units=100),
        lambda: part_register.measure(1, instruction_units=0),
    ),
    "rotation": Part(lambda: part_rotation.measure(7, units=200), lambda: part_rotation.measure(1, units=10)),
    "bulk": Part(lambda: part_bulk.measure(3, rows=100_000), lambda: part_bulk.measure(1, rows=200)),
    "outbox": Part(lambda: part_outbox.measure(5, messages=5000), lambda: part_outbox.measure(1, messages=200)),
    "asyncio": Part(lambda: part_asyncio.measure(7, units=5000), lambda: part_asyncio.measure(1, units=100)),
    "statements": Part(lambda: register_in_one_statement.measure(15), lambda: register_in_one_statement.measure(1)),
    "timing": Part(lambda: neutral_timing.measure(500), lambda: neutral_timing.measure(2)),
    "expiry": Part(lambda: expiry.measure(100_000), lambda: expiry.measure(100)),
}


def run_part(name: str, folder: Path, *, smallest: bool) -> None:
    """Measure a part, print its tables, and write its results to *folder*."""
    started = time.perf_counter()
    part = PARTS[name]
    measurements, servers = part.measure_smallest() if smallest else part.measure()
    print(f"\n== {name}, {time.perf_counter() - started:.0f} s")
    for measurement in sorted(measurements, key=lambda each: not each.exact):
        print(f"\n{measurement.as_text()}", flush=True)
    if measurements:
        write_part(folder, name, measurements, servers)


def main() -> int:
    """Run the parts."""
    parser = argparse.ArgumentParser(description="Measure this package beside its peers.")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure only this part; can be repeated")
    parser.add_argument(
        "--smallest", action="store_true", help="only check that the benchmark works: measure little, and keep nothing"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only or PARTS:
            run_part(name, Path(folder) if options.smallest else RESULTS, smallest=options.smallest)
    if not options.smallest:
        draw_all(RESULTS)
        runpy.run_path(str(ROOT / "docs" / "make_performance.py"), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
