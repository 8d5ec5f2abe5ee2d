"""`run_chaos`: sign-ups in several processes, one fault after the other, and the comparison with the database."""

import json
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psycopg

from registration_persistence.errors import InvalidInput, RegistrationPersistenceError
from registration_persistence.quantities import counted
from registration_persistence.sandbox import InvocationFailed, LambdaProcess, LocalServerError, wait_until
from registration_persistence.sandbox.chaos import recording as recordings
from registration_persistence.sandbox.chaos import timeline as chaos_timeline
from registration_persistence.sandbox.chaos.evaluation import Phase, evaluate
from registration_persistence.sandbox.chaos.faults import NO_FAULT, Fault, selected_faults
from registration_persistence.sandbox.chaos.load import TABLE, Record
from registration_persistence.sandbox.chaos.report import Report
from registration_persistence.sandbox.chaos.stage import DATABASE, Stage, open_stage
from registration_persistence.sandbox.chaos.timeline_scale import Recording

# The shortest phase of a fault: a failover takes this long.
_MIN_PHASE_SECONDS = 2.0

# A fault lasts for this share of its phase, but not longer than the maximum; the load recovers in the rest.
_FAULT_SHARE = 0.5
_MAX_FAULT_SECONDS = 4.0

# The rest of the phase of a fault whose duration is fixed.
_RECOVERY_SECONDS = 3.0

_MIN_RECOVERY_SECONDS = 2.0

# After the planned duration, the load ends by itself after this time, and its processes are killed after that time.
_MAX_OVERTIME_SECONDS = 60.0
_KILL_AFTER_SECONDS = 150.0

_ROW_COUNTS = (
    "SELECT split_part(email, '@', 1), count(*) FROM registrations GROUP BY 1",
    f"SELECT key, count(*) FROM {TABLE} GROUP BY 1",  # noqa: S608 a constant
)

_PROCESSES_WITH_A_SIGN_UP = f"SELECT count(DISTINCT split_part(key, '-', 1)) FROM {TABLE}"  # noqa: S608 a constant


def run_chaos(
    *,
    seconds: float,
    processes: int,
    faults: Sequence[str] | None,
    rotation_window: float,
    seed: int | None,
    timeline: Path | None,
    record: Path | None,
    as_json: bool,
) -> bool:
    """Run the load with the faults, print the report, and return whether the database holds what clients were told.

    Args:
        seconds: Duration of the load in seconds, without the time to start and stop the servers.
        processes: The number of load processes.
        faults: Names of the faults, in their order; `None` for all.
        rotation_window: Duration of the fault `rotation` in seconds.
        seed: Seed of the random number generators; `None` for a random one.
        timeline: SVG file for a drawing of the requests over time; `None` for no drawing.
        record: JSON file for what a timeline shows, for `redraw`; `None` for no file.
        as_json: Whether to print one JSON object instead of the table.

    Raises:
        InvalidInput: A fault is unknown, *seconds* is too short for the faults, or a file cannot be written.
        RegistrationPersistenceError: A server could not be started, or a load process failed.
    """
    if timeline is not None:
        chaos_timeline.check_writable(timeline, "timeline", ".svg")
    if record is not None:
        chaos_timeline.check_writable(record, "recording", ".json")
    report, recording = _measure(seconds, processes, faults, rotation_window=rotation_window, seed=seed)
    print(json.dumps(report.as_json()) if as_json else report.text())
    if record is not None:
        recordings.save(record, recording)
        _print_progress(f"the recording is in {record}")
    if timeline is not None:
        chaos_timeline.write(timeline, recording)
        _print_progress(f"the timeline is in {timeline}")
    return report.sound


def redraw(recording: Path, timeline: Path) -> None:
    """Draw the timeline of a recorded run.

    Args:
        recording: The file of the recorded run.
        timeline: SVG file for the drawing.

    Raises:
        InvalidInput: *timeline* cannot be written.
        UnreadableFile: *recording* cannot be read.
    """
    chaos_timeline.check_writable(timeline, "timeline", ".svg")
    chaos_timeline.write(timeline, recordings.load(recording))


def _measure(
    seconds: float, processes: int, faults: Sequence[str] | None, *, rotation_window: float, seed: int | None
) -> tuple[Report, Recording]:
    """Run the load with the faults; return the report and the recording, with the arguments of `run_chaos`."""
    selected, skipped = _supported(selected_faults(faults, rotation_window=rotation_window))
    durations = planned_durations(seconds, selected)
    seed = secrets.randbelow(10**6) if seed is None else seed
    records, phases, tables = _run_on_stage(selected, durations, processes, seed)
    *lines, total = evaluate(records, tables, phases)
    report = Report(lines, total, phases, skipped, seconds, processes, seed)
    caption = f"{counted(processes, 'process')}. {report.verdict}"
    return report, Recording(records, phases, [line.outage for line in lines], caption)


def _supported(faults: Sequence[Fault]) -> tuple[list[Fault], dict[str, str]]:
    """Return the faults that this machine supports, after a time without a fault; and why the others are skipped."""
    skipped = {str(fault.name): reason for fault in faults if (reason := fault.unsupported_reason())}
    return [NO_FAULT, *(fault for fault in faults if fault.name not in skipped)], skipped


def planned_durations(seconds: float, faults: Sequence[Fault]) -> list[tuple[float, float]]:
    """Return how long each of *faults* and its phase last; phases without a fixed duration share the rest equally.

    Raises:
        InvalidInput: *seconds* is too short for the faults.
    """
    fixed = [fault.seconds + _RECOVERY_SECONDS for fault in faults if fault.seconds is not None]
    others = len(faults) - len(fixed)
    required = sum(fixed) + others * _MIN_PHASE_SECONDS
    if seconds < required:
        raise InvalidInput(
            f"{seconds:g} seconds are too short for {counted(len(faults) - 1, 'fault')} and a time without a fault: "
            f"expected --seconds {required:g} or more, fewer --faults, or a shorter --rotation-window"
        )
    share = (seconds - sum(fixed)) / others
    return [
        (min(share * _FAULT_SHARE, _MAX_FAULT_SECONDS), share)
        if fault.seconds is None
        else (fault.seconds, fault.seconds + _RECOVERY_SECONDS)
        for fault in faults
    ]


def _run_on_stage(
    faults: Sequence[Fault], durations: Sequence[tuple[float, float]], processes: int, seed: int
) -> tuple[list[Record], list[Phase], list[Counter[str]]]:
    """Start the servers, run the load, and return the requests, the phases and the rows of each table by key."""
    started = counted(processes, "process")
    _print_progress(f"starting PostgreSQL, Secrets Manager and {started} on this machine (seed {seed})")
    seconds = sum(phase for _, phase in durations)
    isolated = any(fault.isolated for fault in faults)
    with open_stage(processes, isolated=isolated, seed=seed, timeout=seconds + _KILL_AFTER_SECONDS) as stage:
        for fault in faults:
            if fault.prepare is not None:
                fault.prepare(stage)
        records, phases = _run_load(stage, faults, durations)
        return records, phases, _count_rows(stage)


def _run_load(
    stage: Stage, faults: Sequence[Fault], durations: Sequence[tuple[float, float]]
) -> tuple[list[Record], list[Phase]]:
    """Run the load while one fault after the other happens; return the requests and the phases."""
    seconds = sum(phase for _, phase in durations)
    with tempfile.TemporaryDirectory(prefix="registration-chaos-") as folder:
        stop_file = Path(folder, "stop")
        for process in stage.processes:
            process.wait_ready()
        for number, process in enumerate(stage.processes):
            _start_load(process, number, stop_file, seconds, stage.seed)
        try:
            _wait_for_first_sign_ups(stage)
            phases = list(_phases(stage, faults, durations))
            stop_file.touch()
            results = [process.result() for process in stage.processes]
        except InvocationFailed as error:
            raise RegistrationPersistenceError(f"a load process failed: {error}") from error
    return [Record(**record) for result in results for record in result], phases


def _wait_for_first_sign_ups(stage: Stage) -> None:
    """Wait until each process has signed somebody up, so that the first phase does not contain its start."""
    with stage.cluster.primary.server.connect(DATABASE) as connection:

        def have_begun() -> bool:
            _check_at_work(stage)
            found = connection.execute(_PROCESSES_WITH_A_SIGN_UP.encode()).fetchone()
            return found is not None and found[0] == len(stage.processes)

        wait_until(have_begun, "each process has signed somebody up", timeout=_MAX_OVERTIME_SECONDS)


def _start_load(process: LambdaProcess, number: int, stop_file: Path, seconds: float, seed: int) -> None:
    process.start(
        {
            "name": f"client{number}",
            "stop_file": str(stop_file),
            "max_seconds": seconds + _MAX_OVERTIME_SECONDS,
            "seed": seed + number,
        }
    )


def _phases(stage: Stage, faults: Sequence[Fault], durations: Sequence[tuple[float, float]]) -> Iterator[Phase]:
    """Cause one fault after the other, and yield its phase when it has ended."""
    started = planned_end = time.monotonic()
    for fault, (fault_seconds, phase_seconds) in zip(faults, durations, strict=True):
        started_at = time.time()
        planned_end += phase_seconds
        _print_progress(f"{time.monotonic() - started:5.1f} s  {fault.name}: {fault.description}")
        try:
            fault.inflict(stage, fault_seconds)
        except psycopg.Error as error:
            raise LocalServerError(f"the fault {fault.name} could not be caused: {error}") from error
        fault_ended_at = time.time()
        # A fault may take longer than planned on a slow machine; the load recovers from it before the next one.
        recovery = min(_MIN_RECOVERY_SECONDS, phase_seconds - fault_seconds)
        planned_end = max(planned_end, time.monotonic() + recovery)
        time.sleep(max(0.0, planned_end - time.monotonic()))
        _check_at_work(stage)
        yield Phase(fault.name, started_at, fault_ended_at, time.time())


def _check_at_work(stage: Stage) -> None:
    """Raise the error of a process that has ended."""
    for process in stage.processes:
        with suppress(TimeoutError):  # raised if the process is still at work, as it should be
            process.result(0)


def _count_rows(stage: Stage) -> list[Counter[str]]:
    """End the processes and their sessions, and return the number of rows of each table, by key."""
    for process in stage.processes:
        process.terminate()
    stage.wait_until_disconnected()
    with stage.cluster.primary.server.connect(DATABASE) as connection:
        return [Counter(dict(connection.execute(query.encode()).fetchall())) for query in _ROW_COUNTS]


def _print_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
