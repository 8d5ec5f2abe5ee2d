"""The wheel: its files, and its use without a checkout."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from registration_persistence.sandbox import PostgresServer
from registration_persistence.testing import open_server

ROOT = Path(__file__).parents[1]
PACKAGE = "registration_persistence"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    run("hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which only the wheel is installed."""
    folder = tmp_path_factory.mktemp("site")
    run(
        *("pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"),
        *("--target", folder, wheel),
        cwd=folder,
    )
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """The embedded server."""
    with open_server("embedded") as address:
        yield address


def run(module: str, *arguments: str | Path, cwd: Path, environ: dict[str, str] | None = None) -> str:
    """Run a module of this interpreter, which must succeed, and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env={"PATH": os.defpath, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_contains_the_package_and_the_migrations(wheel: Path) -> None:
    """It contains each file of the package and each migration, and no tests or caches."""
    expected = {
        *(str(file.relative_to(ROOT / "src")) for file in files(ROOT / "src" / PACKAGE)),
        *(f"{PACKAGE}/{file.relative_to(ROOT)}" for file in files(ROOT / "migrations")),
    }

    found = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert expected == found
    assert {f"{PACKAGE}/py.typed", f"{PACKAGE}/migrations/env.py"} <= found
    assert {f"{PACKAGE}/database/certificates/eu-west-1.pem"} <= found


def files(folder: Path) -> list[Path]:
    """Return the source files under *folder*."""
    return [file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts]


def test_the_wheel_contains_its_license_and_its_command(wheel: Path) -> None:
    """The wheel has the license and the entry point of `registration-persistence`."""
    with ZipFile(wheel) as archive:
        metadata = {name.partition(".dist-info/")[2]: name for name in archive.namelist() if ".dist-info/" in name}

        assert "licenses/LICENSE" in metadata
        assert (
            "registration-persistence = registration_persistence.cli:main"
            in archive.read(metadata["entry_points.txt"]).decode()
        )


def test_an_installed_wheel_migrates(site: Path, server: PostgresServer, tmp_path: Path) -> None:
    """Outside of the checkout, `migrate` creates the schema, and `check` finds no difference."""
    server.create_login("wheel", "made-up")
    server.create_database("wheel", owner="wheel")
    environ = {
        "PYTHONPATH": str(site),
        "APP_ENVIRONMENT": "test",
        "APP_DATABASE_HOST": server.host,
        "APP_DATABASE_PORT": str(server.port),
        "APP_DATABASE_NAME": "wheel",
        "APP_DATABASE_USER": "wheel",
        "APP_DATABASE_PASSWORD": "made-up",
        "APP_DATABASE_SSLMODE": "disable",
    }
    program = f"from {PACKAGE} import schema; print(schema.__file__, schema.alembic_configuration._migrations_folder())"
    paths = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=environ, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert paths == [str(site / PACKAGE / "schema" / "__init__.py"), str(site / PACKAGE / "migrations")]

    migrated = run(PACKAGE, "migrate", cwd=tmp_path, environ=environ)
    checked = run(PACKAGE, "check", cwd=tmp_path, environ=environ)

    assert migrated.startswith("the database is at revision ")
    assert "the database is at the newest revision and matches the models" in checked
    with server.connect("wheel") as connection:
        assert connection.execute("SELECT count(*) FROM registrations").fetchone() == (0,)
