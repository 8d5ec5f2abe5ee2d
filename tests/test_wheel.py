"""The wheel and the sdist: their files, their description, and the use of the wheel without a checkout."""

import email
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from server_versions import local_kind

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
    """A server."""
    with open_server(local_kind()) as address:
        yield address


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, built from the checkout."""
    folder = tmp_path_factory.mktemp("sdist")
    run("hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (built,) = folder.glob("*.tar.gz")
    return built


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
    certificates = f"{PACKAGE}/database/certificates"
    assert {f"{certificates}/eu-west-1.pem", f"{certificates}/with_gateway/eu-west-1.pem"} <= found


def files(folder: Path) -> list[Path]:
    """Return the source files under *folder*."""
    return [file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts]


def test_the_sdist_contains_only_its_files(sdist: Path) -> None:
    """It contains the package, the migrations, and the files at the root that it needs, but no other README."""
    root = ("README.md", "CHANGELOG.md", "LICENSE", "alembic.ini", "hatch_build.py", "pyproject.toml", ".gitignore")
    expected = {
        *(str(file.relative_to(ROOT)) for folder in ("src", "migrations") for file in files(ROOT / folder)),
        *(*root, "PKG-INFO"),
    }

    with tarfile.open(sdist) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}

    assert expected == found


def test_a_wheel_from_the_sdist_is_the_same(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    """A wheel that is built from the sdist has the files and the metadata of one that is built from the checkout."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()

    run("hatchling", "build", "-t", "wheel", "-d", tmp_path / "again", cwd=source)

    (again,) = (tmp_path / "again").glob("*.whl")
    assert contents(again) == contents(wheel)


def contents(wheel: Path) -> dict[str, bytes]:
    """Return the content of each file of a wheel."""
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_description_has_no_relative_links(wheel: Path) -> None:
    """Each link of the description is an address in the repository, at a path that exists in the checkout."""
    (name,) = (name for name in contents(wheel) if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(contents(wheel)[name])
    urls = dict(url.split(", ") for url in metadata.get_all("Project-URL", []))
    description = str(metadata.get_payload())

    links = re.findall(r"\]\(([^)\s]+)\)", description)

    assert urls.keys() == {"Repository", "Documentation", "Changelog"}
    assert len(links) == len(re.findall(r"\]\(", (ROOT / "README.md").read_text(encoding="utf-8"))) > 30
    start = f"{urls['Repository']}/blob/main/"
    for link in (*links, urls["Documentation"], urls["Changelog"]):
        assert link.startswith(start)
        assert (ROOT / link.removeprefix(start).partition("#")[0]).exists(), link


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
