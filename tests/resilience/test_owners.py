"""Servers and handlers end with the process that started them, whichever signal ended it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import command_lines, is_running

from registration_persistence.sandbox import LocalPostgres, embedded_binaries, wait_until

# The server is started in a thread that has ended, and a process that the owner has forked lives on.
OWNER = """
import os, sys, threading, time
from registration_persistence.sandbox import LambdaProcess, LocalPostgres, embedded_binaries

postgres = LocalPostgres(embedded_binaries())
thread = threading.Thread(target=postgres.open)
thread.start()
process = LambdaProcess(sys.argv[1])
process.__enter__()
process.start()
thread.join()
forked = os.fork()
if forked:
    print(postgres.server.port, process.pid, forked, flush=True)
time.sleep(60)
"""

HANDLER = """
import os, signal, time
from pathlib import Path

def handle(event, context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = os.fork()
    if child:
        Path(__file__).with_suffix(".children").write_text(str(child))
    time.sleep(60)
"""


@dataclass(frozen=True)
class Owner:
    """A process that has started a server and a handler, which runs and has forked a child."""

    process: subprocess.Popen[str]
    folder: Path
    server: int
    handlers: list[int]
    forked: int

    def kill_watchdog(self) -> None:
        """Kill the watchdog of the process."""
        end = f"watchdog_program.py {self.process.pid}"
        (watchdog,) = (pid for pid, arguments in command_lines().items() if arguments.endswith(end))
        os.kill(watchdog, signal.SIGKILL)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files that the user of the server can read."""
    assert tmp_path.exists()  # otherwise pytest would create it in this folder
    folder = Path(tempfile.mkdtemp(prefix="owners-"))
    folder.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_owner(scratch: Path, handlers: Path) -> Iterator[Owner]:
    """Start an owner, and kill everything that is left at the end of the block."""
    handler = handlers / "handler.py"
    handler.write_text(HANDLER)
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", OWNER, f"{handler}:handle"],
                env={**os.environ, "TMPDIR": str(scratch)},
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(process.kill)
        assert process.stdout
        port, parent, forked = map(int, process.stdout.readline().split())
        stack.callback(kill, forked)
        children = handler.with_suffix(".children")
        wait_until(lambda: children.exists() and children.read_text(), "the handler runs", timeout=60)
        (folder,) = (
            file.parents[1]
            for file in scratch.glob("registration-postgres-*/data/postmaster.pid")
            if str(port) in file.read_text().split()
        )
        server = int((folder / "data/postmaster.pid").read_text().split()[0])
        owner = Owner(process, folder, server, [parent, int(children.read_text())], forked)
        for pid in (server, *owner.handlers):
            stack.callback(kill, pid)
        yield owner


def kill(pid: int) -> None:
    """Kill a process if it exists."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGQUIT, marks=pytest.mark.nightly)])
def test_nothing_survives_its_owner(scratch: Path, tmp_path: Path, number: signal.Signals) -> None:
    """The server, the handler in the middle of an invocation and its child end, and the folder is removed."""
    with running_owner(scratch, tmp_path) as owner:
        assert all(map(is_running, [owner.server, *owner.handlers]))

        owner.process.send_signal(number)

        wait_until(lambda: not any(map(is_running, [owner.server, *owner.handlers])), "they have ended", timeout=20)
        wait_until(lambda: not list(scratch.iterdir()), "the folder is removed")


def test_the_next_start_removes_what_was_left(scratch: Path, tmp_path: Path) -> None:
    """If the watchdog was killed, too, the next start ends the server; servers of living owners stay."""
    with LocalPostgres(embedded_binaries()) as living, running_owner(scratch, tmp_path) as owner:
        owner.kill_watchdog()
        owner.process.kill()
        owner.process.wait()
        kill(owner.forked)  # it holds the lock of the folder
        wait_until(lambda: not is_running(owner.forked), "the forked process has ended")
        assert is_running(owner.server)

        with LocalPostgres(embedded_binaries()):
            assert not owner.folder.exists()
            assert not is_running(owner.server)
            living.server.connect().close()
    assert [] == list(scratch.iterdir())


def test_the_load_of_chaos_ends_with_it(scratch: Path) -> None:
    """If the chaos command is killed in the middle of a fault, its servers and its frozen processes end."""
    arguments = ["chaos", "--seconds=4", "--processes=2", "--faults=frozen"]
    with subprocess.Popen(
        [sys.executable, "-m", "registration_persistence", *arguments],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        assert any("frozen" in line for line in process.stderr)
        process.kill()

    wait_until(lambda: not list(scratch.glob("registration-postgres-*")), "the folders are removed", timeout=20)
    wait_until(lambda: not processes_with(scratch), "every process has ended", timeout=5)


def processes_with(scratch: Path) -> list[str]:
    """Return the processes that use *scratch* for temporary files."""
    variable = f"TMPDIR={scratch}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if variable in (process / "environ").read_bytes().split(b"\0"):
                found.append(process.name)
    return found
