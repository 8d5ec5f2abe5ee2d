"""The file of a recorded run of `chaos`: the requests that its timeline shows, so that it can be drawn again."""

import json
from pathlib import Path
from typing import Any

from registration_persistence import private_file
from registration_persistence.errors import RegistrationPersistenceError, UnreadableFile
from registration_persistence.sandbox.chaos.evaluation import Outage, Phase
from registration_persistence.sandbox.chaos.load import Record
from registration_persistence.sandbox.chaos.timeline_scale import Recording, thinned


def save(file: Path, recording: Recording) -> None:
    """Write the recording as JSON; its moments are in seconds since the start of the run.

    Raises:
        RegistrationPersistenceError: *file* cannot be written.
    """
    zero = recording.phases[0].started_at
    values: dict[str, Any] = {
        "caption": recording.caption,
        "phases": [
            [each.fault, *(round(moment - zero, 3) for moment in (each.started_at, each.fault_ended_at, each.ended_at))]
            for each in recording.phases
        ],
        "outages": [[round(each.started_at - zero, 3), round(each.ended_at - zero, 3)] for each in recording.outages],
        "requests": [
            [round(each.started_at - zero, 3), round(each.seconds, 4), each.outcome, each.attempts]
            for each in thinned(recording)
        ],
    }
    lines = (f' "{name}": {json.dumps(value)}' for name, value in values.items())
    try:
        private_file.write(file, "{\n" + ",\n".join(lines) + "\n}\n")
    except OSError as error:
        raise RegistrationPersistenceError(f"cannot write {file}: {error.strerror}") from error


def load(file: Path) -> Recording:
    """Read a recording.

    Raises:
        UnreadableFile: *file* cannot be read, or is not a recording.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return Recording(
            [Record("", float(start), float(length), *rest) for start, length, *rest in values["requests"]],
            [Phase(str(fault), *map(float, moments)) for fault, *moments in values["phases"]],
            [Outage(*map(float, moments)) for moments in values["outages"]],
            str(values["caption"]),
        )
    except OSError as error:
        raise UnreadableFile(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableFile(f"{file} is not a recording: expected a file that chaos --record has written") from error
