"""`doctor` as an operator types it: its lines, JSON, exit codes, and its output on a terminal."""

import io
import json
import subprocess

import pytest
from command_line import COMMAND, environment, run
from examined_service import Service

from registration_persistence.cli.doctor.check import Check, failed, listed, ok, skipped, warning
from registration_persistence.cli.doctor.printing import json_of, summary_of, text_of

FAILED = failed("port", "5432 at 10.0.0.7 " + "is silent " * 8, "open the security group " * 5)


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Return true."""
        return True


def test_each_check_is_a_line_and_the_exit_code_is_the_worst(service: Service) -> None:
    """The exit code is 0 with warnings, 1 after a failure, and 2 if the environment is wrong."""
    healthy = run("doctor", environ=service.environ).stdout.splitlines()
    broken = run("doctor", environ=service.with_password | {"APP_DATABASE_PORT": "1"}, code=1).stdout.splitlines()
    wrong = run("doctor", environ={}, code=2).stdout.splitlines()

    assert [line.split()[0] for line in healthy[:-1]] == [
        "warning" if "rotation" in line else "ok" for line in healthy[:-1]
    ]
    assert healthy[-1].startswith("20 ok, 1 warning in ")
    assert any(line.startswith("failed   port              1 at 127.0.0.1 refuses") for line in broken)
    assert "; fix: correct APP_DATABASE_PORT" in next(line for line in broken if line.startswith("failed"))
    assert {line.split()[0] for line in wrong[:-2]} == {"failed"}
    assert wrong[-2].split(maxsplit=1) == ["skipped", "other checks      the environment is wrong"]
    assert service.login.password not in "".join([*healthy, *broken])


def test_json_has_the_same_checks(service: Service) -> None:
    """The document has each check with its four fields, and the exit codes are the same."""
    done = run("doctor", "--json", environ=service.with_password | {"APP_DATABASE_PORT": "1"}, code=1)
    document = json.loads(done.stdout)

    assert {"checks", "seconds"} == set(document)
    assert all({"name", "state", "detail", "fix"} == set(check) for check in document["checks"])
    assert {"name": "TLS", "state": "skipped", "detail": "the check 'port' did not succeed", "fix": ""} in document[
        "checks"
    ]
    assert json.loads(run("doctor", "--json", environ={}, code=2).stdout)["checks"][0]["name"] == "environment"


def test_wrong_arguments_and_a_closed_pipe_give_no_traceback(service: Service) -> None:
    """A wrong time limit is wrong use, and a closed pipe ends the command as SIGPIPE would."""
    assert "from 1 to 600" in run("doctor", "--timeout", "0", code=2).stderr
    with subprocess.Popen(
        [*COMMAND, "doctor"], env=environment(service.with_password), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(30) == 141
        assert process.stderr.read() == b""


def test_a_terminal_gets_wrapped_lines_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines fit into the width; only a terminal gets colours, and NO_COLOR turns them off."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = text_of(FAILED, Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    plain = text_of(FAILED, Terminal())

    assert coloured.startswith("\x1b[31;1mfailed\x1b[0m   port ")
    assert coloured.removeprefix("\x1b[31;1mfailed\x1b[0m") == plain.removeprefix("failed")
    assert all(len(line) <= 80 for line in plain.splitlines())
    assert plain.splitlines()[1].startswith(" " * 27)
    assert any(line.strip().startswith("fix: open the security group") for line in plain.splitlines())
    assert len(text_of(FAILED, io.StringIO()).splitlines()) == 1


def test_results_are_on_one_printable_line() -> None:
    """Control characters and line breaks of a name or message are replaced, and long lists are cut off."""
    assert ok("a", "b\x1b[31m\n  c").detail == "b?[31m c"
    assert warning("a", "b", "c\nd").fix == "c d"
    assert skipped("a", "b") == Check("a", "skipped", "b")
    assert listed("abcdef") == "a; b; c; d; and 2 more"
    assert summary_of([ok("a", ""), skipped("b", "")], 0.26) == "1 ok, 1 skipped in 0.3 s"
    assert json.loads(json_of([ok("a", "é")], 1.0))["checks"][0]["detail"] == "é"
