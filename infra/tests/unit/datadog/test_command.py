"""`datadog.command`: the arguments, the output without `--apply`, and the exit codes."""

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
from datadog import command as command_module
from datadog_command import INFRA, Command
from fake_datadog import KEYS, FakeDatadog


def test_no_installed_distribution_has_the_same_name() -> None:
    """`datadog` on the import path is ours and hides no other package that an installed one could need."""
    assert "datadog" not in packages_distributions()


def test_without_apply_there_is_no_network() -> None:
    """`python -m datadog` in infra/ resolves no name, connects to nothing, and reports that it sent nothing."""
    guarded = (
        "import os, runpy, sys\n"
        "def hook(event, _):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'socket.sendto'):\n"
        "        os.write(2, event.encode()); os._exit(99)\n"
        "sys.addaudithook(hook)\n"
        "sys.argv[1:] = ['--environment', 'dev']\n"
        "runpy.run_module('datadog', run_name='__main__', alter_sys=True)\n"
    )

    ran = subprocess.run(
        [sys.executable, "-c", guarded], capture_output=True, text=True, env={}, cwd=INFRA, check=False
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert "17 checked for dev, none sent" in ran.stdout
    assert re.search(r"^monitor +connections +avg\(last_15m\):.* > 151$", ran.stdout, re.MULTILINE)


def test_without_apply_datadog_is_not_asked(command: Command, datadog: FakeDatadog) -> None:
    """Without `--apply` nothing is listed, although the keys are set."""
    code = command_module.main(["--environment", "dev"], infra=command.infra, environ=KEYS, host=datadog.host)

    assert (code, datadog.requests) == (0, [])


def test_each_message_ends_with_the_recipients(command: Command) -> None:
    """Each monitor notifies the given recipients; without any, a line says that no alert will notify anyone."""
    code, out, _ = command.run("--notify", "@slack-a", "--notify", "@b@example.org", "--json")
    assert code == 0
    for one in json.loads(out)[:-1]:
        assert one["body"]["message"].endswith("\n\n@slack-a @b@example.org")

    assert "no alert will notify anyone" in command.run()[1]
    for one in json.loads(command.run("--json")[1])[:-1]:
        assert one["body"]["message"] == one["body"]["message"].strip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--environment", "qa"), '--environment is "qa": expected one of dev, staging, prod'),
        (("--environment", "../prod"), '--environment is "../prod": expected one of dev, staging, prod'),
        (("--notify", "ops"), '--notify is "ops": expected a Datadog handle'),
        (("--notify", "@${cluster}"), '--notify is "@${cluster}": expected a Datadog handle'),
    ],
)
def test_a_wrong_argument_is_rejected(command: Command, arguments: tuple[str, ...], message: str) -> None:
    """A wrong environment or recipient is rejected with its name, value and rule."""
    (problem,) = command.problems(*arguments)

    assert problem.startswith(message)


def test_an_invalid_environment_file_is_rejected(command: Command) -> None:
    """The problems of the environment's file are reported in the same words as by the CDK app."""
    command.edit_environment("max_capacity = 1", "max_capacity = 0.5")

    code, _, err = command.run()

    assert code == 2
    assert "dev.toml is wrong:" in err
    assert "max_capacity is 0.5: expected" in err


def test_an_environment_without_a_cluster_is_rejected(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the stack uses an existing database, there is no cluster to watch."""

    class ExistingDatabase:
        name = "dev"
        provision_aurora = False
        aurora = None

    monkeypatch.setattr(command_module, "load", lambda _path: ExistingDatabase())

    (problem,) = command.problems()

    assert problem == (
        "environments/dev.toml: provision_aurora is false: expected true, "
        "because only a cluster of this stack can be watched"
    )
