"""Draw docs/chaos.svg from docs/chaos.json: `make diagrams`. `--record` runs `chaos` first, to write docs/chaos.json.

The recording holds the requests that the drawing shows, so that the same file always gives the same drawing. It needs
root, because the fault `dropped-packets` is one of those that are drawn.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from registration_persistence.sandbox.chaos.evaluation import Outage, Phase
from registration_persistence.sandbox.chaos.load import Record
from registration_persistence.sandbox.chaos.run import measure
from registration_persistence.sandbox.chaos.timeline import draw
from registration_persistence.sandbox.chaos.timeline_scale import Recording, thinned

PICTURE = Path(__file__).with_name("chaos.svg")
RECORDING = Path(__file__).with_name("chaos.json")

SECONDS, PROCESSES, ROTATION_WINDOW_SECONDS = 75, 4, 12


def picture() -> str:
    """Return the drawing of the recorded run."""
    recorded = json.loads(RECORDING.read_text(encoding="utf-8"))
    return draw(
        Recording(
            [Record("", start, length, outcome, tries) for start, length, outcome, tries in recorded["requests"]],
            [Phase(*phase) for phase in recorded["phases"]],
            [Outage(*outage) for outage in recorded["outages"]],
            recorded["caption"],
        )
    )


def record() -> None:
    """Run `chaos`, and write the requests that the drawing shows; times count from the start of the run."""
    report, recording = measure(SECONDS, PROCESSES, None, rotation_window=ROTATION_WINDOW_SECONDS, seed=1)
    sys.stdout.write(report.text() + "\n")
    zero = recording.phases[0].started_at
    shown = thinned(recording)
    values: dict[str, Any] = {
        "caption": recording.caption,
        "phases": [
            [each.fault, *(round(moment - zero, 3) for moment in (each.started_at, each.fault_ended_at, each.ended_at))]
            for each in recording.phases
        ],
        "outages": [[round(each.started_at - zero, 3), round(each.ended_at - zero, 3)] for each in recording.outages],
        "requests": [
            [round(each.started_at - zero, 3), round(each.seconds, 4), each.outcome, each.attempts] for each in shown
        ],
    }
    lines = (f' "{name}": {json.dumps(value)}' for name, value in values.items())
    RECORDING.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Write the drawing."""
    if "--record" in arguments:
        record()
    PICTURE.write_text(picture(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
