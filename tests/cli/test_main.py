"""`registration-persistence` as people and pipelines start it: help, wrong use, exit codes and errors."""

import re
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from subprocess import PIPE

import pytest
from command_line import COMMAND, TIMEOUT_SECONDS, environment, one_line, run, run_each, variables
from workspace import Workspace

PROGRAM_WITHOUT_RICH = """
import sys
sys.modules["rich"] = None
from registration_persistence.cli import main
print([main(arguments) for arguments in (["expire"], ["purge"], ["partitions"], ["import", "people.csv"])])
"""


def test_help_lists_every_command() -> None:
    """`--help` lists the commands, each with its description."""
    text = run("--help").stdout

    for command in ("bootstrap", "migrate", "current", "check", "ping", "demo"):
        assert re.search(rf"^    {command}\s+\w", text, re.MULTILINE)


def test_version_is_that_of_the_package() -> None:
    """`--version` prints the installed version."""
    assert f"{version('registration-persistence')}\n" == run("--version").stdout


WRONG_NAMES = {
    (): "the command is missing: expected one of migrate, ",
    ("frobnicate",): "there is no command 'frobnicate'; see registration-persistence --help",
    ("mgrate",): "there is no command 'mgrate': did you mean migrate?; see registration-persistence --help",
    (
        "outbox",
    ): "the command is missing: expected one of run, dead, revive; see registration-persistence outbox --help",
    ("outbox", "ded"): "there is no command 'ded': did you mean dead?; see registration-persistence outbox --help",
    ("--verzion",): "there is no option '--verzion': did you mean --version?; see registration-persistence --help",
    ("outbox", "run", "--delivr=x"): "there is no option '--delivr': did you mean --deliver?; see ",
    ("expire", "--bat", "3"): "there is no option '--bat': did you mean --batch?; see registration-persistence expire ",
    ("expire", "-b"): "there is no option '-b'",
    ("--batch", "3", "expire"): "the option '--batch' is before the command: options follow the command; see ",
    ("outbox", "--all", "revive"): "the option '--all' is before the command: options follow the command; see ",
    ("ping", "now"): "unexpected argument 'now'; see registration-persistence ping --help",
    ("ada@example.com",): "there is no command an e-mail address; see ",
    ("ping", "ada@example.com"): "unexpected argument an e-mail address: every user of this machine can see arguments",
    ("show", "-ada@example.com"): "there is no option an e-mail address: every user of this machine can see arguments",
    ("find", "--email=ada@example.com"): "there is no option '--email': every user of this machine can see arguments",
    ("find", "--email"): "there is no option '--email'; see registration-persistence find --help",
    ("export", "--email=ada@example.com"): "argument --email/--no-email: ignored explicit argument an e-mail address;",
    ("find", "--limit", "ada@example.com"): "argument --limit: an e-mail address is not a number: expected a whole ",
    ("partitions", "--drop-before=ada@example.com"): "argument --drop-before: an e-mail address is not a month: ",
    ("migrate", "ada@example.com"): "argument revision: an e-mail address is not a revision: expected head, ",
    ("completion", "ada@example.com"): "argument shell: invalid choice: an e-mail address (choose from ",
    ("erase", "--actor", "ada@example.com"): "--actor is an e-mail address: expected user, system or admin:<id>, ",
}


def test_wrong_names_are_rejected_with_the_nearest() -> None:
    """Unknown or missing commands, options and arguments end with 2 and one line, which never shows an address."""
    for (command, problem), answer in zip(WRONG_NAMES.items(), run_each(*WRONG_NAMES)[0], strict=True):
        assert (2, "") == (answer.code, answer.stdout), command
        assert one_line(answer.stderr).startswith(f"registration-persistence: {problem}"), command
        assert "ada@" not in answer.stderr


def test_values_outside_their_range_are_rejected(workspace: Workspace) -> None:
    """Each wrong number, month and id ends with 2 and one line that names its command; standard output is empty."""
    wrong = [
        ("expire", "--batch", "0"),
        ("expire", "--batch", "10001"),
        ("expire", "--batch", "many"),
        ("purge", "--batch", "1.5"),
        ("purge", "--closed-days", "-1"),
        ("purge", "--closed-days", "36501"),
        ("purge", "--token-days", "-1"),
        ("purge", "--token-days", "month"),
        ("partitions", "--drop-before", "2024"),
        ("partitions", "--drop-before", "2024-13"),
        ("partitions", "--drop-before", "2024-01-01"),
        ("import", "people.csv", "--open-days", "-1"),
        ("import", ""),
        ("import", "people.csv", "--rejected", ""),
        ("demo", ""),
        ("chaos", "--timeline", ""),
        ("purge", "--closed-days", "9" * 5000),
        ("outbox", "run", "--deliver", "mail:deliver", "--lease", "0"),
        ("outbox", "run", "--deliver", "mail:deliver", "--lease", "nan"),
        ("outbox", "run", "--deliver", "mail:deliver", "--poll", "inf"),
        ("outbox", "run"),
        ("outbox", "revive", "ada"),
        ("erase", "ada@example.com"),
    ]

    for command, answer in zip(wrong, workspace.run_each(*wrong, environ={}), strict=True):
        assert (2, "") == (answer.code, answer.stdout), command
        assert re.fullmatch(
            rf"registration-persistence: .*; see registration-persistence {command[0]}[a-z ]* --help",
            one_line(answer.stderr),
        ), command


@pytest.mark.parametrize("command", ["migrate", "ping"])
def test_missing_variables_are_listed(command: str) -> None:
    """Without its variables a command ends with 2 and lists all of them."""
    done = run(command, code=2)

    assert done.stdout == ""
    assert [
        "registration-persistence: the database settings are wrong:",
        "  - APP_DATABASE_HOST is not set",
        "  - APP_DATABASE_NAME is not set",
        "  - APP_DATABASE_SECRET_ARN is not set",
    ] == [re.split(r"(?<=is not set):", line)[0] for line in done.stderr.splitlines()]


def test_all_wrong_variables_are_listed() -> None:
    """Each wrong variable has a line of its own, and none shows the password."""
    wrong = {**variables(5432), "APP_DATABASE_PORT": "many", "APP_DATABASE_SSLMODE": "on", "APP_ENVIRONMENT": "prod"}

    stderr = run("ping", environ=wrong, code=2).stderr

    for name in ("APP_DATABASE_PORT", "APP_DATABASE_SSLMODE", "APP_DATABASE_USER and APP_DATABASE_PASSWORD"):
        assert f"\n  - {name} " in stderr


@pytest.mark.parametrize("command", ["migrate", "ping"])
def test_an_unreachable_server_is_named(command: str) -> None:
    """If no server listens, a command ends with 1 and one line with the address."""
    line = one_line(run(command, environ={**variables(1), "APP_DATABASE_CONNECT_TIMEOUT": "2"}, code=1).stderr)

    assert line.startswith("registration-persistence: cannot connect to registration at 127.0.0.1:1: ")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"APP_DATABASE_PASSWORD": "wrong"}, "password authentication failed"),
        ({"APP_DATABASE_NAME": "nowhere"}, 'database "nowhere" does not exist'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_the_servers_reason_is_printed(empty_database: dict[str, str], changes: dict[str, str], reason: str) -> None:
    """If the server rejects the connection, the command ends with 1 and the server's reason."""
    assert reason in one_line(run("ping", environ=empty_database | changes, code=1).stderr)


def test_a_closed_pipe_ends_a_long_output() -> None:
    """`migrate --sql | head` ends without a traceback."""
    with subprocess.Popen(
        [*COMMAND, "migrate", "--sql"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        stderr = process.stderr.read()

    assert "Traceback" not in stderr


def test_a_closed_pipe_ends_a_short_output(workspace: Workspace) -> None:
    """Output that fits into the buffer is written at the end, and ends without a message if the pipe is closed."""
    with workspace.start("partitions") as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        stderr = process.stderr.read()

    assert (128 + signal.SIGPIPE, "") == (process.returncode, stderr)


def test_ctrl_c_ends_the_program_without_a_traceback() -> None:
    """At any moment: while the package is imported, and while the command waits for a server that never answers."""
    code = "import registration_persistence_command as command; print(flush=True); raise SystemExit(command.main())"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ = environment(variables(silent.getsockname()[1]))
        ends = []
        for seconds in (0.1, 0.4, 0.8, 1.6):
            process = subprocess.Popen([sys.executable, "-c", code, "ping"], env=environ, stdout=PIPE, stderr=PIPE)
            assert process.stdout
            assert process.stdout.readline() == b"\n"  # the interpreter has started
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            ends.append((*process.communicate(timeout=TIMEOUT_SECONDS), process.returncode))

    assert {(b"", b"")} == {end[:2] for end in ends}
    assert {end[2] for end in ends} <= {-signal.SIGINT, 128 + signal.SIGINT}
    assert ends[0][2] == -signal.SIGINT, "it was not interrupted in the import"


@pytest.mark.parametrize("ignored", [True, False])
def test_a_job_in_the_background_ignores_ctrl_c(*, ignored: bool) -> None:
    """As a shell asks for; otherwise Ctrl-C raises `KeyboardInterrupt` again when the command runs."""
    code = f"""
import signal, registration_persistence.cli, registration_persistence_command as command
signal.signal(signal.SIGINT, signal.{"SIG_IGN" if ignored else "default_int_handler"})
registration_persistence.cli.main = lambda: print(repr(signal.getsignal(signal.SIGINT)))
command.main()
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert ("SIG_IGN" if ignored else "default_int_handler") in output


def test_a_progress_bar_is_optional(workspace: Workspace) -> None:
    """Without rich, the commands with a progress bar do their work and show nothing in its place."""
    workspace.write("people.csv", "email\nada@example.com\n")

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM_WITHOUT_RICH],
        cwd=workspace.folder,
        env=environment(workspace.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=True,
    )

    assert "[0, 0, 0, 0]" == done.stdout.splitlines()[-1]
    assert "" == done.stderr
    assert 1 == workspace.value("SELECT count(*) FROM registrations")
