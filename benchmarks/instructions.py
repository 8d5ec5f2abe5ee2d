"""Counts the instructions of a process with valgrind.

The counts of two runs differ by less than 1 %, also on a busy machine, because the scheduler and the caches have no
influence on them. Hash seeds are fixed.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_servers import base_environment

_REFERENCES = re.compile(r"I +refs: +([\d,]+)")
UNIT_CLIENTS = Path(__file__).with_name("unit_clients.py")
_TIMEOUT_SECONDS = 900
_VALGRIND = ("--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")


class ValgrindMissing(RuntimeError):
    """valgrind is not installed, or does not work here."""


def count_instructions(program: Sequence[str], environment: Mapping[str, str]) -> int:
    """Return the number of instructions of *program*, a file of Python and its arguments.

    Args:
        program: The file and its arguments.
        environment: More environment variables of the process.

    Raises:
        ValgrindMissing: valgrind is not installed.
        RuntimeError: The program failed; the message has its output.
    """
    return _counts_of(program, environment)[-1]


def instructions_per_unit(kinds: Sequence[str], options: Mapping[str, Any], units: int) -> dict[str, float]:
    """Return the instructions of one unit of each kind: the difference of many units and few, divided by their number.

    Args:
        kinds: The kinds, which `unit_clients.py` defines.
        options: The options of the kinds.
        units: The smaller number of units, which is also the difference.
    """
    counts = _counts_of([str(UNIT_CLIENTS), json.dumps(list(kinds)), json.dumps(options), str(units)], {})
    # Three counts for each kind, of one, few and many units, and at last that of the process that imported everything.
    pairs = zip(counts[1:-1:3], counts[2:-1:3], strict=True)
    return {kind: (many - few) / units for kind, (few, many) in zip(kinds, pairs, strict=True)}


def _counts_of(program: Sequence[str], environment: Mapping[str, str]) -> list[int]:
    """Return the numbers of instructions of *program* and of the processes that it forks, in the order of their end."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise ValgrindMissing("valgrind is not installed: install the package valgrind")
    done = subprocess.run(  # noqa: S603 our own programs
        [valgrind, *_VALGRIND, sys.executable, *program],
        env={**base_environment(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
    counts = [int(count.replace(",", "")) for count in _REFERENCES.findall(done.stderr)]
    if done.returncode or not counts:
        raise RuntimeError(f"{' '.join(program)} failed under valgrind:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
    return counts
