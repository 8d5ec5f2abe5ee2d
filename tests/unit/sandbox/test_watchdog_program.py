"""The watchdog's program kills the processes and removes the folders of an owner that has ended."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registration_persistence.sandbox import watchdog_program
from registration_persistence.sandbox.watchdog_program import END_OF_RECORD, FOLDER, FORGET, PROCESS, watch

# A server that ignores SIGQUIT, as one that hangs.
HANGING = "import signal, time; signal.signal(signal.SIGQUIT, signal.SIG_IGN); print(flush=True); time.sleep(60)"


@contextmanager
def group() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that leads a group."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process
        process.kill()


def test_everything_that_is_not_forgotten_is_cleaned_up(tmp_path: Path) -> None:
    """At the end of the records, watched processes are killed and watched folders are removed; the others stay."""
    watched, forgotten = tmp_path / "watched with a space", tmp_path / "forgotten"
    for folder in (watched, forgotten):
        (folder / "data").mkdir(parents=True)
    source, sink = os.pipe()
    with group() as first, group() as second:
        records = [
            PROCESS + str(first.pid).encode(),
            PROCESS + str(second.pid).encode(),
            FOLDER + os.fsencode(watched),
            FOLDER + os.fsencode(forgotten),
            FORGET + PROCESS + str(second.pid).encode(),
            FORGET + FOLDER + os.fsencode(forgotten),
        ]
        os.write(sink, b"".join(record + END_OF_RECORD for record in records))
        os.close(sink)

        watch(os.getppid(), source)

        assert first.wait(5) == -9
        assert second.poll() is None
    os.close(source)
    assert ["forgotten"] == [folder.name for folder in tmp_path.iterdir()]


def test_the_owner_may_end_while_the_pipe_is_open() -> None:
    """If the parent process is another one, the owner has ended, although a process that it forked holds the pipe."""
    source, sink = os.pipe()
    started = time.monotonic()

    watch(os.getpid(), source)

    assert time.monotonic() - started < 5
    os.close(source)
    os.close(sink)


def test_a_server_that_hangs_is_killed(tmp_path: Path) -> None:
    """A server that does not end after SIGQUIT is killed before its folder is removed; an editor is not."""
    data = tmp_path / "server/data"
    data.mkdir(parents=True)
    (tmp_path / "postgres").symlink_to(sys.executable)
    arguments = ["-c", HANGING, "-D", str(data)]
    with (
        subprocess.Popen([tmp_path / "postgres", *arguments], stdout=subprocess.PIPE) as server,
        subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE) as editor,
    ):
        for process in (server, editor):
            assert process.stdout
            process.stdout.readline()

        waiting = threading.Thread(target=server.wait)
        waiting.start()
        watchdog_program.remove_server(data.parent)
        waiting.join(5)

        assert server.returncode == -9
        assert editor.poll() is None
        editor.kill()
    assert not data.parent.exists()


def test_processes_are_listed_without_proc() -> None:
    """`ps` lists the same processes."""
    listed = dict(watchdog_program._from_ps())

    assert listed[os.getpid()][0] == dict(watchdog_program._from_proc())[os.getpid()][0]
