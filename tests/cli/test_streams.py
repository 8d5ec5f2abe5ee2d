"""Standard streams that are closed, full or narrow: one line and an exit code, never a traceback."""

import os
import subprocess
from pathlib import Path

import pytest
from command_line import COMMAND, TIMEOUT_SECONDS, environment, one_line
from workspace import Workspace

FULL = Path("/dev/full")

needs_full_device = pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")


def run_with(
    redirection: str, *arguments: str, environ: dict[str, str] | None = None, folder: Path | None = None
) -> tuple[int, str, str]:
    """Run the command with a redirection of the shell; return its exit code and its output."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, *arguments],
        cwd=folder,
        env=environment(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@needs_full_device
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [("--help",), ("migrate", "--sql")], ids=" ".join)
def test_a_full_disk_behind_standard_output_is_one_line(arguments: tuple[str, ...], unbuffered: str) -> None:
    """A command whose output cannot be written ends with 1 and says so, also with PYTHONUNBUFFERED."""
    code, _, stderr = run_with(">/dev/full", *arguments, environ={"PYTHONUNBUFFERED": unbuffered})

    line = one_line(stderr)
    assert (1, "registration-persistence: cannot write to standard output: No space left on device") == (code, line)


@needs_full_device
def test_a_full_disk_does_not_stop_the_work(workspace: Workspace) -> None:
    """A command with a database does its work, and ends with 1 because its summary is lost."""
    workspace.write("people.csv", "email\nada@example.com\n")

    done = run_with(">/dev/full", "import", "people.csv", environ=workspace.environ, folder=workspace.folder)

    assert 1 == done[0]
    assert "cannot write to standard output" in one_line(done[2])
    assert 1 == workspace.value("SELECT count(*) FROM registrations")


def test_a_closed_standard_output_is_one_line() -> None:
    """`>&-` ends with 1 and one line."""
    code, _, stderr = run_with(">&-", "--version")

    assert (1, "registration-persistence: cannot write to standard output: Bad file descriptor\n") == (code, stderr)


def test_standard_error_does_not_change_the_result() -> None:
    """If messages cannot be written, standard output and the exit code stay the same."""
    wrong = ("partitions", "--drop-before", "2999-01")

    assert (2, "", "") == run_with("2>&-", *wrong)
    if FULL.exists():
        assert (2, "", "") == run_with("2>/dev/full", *wrong)


def test_a_closed_standard_input_is_empty(workspace: Workspace) -> None:
    """`<&-` is like an empty file: a question without a terminal is rejected in one line."""
    ada = workspace.sign_up("ada@example.com")

    answers = [
        run_with("<&-", *command, environ=workspace.environ, folder=workspace.folder)
        for command in (("erase", ada), ("erase", "--email", "--yes"))
    ]

    assert [2, 2] == [code for code, _, _ in answers]
    assert "pass --yes" in one_line(answers[0][2])
    assert one_line(answers[1][2]).startswith("registration-persistence: the e-mail address ")


@pytest.mark.parametrize("name", [b"Z\xc3\xbcrich.csv", b"Z\xfcrich.csv"], ids=["UTF-8", "Latin-1"])
def test_characters_that_standard_output_cannot_encode_are_escaped(workspace: Workspace, name: bytes) -> None:
    """The summary of an import is printed, whatever characters the name of the file has."""
    (workspace.folder / os.fsdecode(name)).write_bytes(b"email\nnobody\n")

    code, stdout, stderr = run_with(
        "",
        "import",
        os.fsdecode(name),
        environ={**workspace.environ, "PYTHONIOENCODING": "ascii"},
        folder=workspace.folder,
    )

    assert (1, "") == (code, stderr)
    assert "rich.rejected.csv" in stdout.splitlines()[-1]
    assert stdout.isascii()


def test_every_command_closes_its_connections(workspace: Workspace) -> None:
    """No command leaves a connection open, which `-W error` would report on standard error."""
    workspace.put_messages(1)
    workspace.write("people.csv", "email\nada@example.com\nnobody\n")
    commands = [
        ("ping",),
        ("current",),
        ("check",),
        ("expire",),
        ("purge",),
        ("partitions",),
        ("import", "people.csv"),
        ("import", "people.csv", "--dry-run"),
        ("export", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ("erase", "01890a5d-ac96-774b-bcce-b302099a8057", "--yes"),
        ("show", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ("events", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ("outbox", "run", "--deliver", "mail:deliver", "--once"),
        ("outbox", "dead"),
        ("outbox", "revive", "--all"),
    ]

    answers, stderr = workspace.run_each_strictly(*commands)

    assert [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0] == [answer.code for answer in answers]
    assert "" == stderr
