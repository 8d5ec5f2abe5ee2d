"""Checks an installed package: its files, its types, its migrations and its command.

The program is run with `-I` by the interpreter of the environment that has the package, in a folder outside of the
checkout. It prints a line per problem and ends with 1 if there is one.
"""

import importlib
import importlib.metadata
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

PACKAGE = "registration_persistence"
DISTRIBUTION = "registration-persistence"
PUBLIC_MODULES = ("database", "errors", "models", "outcomes", "schema")


def problems(version: str) -> Iterator[str]:
    """Yield the problems of the installed package, which should have this *version*."""
    package = importlib.import_module(PACKAGE)
    folder = Path(str(package.__file__)).parent
    if not folder.is_relative_to(sysconfig.get_path("purelib")):
        yield f"{PACKAGE} was imported from {folder}: expected the site-packages of {sys.prefix}"
    installed = importlib.metadata.version(DISTRIBUTION)
    if installed != version:
        yield f"version {installed} is installed: expected {version}"
    yield from _import_problems(package)
    for name in PUBLIC_MODULES:
        importlib.import_module(f"{PACKAGE}.{name}")
    yield from (f"{name} is missing" for name in ("py.typed", "migrations/env.py") if not (folder / name).is_file())
    yield from _schema_problems(folder / "migrations")
    yield from _command_problems(version)


def _import_problems(package: ModuleType) -> Iterator[str]:
    """Yield each public name that cannot be imported, unless the error names the extra that it needs."""
    for name in package.__all__:
        try:
            getattr(package, name)
        except ImportError as error:
            if f"{DISTRIBUTION}[" not in str(error):
                yield f"{PACKAGE}.{name} cannot be imported: {error}"
        except AttributeError:
            yield f"{PACKAGE}.{name} is in __all__ and does not exist"


def _schema_problems(migrations: Path) -> Iterator[str]:
    """Yield a problem if Alembic does not find exactly one newest revision in the folder *migrations*."""
    from alembic.script import ScriptDirectory

    heads = ScriptDirectory(str(migrations)).get_heads() if migrations.is_dir() else []
    if len(heads) != 1:
        yield f"the migrations in {migrations} have {len(heads)} newest revisions: expected 1"


def _command_problems(version: str) -> Iterator[str]:
    """Yield each command that does not work: the script, and the package as a module."""
    script = str(Path(sysconfig.get_path("scripts"), DISTRIBUTION))
    module = (sys.executable, "-I", "-m", PACKAGE)
    for expected, command in (
        (f"{version}\n", (script, "--version")),
        ("usage: ", (script, "migrate", "--help")),
        (f"{version}\n", (*module, "--version")),
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 fixed commands
        except FileNotFoundError:
            yield f"{command[0]} does not exist"
        else:
            if done.returncode or not done.stdout.startswith(expected) or done.stderr:
                yield f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}"


def main() -> int:
    """Check the version that the first argument names; return the exit code."""
    found = list(problems(sys.argv[1]))
    sys.stderr.write("".join(f"{problem}\n" for problem in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
