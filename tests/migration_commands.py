"""The `alembic` command, and databases to migrate."""

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


def environment(settings: DatabaseSettings) -> dict[str, str]:
    """Return the variables of a database."""
    return {
        "APP_ENVIRONMENT": "test",
        "APP_DATABASE_HOST": settings.host,
        "APP_DATABASE_PORT": str(settings.port),
        "APP_DATABASE_NAME": settings.name,
        "APP_DATABASE_USER": settings.user or "",
        "APP_DATABASE_PASSWORD": settings.password or "",
        "APP_DATABASE_SSLMODE": settings.sslmode,
    }


def alembic(*arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `alembic` at the root of the repository in an environment of PATH and *environ*."""
    program = Path(sys.executable).with_name("alembic")
    done = subprocess.run(
        [program, *arguments],
        cwd=ROOT,
        env={"PATH": f"{program.parent}:/usr/bin:/bin", **(environ or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done
