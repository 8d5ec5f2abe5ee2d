"""`doctor` as an operator types it: its lines, JSON, exit codes, and its output on a terminal."""

import io
import json
import re
import subprocess

import pytest
from command_line import COMMAND, environment, run, run_each
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
    """With warnings only the exit code is 0, and the last line counts the states."""
    *lines, summary = run("doctor", environ=service.environ).stdout.splitlines()

    states = {line[9:26].strip(): line.split()[0] for line in lines}
    # The support of the version depends on the day.
    assert {"rotation"} == {name for name, state in states.items() if state != "ok" and name != "version"}
    assert re.match(r"(20 ok, 1 warning|19 ok, 2 warnings) in \d", summary)
    assert service.login.password not in "".join(lines)


def test_a_failure_is_one_line_with_its_fix_and_the_same_in_json(service: Service) -> None:
    """After a failure the exit code is 1; the document has each check with its four fields."""
    (text, document), errors = run_each(
        ["doctor"], ["doctor", "--json"], environ=service.with_password | {"APP_DATABASE_PORT": "1"}
    )
    checks = json.loads(document.stdout)["checks"]

    assert ([1, 1], "") == ([text.code, document.code], errors)
    (failure,) = (line for line in text.stdout.splitlines() if line.startswith("failed"))
    assert failure.startswith("failed   port              1 at 127.0.0.1 refuses connections")
    assert "; fix: correct APP_DATABASE_PORT" in failure
    assert all({"name", "state", "detail", "fix"} == set(check) for check in checks)
    assert [check["name"] for check in checks] == [line[9:26].strip() for line in text.stdout.splitlines()[:-1]]
    assert {"name": "TLS", "state": "skipped", "detail": "the check 'port' did not succeed", "fix": ""} in checks


def test_wrong_use_is_told_apart_from_a_failure() -> None:
    """If the environment or an argument is wrong, the exit code is 2."""
    (text, document, argument), _ = run_each(["doctor"], ["doctor", "--json"], ["doctor", "--timeout", "0"])

    assert [2, 2, 2] == [text.code, document.code, argument.code]
    *problems, other, _summary = text.stdout.splitlines()
    assert {"failed   environment"} == {line[:20] for line in problems}
    assert other.split(maxsplit=1) == ["skipped", "other checks      the environment is wrong"]
    assert json.loads(document.stdout)["checks"][0]["name"] == "environment"
    assert "from 1 to 600" in argument.stderr


def test_a_closed_pipe_gives_no_traceback(service: Service) -> None:
    """A closed pipe ends the command as SIGPIPE would."""
    with subprocess.Popen(
        [*COMMAND, "doctor"], env=environment(service.with_password), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(60) == 141
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
    assert listed(["SELECT 1;", "SELECT 2;"]) == "SELECT 1; SELECT 2;"
    assert summary_of([ok("a", ""), skipped("b", "")], 0.26) == "1 ok, 1 skipped in 0.3 s"
    assert json.loads(json_of([ok("a", "é")], 1.0))["checks"][0]["detail"] == "é"
