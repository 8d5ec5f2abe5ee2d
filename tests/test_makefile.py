"""`make` leaves no incomplete virtual environment behind, with a stand-in for Python."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Files in $STATE name the steps that fail. A new virtual environment has a copy of this program and a file `pip`.
PYTHON = """#!/bin/sh
for last; do :; done
venv=$(dirname "$0")/..
echo "$*" >>"$STATE/log"
env | grep '^P' >>"$STATE/variables"
case "$*" in
  *"import ensurepip"*) ! test -e "$STATE/no-ensurepip" || { echo "No module named ensurepip" >&2; exit 1; } ;;
  *"-m venv "*)
    mkdir -p "$last/bin" && cp "$0" "$last/bin/python"
    ! test -e "$STATE/venv-fails" || { echo "no space left" >&2; exit 1; }
    touch "$last/pip" ;;
  *"-m pip --version"*) test -e "$venv/pip" ;;
  *"-m pip "*)
    test -e "$venv/pip" || { echo "No module named pip" >&2; exit 1; }
    ! test -e "$STATE/install-is-killed" || kill -9 $PPID $$
    ! test -e "$STATE/install-fails" || { echo "no network" >&2; exit 1; } ;;
  *"/registration-persistence demo"*)
    echo "the demo runs"
    test "$(ps -o comm= -p $PPID)" = make || echo "its parent is not make" ;;
esac
"""


@dataclass(frozen=True)
class Checkout:
    """A copy of the Makefile, and the state of the stand-in."""

    folder: Path

    @property
    def venv(self) -> Path:
        """The virtual environment."""
        return self.folder / ".venv"

    def make(self, *arguments: str, failing: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `make` while the step *failing* fails."""
        if failing:
            (self.folder / failing).touch()
        done = subprocess.run(
            ["make", f"PYTHON={self.folder / 'python'}", *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "STATE": str(self.folder), **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        if failing:
            (self.folder / failing).unlink()
        return done

    def assert_demo_runs(self) -> None:
        """Run the demo, without an error."""
        done = self.make("demo")
        assert (done.returncode, done.stdout) == (0, "the demo runs\n"), done.stderr

    def calls(self, part: str) -> int:
        """Return the number of calls of the stand-in with *part* among their arguments."""
        return (self.folder / "log").read_text().count(part)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A working copy without a virtual environment."""
    for name in ("Makefile", "pyproject.toml", "requirements/local.txt", "infra/requirements.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return Checkout(tmp_path)


def test_a_missing_ensurepip_is_one_line(checkout: Checkout) -> None:
    """Debian's Python without python3-venv creates nothing, and the message names the package; then it works."""
    done = checkout.make("demo", failing="no-ensurepip")

    first, *_ = done.stderr.splitlines()
    assert first.endswith("cannot create a virtual environment: on Debian and Ubuntu, install the package python3-venv")
    assert not checkout.venv.exists()
    checkout.assert_demo_runs()


def test_a_virtual_environment_that_cannot_be_created_is_removed(checkout: Checkout) -> None:
    """If its creation fails halfway, nothing is left; then it works."""
    assert checkout.make("demo", failing="venv-fails").returncode == 2
    assert not checkout.venv.exists()
    checkout.assert_demo_runs()


@pytest.mark.parametrize(("venv", "target"), [(".venv", "demo"), ("infra/.venv", "infra/.venv/.installed")])
def test_a_virtual_environment_without_pip_is_created_again(checkout: Checkout, venv: str, target: str) -> None:
    """An incomplete virtual environment of an interrupted run is replaced."""
    programs = checkout.folder / venv / "bin"
    programs.mkdir(parents=True)
    shutil.copy(checkout.folder / "python", programs)

    done = checkout.make(target)

    assert done.returncode == 0, done.stderr
    assert (programs.parent / "pip").exists()


def test_a_failed_installation_is_repeated(checkout: Checkout) -> None:
    """After a failure of the network, the next run installs into the same virtual environment."""
    assert "no network" in checkout.make("demo", failing="install-fails").stderr
    checkout.assert_demo_runs()
    assert checkout.calls("-m venv") == 1
    checkout.assert_demo_runs()
    assert checkout.calls("--require-hashes") == 2


def test_a_killed_installation_starts_from_the_beginning(checkout: Checkout) -> None:
    """If pip and its shell were killed, packages may be incomplete, so that the virtual environment is replaced."""
    assert checkout.make("demo", failing="install-is-killed").returncode != 0
    checkout.assert_demo_runs()
    assert checkout.calls("-m venv") == 2


def test_the_shell_does_not_change_the_installation(checkout: Checkout) -> None:
    """Variables that lead pip or Python elsewhere are not passed on; those that name the index are."""
    foreign = {"PIP_TARGET": "/nowhere", "PIP_USER": "1", "PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"}
    foreign |= {"PYTHONDONTWRITEBYTECODE": "1"}

    checkout.make("demo", **foreign, PIP_INDEX_URL="https://example.com")

    seen = (checkout.folder / "variables").read_text()
    assert not [name for name in foreign if f"{name}=" in seen]
    assert "PIP_INDEX_URL=https://example.com" in seen


AUDIT = """#!/bin/sh
case "$*" in *--strict*--require-hashes*) ;; *) exit 0 ;; esac
for last; do :; done
echo "$last" >>"$STATE/audited"
! test -e "$STATE/no-answer" || { echo "$last: no answer" >&2; exit 1; }
! { test -e "$STATE/vulnerable" && test "$last" = requirements/local.txt; }
"""
NPM = """#!/bin/sh
echo "npm $*" >>"$STATE/audited"
! test -e "$STATE/npm-vulnerable"
"""


@pytest.mark.parametrize("failing", ["", "no-answer", "vulnerable", "npm-vulnerable"])
def test_an_audit_searches_every_list_and_fails_if_one_is_not_clean(checkout: Checkout, failing: str) -> None:
    """A vulnerability, or a service without an answer, makes the target fail, and the other lists are searched too."""
    for name in ("requirements/audit.txt", "infra/package-lock.json"):
        shutil.copy(ROOT / name, checkout.folder / name)
    for venv, name, program in ((".venv-audit", "pip-audit", AUDIT), ("infra/.venv", "npm", NPM)):
        programs = checkout.folder / venv / "bin"
        programs.mkdir(parents=True)
        shutil.copy(checkout.folder / "python", programs)
        (programs / name).write_text(program)
        (programs / name).chmod(0o755)
        (programs.parent / ".installed").touch()

    done = checkout.make("audit", failing=failing)

    assert done.returncode == (2 if failing else 0), done.stderr
    assert (checkout.folder / "audited").read_text().splitlines() == [
        "requirements/audit.txt",
        "requirements/local.txt",
        "infra/requirements.txt",
        "npm audit --package-lock-only",
    ]


def test_a_missing_python_is_one_line(checkout: Checkout) -> None:
    """The message says how to name another one."""
    (checkout.folder / "python").unlink()

    first, *_ = checkout.make("demo").stderr.splitlines()

    assert "is not installed: install Python 3.11 or newer" in first
