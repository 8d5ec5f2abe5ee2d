"""Runs tests of the synchronous API on the asynchronous side: every `Database` of them waits like `AsyncDatabase`.

    python tests/awaited/run.py [--debug] tests/integration -m "not container"

The tests run unmodified. pytest runs in one greenlet of one event loop, so each wait of a test for the database lets
the loop run, as a unit of work of `AsyncDatabase.run` does. Threads that use the database are tasks, and the handler of
each `LambdaProcess` runs in a loop, too; other programs that a test starts use the synchronous side. `exclusions.py`
lists the tests that fail, with the reason of each: they are expected failures, and one that passes fails the run.

With --debug, the loops run in asyncio's debug mode, and a test fails if the package blocks its loop for 0.05 s or more;
see `slow_callbacks.py`.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from awaited.harness import run

    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    raise SystemExit(run(arguments, debug="--debug" in sys.argv))
