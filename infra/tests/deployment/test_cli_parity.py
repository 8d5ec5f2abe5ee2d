"""`cdk synth` of the pinned command line: it writes the same templates as Python, without a network, with short errors.

The command line reads the feature flags from cdk.json; Python does not do this by itself, so the two could differ.
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
# The same path as in the Makefile: Node.js and Python of the virtual environment of infra/.
BIN = INFRA / ".venv" / "bin"
PATH = f"{BIN}{os.pathsep}{os.environ['PATH']}"
# The folder that jsii unpacks the library into, shared by all runs.
CACHE = {"JSII_RUNTIME_PACKAGE_CACHE_ROOT": str(Path.home() / ".cache" / "aws" / "jsii" / "package-cache")}
STACKS = {"registration-dev-application", "registration-dev-database"}
# The new network namespace has only a loopback interface, which is down.
WITHOUT_NETWORK = ("unshare", "--net")


@dataclass(frozen=True)
class Synth:
    """The exit code and output of `cdk synth`, and the folder that it wrote to."""

    code: int
    printed: str
    folder: Path


def synth(folder: Path, *context: str, infra: Path = INFRA, prefix: Sequence[str] = ()) -> Synth:
    """Run `cdk synth` with a minimal environment, and write the templates to *folder*."""
    output = folder / "cdk.out"
    command = [str(CDK), "synth", "--strict", "--no-lookups", "--quiet", "--output", str(output)]
    done = subprocess.run(
        [*prefix, *command, *(f"--context={each}" for each in context)],
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
    """Return the templates in *folder* by stack name."""
    return {
        path.name.removesuffix(".template.json"): json.loads(path.read_text(encoding="utf-8"))
        for path in folder.glob("*.template.json")
    }


@pytest.fixture
def without_network() -> Sequence[str]:
    """Return the command prefix that takes the network away; skip without root, except in CI."""
    probe = [*WITHOUT_NETWORK, "true"]
    allowed = shutil.which("unshare") and not subprocess.run(probe, check=False, capture_output=True).returncode
    if not allowed:
        reason = "a network namespace needs Linux, root, and unshare of util-linux"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return WITHOUT_NETWORK


@pytest.fixture
def infra_copy(tmp_path: Path) -> Path:
    """Return a copy of the files that `cdk synth` needs, without the layer, for tests that change them."""
    ignored = shutil.ignore_patterns("__pycache__")
    infra = tmp_path / "infra"
    for name in ("registration_infra", "environments", "migrate_function", "rotate_function"):
        shutil.copytree(INFRA / name, infra / name, ignore=ignored)
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=ignored)
    for name in ("app.py", "cdk.json"):
        shutil.copy(INFRA / name, infra)
    return infra


def unacknowledge(infra: Path, rule: str) -> None:
    """Remove the acknowledgements of *rule* from *infra*."""
    checks = infra / "registration_infra" / "nag.py"
    without = f"""

_all = accepted_findings


def accepted_findings(construct, config):
    return [(rule, reason) for rule, reason in _all(construct, config) if not rule.endswith("{rule}")]
"""
    checks.write_text(checks.read_text(encoding="utf-8") + without, encoding="utf-8")


def test_command_line_and_python_write_the_same_templates(tmp_path: Path, without_network: Sequence[str]) -> None:
    """`cdk synth` without a network and `build_app` write equal templates."""
    run = synth(tmp_path, "environment=dev", "layer=placeholder", prefix=without_network)

    assert run.code == 0, run.printed
    config = load(INFRA / "environments" / "dev.toml")
    # The checks do not change the templates.
    build_app(config, require_layer=False, run_checks=False, outdir=tmp_path / "python").synth()
    assert templates(run.folder) == templates(tmp_path / "python")
    assert templates(run.folder).keys() == STACKS
    assert not list(INFRA.glob("cdk.context.json"))


def test_network_is_absent(tmp_path: Path, without_network: Sequence[str]) -> None:
    """The prefix of the previous test takes the network away: even the loopback address cannot be reached."""
    program = tmp_path / "connect.py"
    program.write_text("import socket; socket.create_connection(('127.0.0.1', 9), 5)", encoding="utf-8")

    done = subprocess.run(
        [*without_network, BIN / "python", program], capture_output=True, encoding="utf-8", check=False
    )

    assert done.stderr.splitlines()[-1] == "OSError: [Errno 101] Network is unreachable"


@pytest.mark.nightly
def test_finding_fails_the_synth(tmp_path: Path, infra_copy: Path) -> None:
    """One unacknowledged finding fails `cdk synth`, which names it without a traceback."""
    unacknowledge(infra_copy, "RDS6")

    run = synth(tmp_path, "environment=dev", "layer=placeholder", infra=infra_copy)

    assert run.code != 0
    assert {"RDS6"} == set(re.findall(r"AwsSolutions-(\w+)", run.printed))
    assert "Traceback" not in run.printed


@pytest.mark.nightly
def test_finding_fails_the_app(tmp_path: Path, infra_copy: Path) -> None:
    """The app itself, started with the command of cdk.json, also fails without a traceback."""
    unacknowledge(infra_copy, "RDS6")
    context = json.dumps({"environment": "dev", "layer": "placeholder"})

    done = subprocess.run(  # noqa: S602 the command line of the CDK uses a shell too
        json.loads((infra_copy / "cdk.json").read_text(encoding="utf-8"))["app"],
        shell=True,
        cwd=infra_copy,
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


def test_wrong_environment_file_fails_the_synth(tmp_path: Path, infra_copy: Path) -> None:
    """The error lists the mistakes in the environment file, and no template is written."""
    dev = infra_copy / "environments" / "dev.toml"
    dev.write_text(dev.read_text(encoding="utf-8").replace("max_capacity = 1\n", "speed = 3\n"), encoding="utf-8")

    run = synth(tmp_path, "environment=dev", infra=infra_copy)

    assert run.code != 0
    assert f"{dev} is wrong:\n  - " in run.printed
    assert "speed" in run.printed
    assert "Traceback" not in run.printed
    assert not templates(run.folder)


@pytest.mark.nightly
def test_missing_environment_fails_the_synth(tmp_path: Path) -> None:
    """There is no default environment, which could be deployed by mistake."""
    run = synth(tmp_path)

    assert run.code != 0
    assert "the context has no environment: expected --context environment=NAME" in run.printed
    assert "Traceback" not in run.printed
    assert not templates(run.folder)


@pytest.mark.nightly
def test_missing_layer_fails_the_synth(tmp_path: Path, infra_copy: Path) -> None:
    """Without the layer no template is written, and the error names the command that builds it."""
    run = synth(tmp_path, "environment=dev", infra=infra_copy)

    assert run.code != 0
    assert "infra/build/layer is wrong:\n  - it does not exist: run make infra-build first" in run.printed
    assert "Traceback" not in run.printed
    assert not templates(run.folder)
