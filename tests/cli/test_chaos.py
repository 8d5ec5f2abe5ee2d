"""`registration-persistence chaos`: what it finds when all is well, what it must find when it is not."""

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
from command_line import one_line, run

from registration_persistence.sandbox.chaos import timeline as chaos_timeline
from registration_persistence.sandbox.chaos.faults import FAULTS
from registration_persistence.sandbox.chaos.load import Outcome, Record
from registration_persistence.sandbox.chaos.report import Phase, Report, evaluate

COMMAND = [sys.executable, "-m", "registration_persistence", "chaos"]
PHASES = [Phase("none", 100, 100, 110), Phase("restart", 110, 112, 120), Phase("<&>", 120, 121, 130)]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for what the command makes for the time being, which the user that runs the server can enter."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def start(scratch: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the command with nothing in its environment but where its files go."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env={"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def running(folder: Path) -> list[str]:
    """The command lines of the processes that have *folder* as their place for temporary files, or name it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments, environment = ((process / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            continue
        if str(folder).encode() in arguments or f"TMPDIR={folder}".encode() in environment.split(b"\0"):
            found.append(arguments.replace(b"\0", b" ").decode())
    return found


def record(key: str, began: float, outcome: Outcome = "ok", *, attempts: int = 1) -> Record:
    """A request that took half a second."""
    failed = ("", "") if outcome == "ok" else ("ConnectionLost", "the server is gone")
    return Record(key, began, 0.5, outcome, attempts, *failed)


def report(records: list[Record], *tables: dict[str, int]) -> Report:
    """What the command makes of these requests, and of tables with so many rows for each key."""
    *lines, total = evaluate(records, tables, PHASES)
    return Report(lines, total, {"dropped-packets": "it needs root"}, 30, 2, 7)


def test_a_run_loses_and_doubles_nothing(scratch: Path) -> None:
    """With quick faults every sign-up that was acknowledged is there once; JSON, errors and drawing tell the same."""
    names = ["rotation", "terminated", "read-only", "lost-replies"]
    drawing = scratch / "timeline.svg"

    with start(
        scratch, "--seconds=12", "--processes=2", f"--faults={','.join(names)}", "--json", f"--timeline={drawing}"
    ) as process:
        printed, said = process.communicate(timeout=60)

    assert process.returncode == 0, printed + said
    found = json.loads(printed)
    assert ["none", *names] == [line["fault"] for line in found["faults"]]
    assert ["none", *names] == re.findall(r"^ *[\d.]+ s  ([\w-]+): ", said, re.MULTILINE)
    assert found["sound"]
    assert [] == found["left_out"]
    assert (12, 2) == (found["seconds"], found["processes"])
    assert all(line["requests"] > 0 for line in found["faults"])
    for column in ("requests", "failed", "retried", "lost", "doubled", "unacknowledged"):
        assert sum(line[column] for line in found["faults"]) == found["total"][column]
    assert found["total"]["retried"] > 0
    assert sum(error["count"] for error in found["total"]["errors"]) == found["total"]["failed"]
    assert {*names} <= set(ET.fromstring(drawing.read_text()).itertext())  # noqa: S314 our own file
    assert [drawing] == list(scratch.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(scratch: Path, number: signal.Signals) -> None:
    """Stopped in the middle of a fault, the command ends everything, leaves no file and prints no traceback."""
    with start(scratch, "--seconds=4", "--processes=2", "--faults=frozen") as process:
        assert process.stderr
        assert any("frozen" in line for line in process.stderr)
        time.sleep(0.3)
        process.send_signal(number)
        printed, said = process.communicate(timeout=30)

    assert 128 + number == process.returncode
    assert "Traceback" not in said
    assert printed == ""
    assert [] == running(scratch)
    assert [] == list(scratch.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--faults=restart,fire,flood"], "there is no fault 'fire', 'flood': expected some of rotation,"),
        (["--faults=,"], "no fault is named: expected some of rotation,"),
        (["--faults=restart,restart"], "a fault is named twice"),
        (["--seconds=5", "--faults=restart,failover"], "5 seconds are too few for 2 faults"),
        (["--timeline=drawing.png"], "drawing.png is no name for a timeline: expected one that ends in .svg"),
        (["--timeline=nowhere/drawing.svg"], "nowhere/drawing.svg cannot be written: No such file or directory"),
        (["--timeline=folder.svg"], "folder.svg cannot be written: Is a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_line_before_anything_starts(tmp_path: Path, arguments: list[str], said: str) -> None:
    """What cannot be done ends with 2 and one line that says what was expected, at once."""
    (tmp_path / "folder.svg").mkdir()

    complaint = one_line(run("chaos", *arguments, folder=tmp_path, code=2).stderr)

    assert complaint.startswith(f"registration-persistence: {said}")


@pytest.mark.parametrize("argument", ["--seconds=1", "--seconds=nan", "--processes=0", "--processes=17", "--seed=x"])
def test_wrong_numbers_are_wrong_use(argument: str) -> None:
    """A number out of bounds ends with 2 and the usage."""
    assert f"error: argument {argument.partition('=')[0]}: " in run("chaos", argument, code=2).stderr


def test_every_fault_that_is_unknown_gets_a_list_of_those_that_are_known() -> None:
    """The complaint about an unknown fault names each one that there is."""
    complaint = run("chaos", "--faults=fire", code=2).stderr

    assert complaint.rstrip().endswith(",".join(fault.name for fault in FAULTS))


def test_what_was_acknowledged_and_is_there_once_is_sound() -> None:
    """Requests count where they began, and those that failed for certain or without an answer may not be there."""
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
    assert found.verdict == "Nothing was lost or doubled: 2 sign-ups were acknowledged and are there once, 3 failed."
    assert "restart: 1 x ConnectionLost: the server is gone" in found.text()
    assert re.search(r"^dropped-packets +left out: it needs root$", found.text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("outcome", "first", "second", "column"),
    [
        ("ok", {}, {}, "lost"),
        ("ok", {"a": 1}, {}, "lost"),
        ("ok", {"a": 1}, {"a": 2}, "doubled"),
        ("unknown", {"a": 1}, {"a": 2}, "doubled"),
        ("failed", {"a": 1}, {}, "unacknowledged"),
        ("failed", {}, {"a": 1}, "unacknowledged"),
    ],
)
def test_a_row_that_should_not_be_or_is_not_there_is_found(
    outcome: Outcome, first: dict[str, int], second: dict[str, int], column: str
) -> None:
    """A lost, a doubled and an unacknowledged row, in either table, each count in their column and spoil the run."""
    found = report([record("a", 115, outcome), record("b", 116)], {**first, "b": 1}, {**second, "b": 1})

    counted = found.as_json()["faults"][1]
    assert {name: counted[name] for name in ("lost", "doubled", "unacknowledged")} == {
        "lost": 0,
        "doubled": 0,
        "unacknowledged": 0,
        column: 1,
    }
    assert not found.sound
    assert not found.as_json()["sound"]
    assert "seed 7" in found.text().splitlines()[-1]


def test_a_run_without_an_answer_shows_nothing() -> None:
    """Where nothing was acknowledged nothing can be lost, and the run does not count as sound."""
    assert not report([record("a", 115, "failed")], {}, {}).sound


def test_the_table_and_the_json_say_the_same() -> None:
    """Each line of the table has the numbers of its fault in the JSON object."""
    found = report([record("a", 101), record("b", 111, "failed")], {"a": 1}, {"a": 1})

    for line in [*found.as_json()["faults"], found.as_json()["total"]]:
        shown = re.search(rf"^{line['fault']} +(.*)$", found.text(), re.MULTILINE)
        assert shown
        numbers = [line[name] for name in ("requests", "failed", "retried", "slowest", "lost", "doubled")]
        assert [*numbers, line["unacknowledged"]] == [float(number) for number in shown[1].split()]


def test_the_timeline_stays_small() -> None:
    """A hundred thousand requests are a drawing of less than 500 kB, in which those that failed are all shown."""
    records = [record(f"k{n}", 100 + n / 3334) for n in range(100_000)]
    records = [Record(each.key, each.began, 0.001 + n % 997 / 100, "ok") for n, each in enumerate(records)]

    drawing = chaos_timeline.draw([*records, record("a", 105, "failed"), record("b", 115, "failed")], PHASES, "<&>")

    assert len(drawing) < 500_000
    root = ET.fromstring(drawing)  # noqa: S314 our own text
    assert {"none", "restart", "<&>"} <= set(root.itertext())
    *_, failed = root.iter("{http://www.w3.org/2000/svg}g")
    assert len(failed) == 2
