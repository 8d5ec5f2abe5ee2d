"""The runtime of a `LambdaProcess` whose handler runs in a greenlet of an event loop, with every `Database` awaited."""

import os
import sys
from pathlib import Path

from awaited.side import REPORT_VARIABLE, await_every_wait, run_in_loop

from registration_persistence.sandbox.lambda_runtime import main

if __name__ == "__main__":
    await_every_wait()
    report = os.environ.pop(REPORT_VARIABLE, None)
    run_in_loop(lambda: main(*sys.argv[1:]), Path(report) if report else None)
