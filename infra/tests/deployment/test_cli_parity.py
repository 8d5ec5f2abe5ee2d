"""`cdk synth`, the command line that is pinned: it writes what Python writes, needs no network, and fails in few words.

The CDK's command line reads cdk.json and Python does not, so that a flag can be in force in one and not in the other.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from app import build_app
from registration_infra import load

INFRA = Path(__file__).parents[2]
EXAMPLES = INFRA.parent / "examples"
CDK = INFRA / "node_modules" / ".bin" / "cdk"
# Node.js and Python of this virtual environment, as the Makefile has it.
BIN = INFRA / ".venv" / "bin"
PATH = f"{BIN}{os.pathsep}{os.environ['PATH']}"
# Where jsii unpacks the library, once for all runs.
CACHE = {"JSII_RUNTIME_PACKAGE_CACHE_ROOT": str(Path.home() / ".cache" / "aws" / "jsii" / "package-cache")}
STACKS = {"registration-dev-application", "registration-dev-database"}
# Interfaces of a new network: the loopback, which is down.
WITHOUT_NETWORK = ("unshare", "--net")


@dataclass(frozen=True)
class Synth:
    """How `cdk synth` ended, what it printed, and the folder that it wrote to."""

    code: int
    printed: str
    folder: Path


def synth(folder: Path, *context: str, infra: Path = INFRA, within: Sequence[str] = ()) -> Synth:
    """Run `cdk synth` with as little around it as it needs, and what it writes in *folder*."""
    output = folder / "cdk.out"
    command = [str(CDK), "synth", "--strict", "--no-lookups", "--quiet", "--output", str(output)]
    done = subprocess.run(
        [*within, *command, *(f"--context={each}" for each in context)],
        cwd=infra,
        env={**CACHE, "PATH": PATH, "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
        timeout=300,
    )
    return Synth(done.returncode, done.stdout, output)


def templates(folder: Path) -> dict[str, Any]:
    """Return the templates in *folder* by the names of their stacks."""
    return {
        path.name.removesuffix(".template.json"): json.loads(path.read_text(encoding="utf-8"))
        for path in folder.glob("*.template.json")
    }


@pytest.fixture
def without_network() -> Sequence[str]:
    """Return what a command is run within to have no network; CI must have it."""
    probe = [*WITHOUT_NETWORK, "true"]
    allowed = shutil.which("unshare") and not subprocess.run(probe, check=False, capture_output=True).returncode
    if not allowed:
        reason = "a network of its own takes root on Linux, and unshare of util-linux"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return WITHOUT_NETWORK


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Copy what `cdk synth` needs, so that it can be broken; the layer is not among it."""
    left_out = shutil.ignore_patterns("__pycache__")
    infra = tmp_path / "infra"
    for name in ("registration_infra", "environments", "migrate_function"):
        shutil.copytree(INFRA / name, infra / name, ignore=left_out)
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=left_out)
    for name in ("app.py", "cdk.json"):
        shutil.copy(INFRA / name, infra)
    return infra


def unacknowledge(infra: Path, rule: str) -> None:
    """Let nothing in *infra* acknowledge *rule*."""
    checks = infra / "registration_infra" / "nag.py"
    without = f"""

_all = acknowledged


def acknowledged(construct, config):
    return [(rule, reason) for rule, reason in _all(construct, config) if not rule.endswith("{rule}")]
"""
    checks.write_text(checks.read_text(encoding="utf-8") + without, encoding="utf-8")


def test_the_command_line_writes_what_python_writes(tmp_path: Path, without_network: Sequence[str]) -> None:
    """Each template is the same to the last value, with the CDK's command line in a place without any network."""
    run = synth(tmp_path, "environment=dev", "layer=stand-in", within=without_network)

    assert run.code == 0, run.printed
    config = load(INFRA / "environments" / "dev.toml")
    # Whether they are checked makes no difference to them.
    build_app(config, built=False, checked=False, outdir=tmp_path / "python").synth()
    assert templates(run.folder) == templates(tmp_path / "python")
    assert templates(run.folder).keys() == STACKS
    assert not list(INFRA.glob("cdk.context.json"))


def test_there_is_no_network(tmp_path: Path, without_network: Sequence[str]) -> None:
    """What the test above relies on: not even the machine itself can be reached."""
    program = tmp_path / "connect.py"
    program.write_text("import socket; socket.create_connection(('127.0.0.1', 9), 5)", encoding="utf-8")

    done = subprocess.run(
        [*without_network, BIN / "python", program], capture_output=True, encoding="utf-8", check=False
    )

    assert done.stderr.splitlines()[-1] == "OSError: [Errno 101] Network is unreachable"


def test_a_broken_rule_fails_the_synth(tmp_path: Path, copied: Path) -> None:
    """One rule that nothing acknowledges is enough; it is named, and there is no stack of Python's."""
    unacknowledge(copied, "RDS6")

    run = synth(tmp_path, "environment=dev", "layer=stand-in", infra=copied)

    assert run.code != 0
    assert {"RDS6"} == set(re.findall(r"AwsSolutions-(\w+)", run.printed))
    assert "Traceback" not in run.printed


def test_a_broken_rule_fails_python_too(tmp_path: Path, copied: Path) -> None:
    """Without the command line, which finds it by itself, `python app.py` fails as briefly."""
    unacknowledge(copied, "RDS6")
    context = json.dumps({"environment": "dev", "layer": "stand-in"})

    done = subprocess.run(
        [BIN / "python", "app.py"],
        cwd=copied,
        env={
            **CACHE,
            "PATH": PATH,
            "HOME": str(tmp_path),
            "CDK_OUTDIR": str(tmp_path / "out"),
            "CDK_CONTEXT_JSON": context,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
        timeout=300,
    )

    assert done.returncode == 1
    assert "AwsSolutions-RDS6" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_wrong_environment_fails_the_synth(tmp_path: Path, copied: Path) -> None:
    """A file with mistakes is one error that lists them."""
    dev = copied / "environments" / "dev.toml"
    dev.write_text(dev.read_text(encoding="utf-8").replace("max_capacity = 1\n", "speed = 3\n"), encoding="utf-8")

    run = synth(tmp_path, "environment=dev", infra=copied)

    assert run.code != 0
    assert f"{dev} is wrong:\n  - " in run.printed
    assert "speed" in run.printed
    assert "Traceback" not in run.printed
    assert not templates(run.folder)


def test_without_an_environment_the_synth_says_what_it_expects(tmp_path: Path) -> None:
    """There is no default of which somebody could deploy the wrong one."""
    run = synth(tmp_path)

    assert run.code != 0
    assert "the context has no environment: expected --context environment=NAME" in run.printed
    assert "Traceback" not in run.printed
    assert not templates(run.folder)


def test_without_the_layer_the_synth_says_what_makes_it(tmp_path: Path, copied: Path) -> None:
    """Nothing is deployed with a stand-in for the package: without the layer there is no template."""
    run = synth(tmp_path, "environment=dev", infra=copied)

    assert run.code != 0
    assert "infra/build/layer is wrong:\n  - it is not there: run make infra-build first" in run.printed
    assert "Traceback" not in run.printed
    assert not templates(run.folder)
