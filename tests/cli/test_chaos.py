"""`registration-persistence chaos`: a sound run, lost and duplicated sign-ups, wrong use, and signals."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from command_line import COMMAND, environment, one_line, run, run_each

from registration_persistence.sandbox.chaos import recording as recordings
from registration_persistence.sandbox.chaos import timeline as chaos_timeline
from registration_persistence.sandbox.chaos.evaluation import Outage, Phase, evaluate, longest_outages
from registration_persistence.sandbox.chaos.faults import FAULTS, NO_FAULT, FaultName, selected_faults
from registration_persistence.sandbox.chaos.load import REQUEST_TIMEOUT_SECONDS, Record, RequestOutcome
from registration_persistence.sandbox.chaos.report import Report
from registration_persistence.sandbox.chaos.run import planned_durations
from registration_persistence.sandbox.chaos.timeline_scale import Recording, thinned

SVG = "{http://www.w3.org/2000/svg}"
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
        [*COMMAND, "chaos", *arguments],
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
    return Report(lines, total, PHASES, {"dropped-packets": "it needs root"}, 30, 2, 7)


def recording(records: list[Record]) -> Recording:
    """Return the recording of these requests."""
    return Recording(records, PHASES, longest_outages(records, PHASES), "<&>")


def bars(drawing: ET.Element, kind: str) -> list[tuple[float, float, float]]:
    """Return start, height and length of the lines of one kind of request."""
    (path,) = (each for each in drawing.iter(f"{SVG}path") if each.get("class") == kind and not _is_legend(each))
    found = re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)", path.attrib["d"])
    return [(float(x), float(y), float(length)) for x, y, length in found]


def _is_legend(path: ET.Element) -> bool:
    return path.attrib["d"].endswith("h18")


def test_a_run_loses_and_duplicates_nothing(scratch: Path) -> None:
    """With short faults, every acknowledged sign-up is stored once; JSON, progress and drawing agree."""
    names = ["rotation", "terminated", "read-only", "lost-replies"]
    drawing = scratch / "timeline.svg"

    with start(
        scratch,
        "--seconds=14",
        "--processes=2",
        "--rotation-window=2",
        f"--faults={','.join(names)}",
        "--json",
        f"--timeline={drawing}",
    ) as process:
        output, progress = process.communicate(timeout=60)

    assert process.returncode == 0, output + progress
    result = json.loads(output)
    assert ["none", *names] == [line["fault"] for line in result["faults"]]
    assert ["none", *names] == re.findall(r"^ *[\d.]+ s  ([\w-]+): ", progress, re.MULTILINE)
    assert result["sound"]
    assert [] == result["skipped"]
    assert (14, 2) == (result["seconds"], result["processes"])
    assert all(line["requests"] > 0 for line in result["faults"])
    for column in ("requests", "failed", "retried", "lost", "duplicated", "kept_despite_error"):
        assert sum(line[column] for line in result["faults"]) == result["total"][column]
    assert result["total"]["retried"] > 0
    assert sum(error["count"] for error in result["total"]["errors"]) == result["total"]["failed"]
    assert {*names} <= set(ET.fromstring(drawing.read_text()).itertext())  # noqa: S314 the command wrote it
    assert [drawing] == list(scratch.iterdir())
    assert result["verdict"].startswith("Nothing was lost or duplicated: ")
    moments = [line[name] for line in result["faults"] for name in ("started_at", "fault_ended_at", "ended_at")]
    assert moments == sorted(moments)
    assert 0 == moments[0]
    rotation = result["faults"][1]
    assert 2 <= rotation["fault_ended_at"] - rotation["started_at"] < 5
    outages = [line["longest_outage"] for line in result["faults"]]
    assert max(outages) == result["total"]["longest_outage"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)])
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


WRONG_USE = [
    (["--faults=restart,fire,flood"], "unknown fault 'fire', 'flood': expected some of rotation,"),
    (["--faults=,"], "no fault is named: expected some of rotation,"),
    (["--faults=restart,restart"], "a fault is named twice"),
    (["--seconds=5", "--faults=restart,failover"], "5 seconds are too short for 2 faults"),
    (["--seconds=14.9", "--faults=rotation"], "14.9 seconds are too short for 1 fault and a time without a fault"),
    (["--record=nowhere/chaos.json"], "nowhere/chaos.json cannot be written: No such file or directory"),
    (["--record=chaos.txt"], "the recording is chaos.txt: expected a name that ends in .json"),
    (["--redraw=chaos.json"], "--redraw needs --timeline"),
    (["--redraw=nowhere.json", "--timeline=a.svg"], "cannot read nowhere.json: No such file or directory"),
    (["--redraw=bad.json", "--timeline=a.svg"], "bad.json is not a recording: expected a file that chaos --record"),
    (["--timeline=drawing.png"], "the timeline is drawing.png: expected a name that ends in .svg"),
    (["--timeline=nowhere/drawing.svg"], "nowhere/drawing.svg cannot be written: No such file or directory"),
    (["--timeline=folder.svg"], "folder.svg cannot be written: Is a directory"),
]


def test_wrong_use_is_one_line_before_anything_starts(tmp_path: Path) -> None:
    """Wrong arguments end the command at once, with exit code 2 and one line that names the expected values."""
    (tmp_path / "folder.svg").mkdir()
    (tmp_path / "bad.json").write_text('{"requests": [[1]]}')

    answers, _ = run_each(*(["chaos", *arguments] for arguments, _ in WRONG_USE), folder=tmp_path)

    assert [2] * len(WRONG_USE) == [answer.code for answer in answers]
    for answer, (_, message) in zip(answers, WRONG_USE, strict=True):
        assert one_line(answer.stderr).startswith(f"registration-persistence: {message}")


def test_wrong_numbers_are_wrong_use() -> None:
    """A number out of range ends the command with exit code 2 and one line that names the option."""
    wrong = ("--seconds=1", "--seconds=nan", "--processes=0", "--processes=17", "--seed=x", "--rotation-window=0")

    answers, _ = run_each(*(["chaos", argument] for argument in wrong))

    for answer, argument in zip(answers, wrong, strict=True):
        assert answer.code == 2
        option = argument.partition("=")[0]
        assert one_line(answer.stderr).startswith(f"registration-persistence: argument {option}: ")


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
        numbers = [
            line[name] for name in ("requests", "failed", "retried", "slowest", "longest_outage", "lost", "duplicated")
        ]
        assert [*numbers, line["kept_despite_error"]] == [float(number) for number in row[1].split()]


def test_the_longest_outage_of_each_phase_is_found() -> None:
    """An outage is the time between two acknowledgements; one across two phases belongs to the one with most of it."""
    moments = [100, 109.5, 113.5, 114, 119.5, 120.5]

    found = longest_outages([record(f"k{n}", moment) for n, moment in enumerate(moments)], PHASES)

    assert [Outage(100.5, 110), Outage(114.5, 120), Outage(121, 130)] == found
    lost = [record("a", 100), record("b", 112, "failed"), record("c", 129)]
    assert [0.5, 29, 0.5] == [outage.seconds for outage in longest_outages(lost, PHASES)]


def test_the_timeline_shows_each_request_from_its_start_to_its_response() -> None:
    """A slow request is a bar of its own length; longer requests are higher; the axis ends with the last response."""
    slow, slower, last = record("a", 110), record("b", 111), record("c", 129)
    slower = replace(slower, seconds=2.0, attempts=2)
    last = replace(last, seconds=6.0, outcome="failed")

    root = ET.fromstring(chaos_timeline.draw(recording([slow, slower, last])))  # noqa: S314 our own drawing

    ((x, y, length),), (longer,), (late,) = (bars(root, kind) for kind in ("ok", "retried", "failed"))
    assert 4 * length == pytest.approx(longer[2], abs=0.5)
    assert 2 * length == pytest.approx(longer[0] - x, abs=0.3)
    assert y > longer[1] > late[1]
    (background,) = (each for each in root.iter(f"{SVG}path") if each.get("class") == "deadline")
    left, deadline_y, right = map(float, re.findall(r"[\d.]+", background.attrib["d"]))
    assert right == pytest.approx(late[0] + late[2], abs=0.2)
    assert right - left == pytest.approx(35 * 2 * length, rel=0.01)
    assert late[1] > deadline_y
    texts = list(root.itertext())
    assert any(f"deadline of a request, {REQUEST_TIMEOUT_SECONDS:g} s" in text for text in texts)
    assert {"none", "restart", "<&>"} <= set(texts)
    assert {"10.5 s", "2.5 s", "17.0 s"} <= set(texts)


def test_a_recorded_run_is_drawn_again(tmp_path: Path) -> None:
    """A recording holds what its timeline shows, and `--redraw` always gives the same drawing."""
    moments = [100 + n / 100 for n in range(3000)]
    whole = recording([*(record(f"k{n}", moment) for n, moment in enumerate(moments)), record("a", 115, "failed")])
    recordings.save(tmp_path / "chaos.json", whole)

    run("chaos", "--redraw=chaos.json", "--timeline=again.svg", folder=tmp_path)

    again = (tmp_path / "again.svg").read_text()
    assert chaos_timeline.draw(whole) == again


def test_the_timeline_stays_small() -> None:
    """The drawing of 100,000 requests has less than 500 kB, and shows every failed request."""
    records = [
        replace(record(f"k{n}", 100 + n / 3334 * 0.99), seconds=0.001 + (n % 97) ** 3 / 1e8) for n in range(100_000)
    ]
    whole = recording([*records, record("a", 105, "failed"), record("b", 115, "failed")])

    drawing = chaos_timeline.draw(whole)

    assert len(drawing) < 500_000
    assert 2 == len(bars(ET.fromstring(drawing), "failed"))  # noqa: S314 the drawing of the line above
    shown = thinned(whole)
    assert len(shown) < 20_000
    assert drawing == chaos_timeline.draw(replace(whole, records=shown))


def test_a_wait_does_not_survive_a_rotation_window_or_dropped_packets() -> None:
    """By default both last longer than the deadline of a request, and so longer than each limit of a connection."""
    faults = [NO_FAULT, *selected_faults(None, rotation_window=12)]

    durations = {fault.name: planned for fault, planned in zip(faults, planned_durations(75, faults), strict=True)}

    for name in (FaultName.ROTATION, FaultName.DROPPED_PACKETS):
        assert durations[name][0] > REQUEST_TIMEOUT_SECONDS
        assert durations[name][1] > durations[name][0]
    assert durations[FaultName.FAILOVER][0] < REQUEST_TIMEOUT_SECONDS
    assert 75 == pytest.approx(sum(phase for _, phase in durations.values()))
    assert 7 == selected_faults(["rotation"], rotation_window=7)[0].seconds


def test_nouns_agree_with_their_number() -> None:
    """A run with one sign-up has no plural."""
    assert (
        "Nothing was lost or duplicated: 1 sign-up was acknowledged and is stored once, 0 failed."
        == report([record("a", 115)], {"a": 1}, {"a": 1}).verdict
    )


def test_every_fault_name_has_one_fault() -> None:
    """The faults and the time without a fault have the names of `FaultName`, each once."""
    assert list(FaultName) == [NO_FAULT.name, *(fault.name for fault in FAULTS)]
