"""`chaos`: sign-ups in several processes while one fault after the other happens, and what is there afterwards."""

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
from registration_persistence.sandbox import InvocationFailed, LocalServerError
from registration_persistence.sandbox.chaos import timeline as chaos_timeline
from registration_persistence.sandbox.chaos.faults import NONE, Fault, chosen
from registration_persistence.sandbox.chaos.load import TABLE, Record
from registration_persistence.sandbox.chaos.report import Phase, Report, evaluate
from registration_persistence.sandbox.chaos.stage import DATABASE, Stage, open_stage

# Seconds from one fault to the next, at the least: a failover takes as long.
_SHORTEST = 2.0

# A fault lasts for so much of the time until the next, and for so many seconds at the longest.
_SHARE, _LONGEST = 0.5, 4.0

# Seconds beyond what was asked for, after which the load ends by itself, and after which its processes are killed.
_OVERTIME, _PATIENCE = 60.0, 150.0

_COUNTS = (
    "SELECT split_part(email, '@', 1), count(*) FROM registrations GROUP BY 1",
    f"SELECT key, count(*) FROM {TABLE} GROUP BY 1",  # noqa: S608 a constant
)


def run_chaos(
    *,
    seconds: float,
    processes: int,
    faults: Sequence[str] | None,
    seed: int | None,
    timeline: Path | None,
    as_json: bool,
) -> bool:
    """Run the load with the faults, print what happened, and tell whether the database holds what clients were told.

    Args:
        seconds: How long, without starting and stopping the servers.
        processes: How many sign people up.
        faults: The names of those that shall happen; `None` for all.
        seed: For what is left to chance; `None` for any.
        timeline: Where to draw the requests over the time.
        as_json: Whether to print one JSON object in place of the table.

    Raises:
        InvalidInput: A fault is unknown, there is no time for so many, or *timeline* cannot be written.
        RegistrationPersistenceError: A server could not be started, or the load broke down.
    """
    wanted = chosen(faults)
    left_out = {fault.name: reason for fault in wanted if (reason := fault.why_not())}
    wanted = [NONE, *(fault for fault in wanted if fault.name not in left_out)]
    if seconds < len(wanted) * _SHORTEST:
        raise InvalidInput(
            f"{seconds:g} seconds are too few for {len(wanted) - 1} faults and a time without: "
            f"expected --seconds {len(wanted) * _SHORTEST:g} or more, or fewer --faults"
        )
    if timeline is not None:
        chaos_timeline.check_writable(timeline)
    seed = secrets.randbelow(10**6) if seed is None else seed

    _say(f"starting PostgreSQL, Secrets Manager and {processes} processes on this machine (seed {seed})")
    isolated = any(fault.isolated for fault in wanted)
    with open_stage(processes, isolated=isolated, seed=seed, timeout=seconds + _PATIENCE) as stage:
        for fault in wanted:
            if fault.prepare is not None:
                fault.prepare(stage)
        records, phases = _conduct(stage, wanted, seconds)
        *lines, total = evaluate(records, _rows(stage), phases)
    report = Report(lines, total, left_out, seconds, processes, seed)
    print(json.dumps(report.as_json()) if as_json else report.text())
    if timeline is not None:
        chaos_timeline.write(timeline, records, phases, f"{processes} processes. {report.verdict}")
        _say(f"the timeline is in {timeline}")
    return report.sound


def _conduct(stage: Stage, faults: Sequence[Fault], seconds: float) -> tuple[list[Record], list[Phase]]:
    """Start the load, let one fault after the other happen, and return what the clients saw and when what happened."""
    with tempfile.TemporaryDirectory(prefix="registration-chaos-") as folder:
        stop = Path(folder, "stop")
        for process in stage.processes:
            process.wait_ready()
        for number, process in enumerate(stage.processes):
            process.start(
                {
                    "name": f"client{number}",
                    "stop": str(stop),
                    "at_most": seconds + _OVERTIME,
                    "seed": stage.seed + number,
                }
            )
        try:
            phases = list(_phases(stage, faults, seconds / len(faults)))
            stop.touch()
            answers = [process.result() for process in stage.processes]
        except InvocationFailed as error:
            raise RegistrationPersistenceError(f"a process of the load broke down: {error}") from error
    return [Record(**answer) for answers_of_one in answers for answer in answers_of_one], phases


def _phases(stage: Stage, faults: Sequence[Fault], interval: float) -> Iterator[Phase]:
    started = time.monotonic()
    for number, fault in enumerate(faults, 1):
        began = time.time()
        _say(f"{time.monotonic() - started:5.1f} s  {fault.name}: {fault.happens}")
        try:
            fault.inflict(stage, min(interval * _SHARE, _LONGEST))
        except psycopg.Error as error:
            raise LocalServerError(f"{fault.name} could not be made to happen: {error}") from error
        over = time.time()
        time.sleep(max(0.0, started + number * interval - time.monotonic()))
        for process in stage.processes:
            with suppress(TimeoutError):  # as long as it is at work
                process.result(0)
        yield Phase(fault.name, began, over, time.time())


def _rows(stage: Stage) -> list[Counter[str]]:
    """Return how many rows each table holds, by key, when all that is under way has ended."""
    for process in stage.processes:
        process.terminate()
    stage.wait_for_silence()
    with stage.cluster.primary.address.connect(DATABASE) as connection:
        return [Counter(dict(connection.execute(count.encode()).fetchall())) for count in _COUNTS]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
