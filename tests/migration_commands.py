"""The `alembic` command, and databases to migrate."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from registration_persistence import Database, DatabaseSettings

ROOT = Path(__file__).parents[1]
NewDatabase = Callable[..., DatabaseSettings]


@contextmanager
def opened(settings: DatabaseSettings) -> Iterator[Database]:
    """Open a `Database`, and dispose of its connections at the end."""
    database = Database(settings)
    try:
        yield database
    finally:
        database.engine.dispose()


def alembic(
    *arguments: str, environ: Mapping[str, str] | None = None, code: int = 0, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run `alembic` in an environment of PATH and *environ*; it must end with *code* and without a traceback."""
    program = Path(sys.executable).with_name("alembic")
    done = subprocess.run(
        [program, *arguments],
        cwd=folder,
        env={"PATH": f"{program.parent}:/usr/bin:/bin", **(environ or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def imported_packages(file: Path) -> set[str]:
    """Return the top-level packages that a Python file imports; a relative import starts with a dot."""
    imported = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or ""))
    return {name if name.startswith(".") else name.partition(".")[0] for name in imported}
