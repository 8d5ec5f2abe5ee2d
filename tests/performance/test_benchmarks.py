"""Every part of the benchmark works, and docs/performance.md shows the results of the last run."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.nightly
def test_every_part_works_with_the_smallest_sizes() -> None:
    """Each part prints its tables, without the candidates that are not installed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/bench.py"), "--smallest"],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"},
    )

    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("cold", "warm", "register", "rotation", "bulk", "outbox", "asyncio", "statements", "timing", "expiry"):
        assert f"\n== {part}, " in done.stdout


def test_the_page_about_the_performance_is_up_to_date() -> None:
    """The goals and tables of docs/performance.md are those of the JSON files, and each figure is there."""
    page = runpy.run_path(str(ROOT / "docs/make_performance.py"))

    assert page["text"]() == page["PAGE"].read_text(encoding="utf-8")
    assert {file.stem for file in page["FOLDER"].glob("*.svg")} <= {file.stem for file in page["FOLDER"].glob("*.json")}
