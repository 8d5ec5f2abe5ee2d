"""`registration-persistence chaos`: a sound run, lost and duplicated sign-ups, wrong use, and signals."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from command_line import environment, one_line, run

from registration_persistence.sandbox.chaos import timeline as chaos_timeline
from registration_persistence.sandbox.chaos.evaluation import Phase, evaluate
from registration_persistence.sandbox.chaos.faults import FAULTS, NO_FAULT, FaultName
from registration_persistence.sandbox.chaos.load import Record, RequestOutcome
from registration_persistence.sandbox.chaos.report import Report

COMMAND = [sys.executable, "-m", "registration_persistence", "chaos"]
PHASES = [Phase("none", 100, 100, 110), Phase("restart", 110, 112, 120), Phase("<&>", 120, 121, 130)]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for temporary files of the command, which the user of the server can read."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def start(scratch: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the command with an environment that has only PATH and TMPDIR."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment({"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(scratch)}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def running(folder: Path) -> list[str]:
    """Return the command lines of the processes that have *folder* as TMPDIR or among their arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments, variables = ((process / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            continue
        if str(folder).encode() in arguments or f"TMPDIR={folder}".encode() in variables.split(b"\0"):
            found.append(arguments.replace(b"\0", b" ").decode())
    return found


def record(key: str, started_at: float, outcome: RequestOutcome = "ok", *, attempts: int = 1) -> Record:
    """Return a request that took half a second."""
    error = ("", "") if outcome == "ok" else ("ConnectionLost", "the server is gone")
    return Record(key, started_at, 0.5, outcome, attempts, *error)


def report(records: list[Record], *tables: dict[str, int]) -> Report:
    """Return the report of these requests, with *tables* that have this number of rows for each key."""
    *lines, total = evaluate(records, tables, PHASES)
    return Report(lines, total, {"dropped-packets": "it needs root"}, 30, 2, 7)


def test_a_run_loses_and_duplicates_nothing(scratch: Path) -> None:
    """With short faults, every acknowledged sign-up is stored once; JSON, progress and drawing agree."""
    names = ["rotation", "terminated", "read-only", "lost-replies"]
    drawing = scratch / "timeline.svg"

    with start(
        scratch, "--seconds=12", "--processes=2", f"--faults={','.join(names)}", "--json", f"--timeline={drawing}"
    ) as process:
        output, progress = process.communicate(timeout=60)

    assert process.returncode == 0, output + progress
    result = json.loads(output)
    assert ["none", *names] == [line["fault"] for line in result["faults"]]
    assert ["none", *names] == re.findall(r"^ *[\d.]+ s  ([\w-]+): ", progress, re.MULTILINE)
    assert result["sound"]
    assert [] == result["skipped"]
    assert (12, 2) == (result["seconds"], result["processes"])
    assert all(line["requests"] > 0 for line in result["faults"])
    for column in ("requests", "failed", "retried", "lost", "duplicated", "kept_despite_error"):
        assert sum(line[column] for line in result["faults"]) == result["total"][column]
    assert result["total"]["retried"] > 0
    assert sum(error["count"] for error in result["total"]["errors"]) == result["total"]["failed"]
    assert {*names} <= set(ET.fromstring(drawing.read_text()).itertext())  # noqa: S314 the command wrote it
    assert [drawing] == list(scratch.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(scratch: Path, number: signal.Signals) -> None:
    """A signal in the middle of a fault ends every process, removes every file and causes no traceback."""
    with start(scratch, "--seconds=4", "--processes=2", "--faults=frozen") as process:
        assert process.stderr
        assert any("frozen" in line for line in process.stderr)
        time.sleep(0.3)
        process.send_signal(number)
        output, progress = process.communicate(timeout=30)

    assert 128 + number == process.returncode
    assert "Traceback" not in progress
    assert output == ""
    assert [] == running(scratch)
    assert [] == list(scratch.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--faults=restart,fire,flood"], "unknown fault 'fire', 'flood': expected some of rotation,"),
        (["--faults=,"], "no fault is named: expected some of rotation,"),
        (["--faults=restart,restart"], "a fault is named twice"),
        (["--seconds=5", "--faults=restart,failover"], "5 seconds are too short for 2 faults"),
        (["--timeline=drawing.png"], "the timeline is drawing.png: expected a name that ends in .svg"),
        (["--timeline=nowhere/drawing.svg"], "nowhere/drawing.svg cannot be written: No such file or directory"),
        (["--timeline=folder.svg"], "folder.svg cannot be written: Is a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_line_before_anything_starts(tmp_path: Path, arguments: list[str], message: str) -> None:
    """Wrong arguments end the command at once, with exit code 2 and one line that names the expected values."""
    (tmp_path / "folder.svg").mkdir()

    error = one_line(run("chaos", *arguments, folder=tmp_path, code=2).stderr)

    assert error.startswith(f"registration-persistence: {message}")


@pytest.mark.parametrize("argument", ["--seconds=1", "--seconds=nan", "--processes=0", "--processes=17", "--seed=x"])
def test_wrong_numbers_are_wrong_use(argument: str) -> None:
    """A number out of range ends the command with exit code 2 and the usage."""
    assert f"error: argument {argument.partition('=')[0]}: " in run("chaos", argument, code=2).stderr


def test_an_unknown_fault_lists_the_known_faults() -> None:
    """The error for an unknown fault names every fault."""
    error = run("chaos", "--faults=fire", code=2).stderr

    assert error.rstrip().endswith(",".join(fault.name for fault in FAULTS))


def test_acknowledged_sign_ups_that_are_stored_once_are_sound() -> None:
    """A request counts in the phase in which it started; failed and unknown requests need not be stored."""
    found = report(
        [
            record("a", 99.9),
            record("b", 110, attempts=2),
            record("c", 119.9, "failed"),
            record("d", 120, "unknown"),
            record("e", 140, "unknown"),
        ],
        {"a": 1, "b": 1, "e": 1},
        {"a": 1, "b": 1, "e": 1},
    )

    assert [1, 2, 2] == [line.requests for line in found.lines]
    assert [0, 1, 2] == [line.failed for line in found.lines]
    assert [0, 1, 0] == [line.retried for line in found.lines]
    assert found.sound
    assert (
        found.verdict == "Nothing was lost or duplicated: 2 sign-ups were acknowledged and are stored once, 3 failed."
    )
    assert "restart: 1 x ConnectionLost: the server is gone" in found.text()
    assert re.search(r"^dropped-packets +skipped: it needs root$", found.text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("outcome", "first", "second", "column"),
    [
        ("ok", {}, {}, "lost"),
        ("ok", {"a": 1}, {}, "lost"),
        ("ok", {"a": 1}, {"a": 2}, "duplicated"),
        ("unknown", {"a": 1}, {"a": 2}, "duplicated"),
        ("failed", {"a": 1}, {}, "kept_despite_error"),
        ("failed", {}, {"a": 1}, "kept_despite_error"),
    ],
)
def test_wrong_rows_are_found(
    outcome: RequestOutcome, first: dict[str, int], second: dict[str, int], column: str
) -> None:
    """A lost, a duplicated and a denied row, in either table, count in their columns, and the run is not sound."""
    found = report([record("a", 115, outcome), record("b", 116)], {**first, "b": 1}, {**second, "b": 1})

    counted = found.as_json()["faults"][1]
    assert {name: counted[name] for name in ("lost", "duplicated", "kept_despite_error")} == {
        "lost": 0,
        "duplicated": 0,
        "kept_despite_error": 0,
        column: 1,
    }
    assert not found.sound
    assert not found.as_json()["sound"]
    assert "seed 7" in found.text().splitlines()[-1]


def test_a_run_without_an_acknowledged_sign_up_is_not_sound() -> None:
    """If no sign-up was acknowledged, none can be lost, so the run proves nothing."""
    assert not report([record("a", 115, "failed")], {}, {}).sound


def test_the_table_and_the_json_agree() -> None:
    """Each line of the table has the numbers of its fault in the JSON object."""
    found = report([record("a", 101), record("b", 111, "failed")], {"a": 1}, {"a": 1})

    for line in [*found.as_json()["faults"], found.as_json()["total"]]:
        row = re.search(rf"^{line['fault']} +(.*)$", found.text(), re.MULTILINE)
        assert row
        numbers = [line[name] for name in ("requests", "failed", "retried", "slowest", "lost", "duplicated")]
        assert [*numbers, line["kept_despite_error"]] == [float(number) for number in row[1].split()]


def test_the_timeline_stays_small() -> None:
    """The drawing of 100,000 requests has less than 500 kB, and shows every failed request."""
    records = [record(f"k{n}", 100 + n / 3334) for n in range(100_000)]
    records = [Record(each.key, each.started_at, 0.001 + n % 997 / 100, "ok") for n, each in enumerate(records)]

    drawing = chaos_timeline.draw([*records, record("a", 105, "failed"), record("b", 115, "failed")], PHASES, "<&>")

    assert len(drawing) < 500_000
    root = ET.fromstring(drawing)  # noqa: S314 the text of the line above
    assert {"none", "restart", "<&>"} <= set(root.itertext())
    *_, failed = root.iter("{http://www.w3.org/2000/svg}g")
    assert len(failed) == 2


def test_every_fault_name_has_one_fault() -> None:
    """The faults and the time without a fault have the names of `FaultName`, each once."""
    assert list(FaultName) == [NO_FAULT.name, *(fault.name for fault in FAULTS)]
