"""`registration-persistence demo`: the file, the rows, wrong files, and the clean-up."""

import csv
import os
import pty
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from command_line import environment, one_line, run
from processes import command_lines, is_running

from registration_persistence.sandbox import wait_until

ROOT = Path(__file__).parents[2]
HEADER = "email,display_name,locale,source,terms_version,newsletter"
# Line 1 is the header; the first person's name takes lines 2 and 3, and line 6 is empty.
SIGNUPS = f'''{HEADER}
ada@example.com,"Ada
Lovelace",en-GB,web,2026-01,yes
eve@example.com,Eve,fr,ios,2026-01,no
eve@example.com,Eve,fr,ios,2026-01,no

 ADA@EXAMPLE.COM ,Ada,en-GB,web,2026-01,Yes
nobody at home,"Nobody, ""at home""",en-GB,web,2026-01,yes
bob@example.com,Bob,English,web,2026-01,yes
bob@example.com,Bob,en-GB,web,2026-01
bob@example.com,"Bob
the
Builder",en-GB,web,2026-01,perhaps
bob@example.com,Bob,en-GB,w\u00e9b,2026-01,yes
bob@example.com,B\0b,en-GB,web,2026-01,yes
mario@b\u00fccher.example,M\u00e1rio,pt-BR,android,2026-01,1
'''
REJECTED = [
    (8, "has a space", ["nobody at home", 'Nobody, "at home"', "en-GB", "web", "2026-01", "yes"]),
    (9, "locale", ["bob@example.com", "Bob", "English", "web", "2026-01", "yes"]),
    (10, "5 fields", ["bob@example.com", "Bob", "en-GB", "web", "2026-01"]),
    (11, "newsletter", ["bob@example.com", "Bob\nthe\nBuilder", "en-GB", "web", "2026-01", "perhaps"]),
    (14, "source", ["bob@example.com", "Bob", "en-GB", "w\u00e9b", "2026-01", "yes"]),
    (15, "NUL", ["bob@example.com", "B\0b", "en-GB", "web", "2026-01", "yes"]),
]  # fmt: skip

OTHER_SERVICE = {
    "APP_DATABASE_HOST": "db.invalid",
    "APP_DATABASE_SECRET_ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:other-AbCdEf",
    "AWS_PROFILE": "other-machine",
}


@dataclass(frozen=True)
class Desk:
    """A working folder for the demo, and a folder for its temporary files."""

    folder: Path
    scratch: Path

    def write(self, content: str | bytes, name: str = "people.csv") -> str:
        """Write a file of sign-ups and return its name."""
        (self.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of the demo."""
        return [sys.executable, "-m", "registration_persistence", "demo", *arguments]

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the demo; its variables of a database name another one."""
        return environment(
            {
                **OTHER_SERVICE,
                "PATH": os.defpath,
                "TMPDIR": str(self.scratch),
                "COLUMNS": "160",
                "PYTHONUNBUFFERED": "1",
            }
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the demo, and assert that it succeeds and removes its temporary files."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert [] == list(self.scratch.iterdir())
        return done

    def error_line(self, *arguments: str) -> str:
        """Return the one line that the demo prints if it cannot use a file; it removes its temporary files."""
        done = run("demo", *arguments, environ=self.environ, folder=self.folder, code=2)
        assert [] == list(self.scratch.iterdir())
        return one_line(done.stderr).removeprefix("registration-persistence: ")

    @contextmanager
    def running_demo(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start the demo with `--keep`; it ends with the block."""
        with subprocess.Popen(
            self.command("--keep", *arguments),
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.terminate()

    def wait_for(self, moment: str, process: subprocess.Popen[str]) -> None:
        """Wait until the running demo initialises its server, starts it, or is `waiting` for Enter."""
        if moment == "waiting":
            assert process.stdout
            assert any("Press Enter" in line for line in process.stdout)
            return
        appears = {"initialising": "data/base/1/*", "starting": "data/log"}[moment]
        wait_until(
            lambda: any(self.scratch.glob(f"registration-postgres-*/{appears}")), f"{appears} exists", timeout=30
        )

    def server(self) -> int:
        """Return the process id of the running PostgreSQL."""
        (file,) = self.scratch.glob("registration-postgres-*/data/postmaster.pid")
        return int(file.read_text().split()[0])


@dataclass(frozen=True)
class KeptRun:
    """A run of the demo with `--keep`, after a query of its rows and Enter."""

    desk: Desk
    output: str
    command: str
    query_output: str
    commands_output: str
    rejected: str
    server: int
    code: int


@contextmanager
def desk_in(folder: Path) -> Iterator[Desk]:
    """Make a desk whose temporary folder the user of the server can read."""
    scratch = Path(tempfile.mkdtemp(prefix="demo-"))
    scratch.chmod(0o755)
    yield Desk(folder, scratch)
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk that only this test uses."""
    with desk_in(tmp_path) as desk:
        yield desk


@pytest.fixture(scope="module")
def kept_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeptRun]:
    """One run of the demo with `SIGNUPS`, which several tests inspect."""
    with desk_in(tmp_path_factory.mktemp("desk")) as desk, desk.running_demo(desk.write(SIGNUPS)) as process:
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Press Enter" in line:
                break
        command = next(line for line in lines if "PGPASSFILE=" in line)
        query = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)  # noqa: S602 the demo prints a shell command
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", script_of("".join(lines))],
            cwd=desk.folder,
            env={**desk.environ, **OTHER_SERVICE},
            capture_output=True,
            text=True,
            check=False,
        )
        server = desk.server()
        rejected = (desk.folder / "people.rejected.csv").read_text(encoding="utf-8")
        process.communicate("\n", timeout=30)
        commands_output = done.stdout + done.stderr
        yield KeptRun(
            desk, "".join(lines), command, query.stdout, commands_output, rejected, server, process.returncode
        )


def script_of(output: str) -> str:
    """Return a shell script of the printed commands for the package, and of further commands."""
    *lines, last = re.findall(r"^  ((?:unset|export) .*|\S.* check)$", output, re.MULTILINE)
    program = last.removesuffix(" check")
    more = ("ping", "current", "bootstrap", "expire", "migrate", "check")
    return "\n".join([*lines, last, *(f"{program} {command}" for command in more)])


def summary(output: str) -> dict[str, str]:
    """Return the numbers of the printed table by outcome, without those of rejected rows."""
    lines = re.findall(r"^ +(\w[\w ]*?)  +\S.*?  +(\d+) *$", output, re.MULTILINE)
    return {outcome: number for outcome, number in lines if outcome != "rejected"}


def test_every_row_of_the_file_is_counted(kept_run: KeptRun) -> None:
    """The summary counts the outcomes; after the password change the login is repeated, and no row fails."""
    assert "11 sign-ups in " in kept_run.output
    assert {
        "registered": "4",
        "replayed": "1",
        "verified": "3",
        "mailbox taken": "1",
        "activated": "3",
        "erased": "0",
        "resend throttled": "1",
        "wrong code": "1",
        "delivered": "10",
        "password changed": "1",
        "login rejected": "1",
        "failed": "0",
    }.items() <= summary(kept_run.output).items()
    assert "6 rows, with line and reason, are in people.rejected.csv" in kept_run.output


def test_rejected_rows_are_kept(kept_run: KeptRun) -> None:
    """While the server is open, a file has exactly the rejected rows, with line, reason and their original content."""
    header, *rejected = csv.reader(StringIO(kept_run.rejected, newline=""))
    assert kept_run.rejected == (kept_run.desk.folder / "people.rejected.csv").read_text(encoding="utf-8")

    assert ["line", "reason", *HEADER.split(",")] == header
    assert [(line, values) for line, _, values in REJECTED] == [(int(row[0]), row[2:]) for row in rejected]
    for (_, reason, _), row in zip(REJECTED, rejected, strict=True):
        assert reason in row[1]


def test_the_rows_can_be_queried(kept_run: KeptRun) -> None:
    """With `--keep` the server stays open, and the printed command shows the rows without a password in it."""
    assert {"pending": 1, "active": 3} == {
        status: int(number) for status, number in re.findall(r"(\w+) +\| +(\d+)", kept_run.query_output)
    }
    assert "PGPASSWORD" not in kept_run.command


def test_the_package_can_be_used_on_the_database(kept_run: KeptRun) -> None:
    """With `--keep`, the printed lines make each command use the database, also if other variables are set."""
    output = kept_run.commands_output
    assert output.count("the database is at the newest revision and matches the models") == 2, output
    assert "registration_rw" in output


def test_enter_ends_the_demo(kept_run: KeptRun) -> None:
    """After Enter the demo ends with exit code 0, and its server and its folders are gone."""
    assert kept_run.code == 0
    assert not is_running(kept_run.server)
    assert [] == list(kept_run.desk.scratch.iterdir())


def test_every_part_of_the_life_cycle_occurs(desk: Desk) -> None:
    """With more rows, a resend is throttled, a code is wrong, and a registration is erased."""
    people = "".join(f"person{number}@example.com,Person,en,web,1,no\n" for number in range(24))

    numbers = summary(desk.run(desk.write(f"{HEADER}\n{people}")).stdout)

    assert {"registered": "24", "activated": "21", "erased": "1"}.items() <= numbers.items()
    assert {"resend throttled": "6", "wrong code": "8", "failed": "0"}.items() <= numbers.items()


@pytest.mark.nightly
def test_a_file_without_rows_is_valid(desk: Desk) -> None:
    """A file with only a header registers nothing, changes no password and leaves no file of rejected rows."""
    done = desk.run(desk.write(f"{HEADER}\n"), "--rejected", "refused.csv")

    assert "0 sign-ups in " in done.stdout
    numbers = summary(done.stdout)
    assert {"registered": "0", "failed": "0"}.items() <= numbers.items()
    assert not (desk.folder / "refused.csv").exists()
    assert numbers.get("password changed", "0") == "0"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "people.csv, line 1: not the header that is expected: email,display_name,"),
        (
            b"name,email\nAda,ada@example.com\n",
            "people.csv, line 1: not the header that is expected: email,display_name,",
        ),
        (f"{HEADER}\na@example.com,J\xfcrgen,de,web,1,no\n".encode("latin-1"), "people.csv, line 2: not UTF-8"),
        (f'{HEADER}\na@example.com,"Ada,en,web,1,no\nb@example.com,Bob,en,web,1,no\n', "people.csv, line 2: not CSV: "),
        (f'{HEADER}\na@example.com,"Ada"x,en,web,1,no\n', "people.csv, line 2: not CSV: "),
    ],
    ids=["empty", "header", "latin-1", "quote", "after-quote"],
)
def test_an_invalid_file_is_one_error_line(desk: Desk, content: str | bytes, message: str) -> None:
    """An invalid file ends the demo before a server starts, with exit code 2 and one line that names file and line."""
    assert desk.error_line(desk.write(content)).startswith(message)


def test_a_missing_file_is_one_error_line(desk: Desk) -> None:
    """A missing file and a folder end the demo with exit code 2 and one line."""
    assert desk.error_line("nowhere.csv") == "cannot read nowhere.csv: No such file or directory"
    assert desk.error_line(".") == "cannot read .: Is a directory"


def test_a_file_that_cannot_be_written_is_one_error_line(desk: Desk) -> None:
    """If the rejected rows cannot be written, no server starts."""
    name = desk.write(SIGNUPS)

    message = desk.error_line(name, "--rejected", "nowhere/refused.csv")

    assert message == "cannot write nowhere/refused.csv: No such file or directory"


def test_a_full_disk_is_one_error_line(desk: Desk) -> None:
    """If a rejected row cannot be written, the demo ends with one line."""
    name = desk.write(SIGNUPS)

    assert desk.error_line(name, "--rejected", "/dev/full") == "cannot write /dev/full: No space left on device"


def test_the_file_of_sign_ups_is_never_overwritten(desk: Desk) -> None:
    """The rejected rows do not overwrite the file of the sign-ups, also under another name of it."""
    name = desk.write(SIGNUPS)
    (desk.folder / "link.csv").symlink_to(name)

    for rejected in (name, f"./{name}", "link.csv"):
        desk.error_line(name, "--rejected", rejected)

    assert SIGNUPS.encode() == (desk.folder / name).read_bytes()


def test_rejected_rows_are_private_and_can_be_registered_again(desk: Desk) -> None:
    """Only the owner can read the file, no cell is a formula, and the corrected file is accepted as it is."""
    formulas = ('"=HYPERLINK(""http://example.com"")"', "+1", "-1", "@SUM(1)", '"\t=1"', "\uff1d1", "'=1")
    people = "".join(f"=person{number}@example.com,{name},English,web,1,no\n" for number, name in enumerate(formulas))
    old = desk.folder / "refused.csv"
    old.write_text("line,reason\n")
    old.chmod(0o644)

    desk.run(desk.write(f"{HEADER}\n{people}"), "--rejected", "refused.csv")

    assert stat.S_IMODE(old.stat().st_mode) == 0o600
    rows = list(csv.reader(StringIO(old.read_text(encoding="utf-8"), newline="")))
    assert len(rows) == 1 + len(formulas)
    for row in rows[1:]:
        assert (row[2][:2], row[3][:1]) == ("'=", "'")
    old.write_text(old.read_text(encoding="utf-8").replace("English", "en"), encoding="utf-8")
    again = desk.run("refused.csv", "--rejected", "again.csv")
    assert "registered" in again.stdout
    assert summary(again.stdout)["registered"] == str(len(formulas))


def test_rejected_rows_are_not_written_through_a_link(desk: Desk) -> None:
    """A link under the name of the file ends the demo before a server starts; the file behind it is unchanged."""
    name = desk.write(SIGNUPS)
    (desk.folder / "victim").write_text("old")
    for target in ("victim", "missing"):
        link = desk.folder / "people.rejected.csv"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert desk.error_line(name) == "cannot write people.rejected.csv: it is a link: name the file itself"

    assert (desk.folder / "victim").read_text() == "old"
    assert not (desk.folder / "missing").exists()


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("initialising", signal.SIGTERM),
        ("starting", signal.SIGINT),
        ("waiting", signal.SIGINT),
        pytest.param("waiting", signal.SIGTERM, marks=pytest.mark.nightly),
    ],
)
def test_a_signal_leaves_nothing_behind(desk: Desk, moment: str, number: signal.Signals) -> None:
    """A signal at any moment stops the server, removes its folder and causes no traceback."""
    with desk.running_demo(desk.write(SIGNUPS)) as process:
        desk.wait_for(moment, process)
        process.send_signal(number)
        errors = process.communicate(timeout=30)[1]

    assert 128 + number == process.returncode
    assert "Traceback" not in errors
    assert [] == servers_under(desk.scratch)
    assert [] == list(desk.scratch.iterdir())


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("initialising", signal.SIGKILL),
        ("starting", signal.SIGKILL),
        pytest.param("waiting", signal.SIGQUIT, marks=pytest.mark.nightly),
    ],
)
def test_a_demo_that_is_killed_leaves_no_server_behind(desk: Desk, moment: str, number: signal.Signals) -> None:
    """A signal that the demo cannot handle, at any moment, also ends the server and removes its folder."""
    with desk.running_demo(desk.write(SIGNUPS)) as process:
        desk.wait_for(moment, process)
        process.send_signal(number)
        process.communicate(timeout=30)

    assert -number == process.returncode
    wait_until(lambda: not list(desk.scratch.iterdir()), "the folders are removed", timeout=30)
    assert [] == servers_under(desk.scratch)


def test_a_demo_ends_with_the_program_that_started_it(desk: Desk) -> None:
    """If make, or another parent process, is killed, the demo ends and removes everything."""
    command = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"]
    with subprocess.Popen(
        [*command, *desk.command("--keep", desk.write(SIGNUPS))],
        cwd=desk.folder,
        env=desk.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as make:
        desk.wait_for("waiting", make)
        make.kill()

    wait_until(lambda: not list(desk.scratch.iterdir()), "the folders are removed", timeout=30)
    assert [] == servers_under(desk.scratch)


@pytest.mark.nightly
def test_a_closed_terminal_leaves_nothing_behind(desk: Desk) -> None:
    """If the terminal of the demo is closed, its server ends, and its folders are removed."""
    name = desk.write(SIGNUPS)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(desk.folder)
        os.execve(sys.executable, desk.command("--keep", name), desk.environ)  # noqa: S606 the command line of the demo
    text = b""
    while b"Press Enter" not in text:
        text += os.read(terminal, 65536)

    os.close(terminal)

    wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0], "the demo has ended", timeout=30)
    assert [] == servers_under(desk.scratch)
    assert [] == list(desk.scratch.iterdir())


def servers_under(folder: Path) -> list[str]:
    """Return the command lines of the PostgreSQL servers whose data is in *folder*, and stop them."""
    found = []
    time.sleep(0.3)  # a server that is just starting appears in the meantime
    for pid, arguments in command_lines().items():
        if f" -D {folder}" in arguments:
            found.append(arguments)
            os.kill(pid, signal.SIGQUIT)
    return found


def test_the_example_is_what_its_script_writes() -> None:
    """`examples/make_signups.py` prints `examples/signups.csv`, byte for byte."""
    written = subprocess.run(
        [sys.executable, ROOT / "examples" / "make_signups.py"], env={}, capture_output=True, check=True
    ).stdout

    assert (ROOT / "examples" / "signups.csv").read_bytes() == written
