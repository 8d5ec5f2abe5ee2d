"""Hooks of the life of a process: SnapStart's snapshots, and SIGTERM."""

import os
import signal
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from uuid_utils import reseed_rng

from registration_persistence.database.lifecycle import around_snapshots

# Prints what SIGTERM calls, in order; the first argument is the handler that was installed before.
PROGRAM = """
import os, signal, sys
from registration_persistence.database.lifecycle import on_sigterm

if sys.argv[1] == "handler":
    signal.signal(signal.SIGTERM, lambda *_: print("handler", flush=True))
if sys.argv[1] == "ignored":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

def close():
    print("close", flush=True)
    if sys.argv[2] == "fails":
        raise OSError("close failed")

on_sigterm(close)
os.kill(os.getpid(), signal.SIGTERM)
print("alive", flush=True)
"""


def test_snapshots_have_hooks_and_new_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a snapshot `before` is called; after a restore the generator of ids is seeded, then `after` is called."""
    registered: list[tuple[str, Any]] = []
    module: Any = ModuleType("snapshot_restore_py")  # only Lambda has it
    module.register_before_snapshot = lambda hook: registered.append(("before", hook))
    module.register_after_restore = lambda hook: registered.append(("after", hook))
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", module)

    def before() -> None:
        """Be called before a snapshot."""

    def after() -> None:
        """Be called after a restore."""

    around_snapshots(before=before, after=after)

    assert registered == [("before", before), ("after", reseed_rng), ("after", after)]


@pytest.mark.parametrize(
    ("before", "close", "output", "code"),
    [
        ("handler", "works", ["close", "handler", "alive"], 0),
        ("handler", "fails", ["close", "handler"], 1),
        ("default", "works", ["close"], -signal.SIGTERM),
        ("default", "fails", ["close"], -signal.SIGTERM),
        ("ignored", "works", ["close", "alive"], 0),
    ],
)
def test_sigterm_closes_and_then_does_what_it_did(before: str, close: str, output: list[str], code: int) -> None:
    """The handler that was installed before is called, or the process ends, also if closing fails."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, before, close],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=60,
        check=False,
    )

    assert (output, code) == (done.stdout.splitlines(), done.returncode)
