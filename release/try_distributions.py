"""Installs the wheel and the sdist into a new virtual environment, outside of the checkout, and checks that they work.

The dependencies are those of requirements/runtime.txt, with their hashes. The interpreter of this program is used.
"""

import argparse
import platform
import re
import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
_FILE = re.compile(r"registration_persistence-(?P<version>[^-]+)(?:-py3-none-any\.whl|\.tar\.gz)")
_PIP = ("-I", "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")
_LOCKED = ("--require-hashes", "--only-binary", ":all:", "--requirement")


class DoesNotWork(Exception):
    """A distribution cannot be installed or used; the message states the reason."""


def version_of(distribution: Path) -> str:
    """Return the version in the name of a file.

    Raises:
        DoesNotWork: The file is neither a wheel nor an sdist of this package.
    """
    named = _FILE.fullmatch(distribution.name)
    if named is None:
        raise DoesNotWork("this is neither a wheel nor an sdist of this package: run `make dist`")
    return named["version"]


def try_out(distribution: Path, environment: Path) -> None:
    """Install *distribution* into the virtual environment, check it, and remove it again.

    Raises:
        DoesNotWork: It cannot be installed, or the check finds a problem.
    """
    version = version_of(distribution)
    python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    # A wheel needs no build system, and an sdist the locked one.
    for name in ["runtime"] if distribution.suffix == ".whl" else ["runtime", "build"]:
        _run(environment, python, *_PIP, "install", "--no-compile", *_LOCKED, ROOT / "requirements" / f"{name}.txt")
    local = ("--no-deps", "--no-index", "--no-build-isolation")
    _run(environment, python, *_PIP, "install", "--no-compile", *local, distribution.resolve())
    _run(environment, python, *_PIP, "check")
    _run(environment, python, "-I", ROOT / "release" / "smoke.py", version)
    _run(environment, python, *_PIP, "uninstall", "--yes", "registration-persistence")


def _run(folder: Path, *command: str | Path) -> None:
    """Run a command in *folder*; `-I` keeps the variables of the caller from Python."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 fixed commands
    if done.returncode:
        raise DoesNotWork(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def main() -> int:
    """Try each file, print a line for it, and return 0; at the first that does not work, print why and return 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("distributions", nargs="*", type=Path, help="defaults to the files in dist/ of the checkout")
    distributions = parser.parse_args().distributions or sorted((ROOT / "dist").glob("registration_persistence-*"))
    if {file.suffix for file in distributions} != {".whl", ".gz"}:
        sys.stderr.write("expected a wheel and an sdist: run `make dist`, or name them\n")
        return 2
    machine = f"Python {platform.python_version()} on {platform.machine()}"
    with TemporaryDirectory() as folder:
        try:
            for distribution in distributions:
                version_of(distribution)
            venv.create(folder, with_pip=True)
            for distribution in sorted(distributions, key=lambda file: file.suffix, reverse=True):  # the wheel first
                try_out(distribution, Path(folder))
                sys.stdout.write(f"{distribution.name} works with {machine}\n")
        except DoesNotWork as problem:
            sys.stderr.write(f"{distribution.name}: {problem}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
