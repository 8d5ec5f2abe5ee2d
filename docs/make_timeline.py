"""Draw docs/chaos.svg from the recorded run docs/chaos.json: `make diagrams`.

The same recording always gives the same drawing. With the argument `--record`, the script runs `chaos` first and
writes docs/chaos.json; that takes 90 s and needs root, because one of the faults drops packets.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PICTURE = Path(__file__).with_name("chaos.svg")
RECORDING = Path(__file__).with_name("chaos.json")
COMMAND = [sys.executable, "-m", "registration_persistence", "chaos"]


def main(arguments: Sequence[str]) -> int:
    """Write the recording, if it is asked for, and the drawing."""
    if "--record" in arguments:
        subprocess.run([*COMMAND, "--record", str(RECORDING)], check=True)  # noqa: S603 our own program
    drawing = [*COMMAND, "--redraw", str(RECORDING), "--timeline", str(PICTURE)]
    return subprocess.run(drawing, check=False).returncode  # noqa: S603 our own program


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
