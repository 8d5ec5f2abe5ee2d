"""The wheel and the sdist: their files, their description, and the use of the wheel without a checkout."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
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
        "registration_persistence_command.py",
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
    """A wheel that is built from the sdist has the same bytes as one that is built from the checkout."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()

    run("hatchling", "build", "-t", "wheel", "-d", tmp_path / "again", cwd=source)

    (again,) = (tmp_path / "again").glob("*.whl")
    assert again.read_bytes() == wheel.read_bytes()


@pytest.fixture
def environment(wheel: Path, tmp_path: Path) -> Path:
    """A virtual environment with the wheel, and with the dependencies of this one."""
    folder = tmp_path / "environment"
    venv.create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    dependencies = Path(pytest.__file__).parents[1]
    (packages / "dependencies.pth").write_text(f"{dependencies}\n")
    run(
        *("pip", "--python", folder / "bin" / "python", "--disable-pip-version-check", "--quiet"),
        *("install", "--no-deps", "--no-index", "--no-compile", wheel),
        cwd=tmp_path,
    )
    return folder


def test_a_wheel_that_does_not_work_is_found(environment: Path, tmp_path: Path) -> None:
    """The check of the workflows passes, and reports each fault: files, names, migrations, version and command."""
    (package,) = environment.glob(f"lib/python*/site-packages/{PACKAGE}")

    def check(version: str = "0.1.0") -> tuple[int, str]:
        command: list[str | Path] = [environment / "bin" / "python", "-I", ROOT / "release" / "smoke.py", version]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    assert check() == (0, "")
    (package / "py.typed").unlink()
    shutil.rmtree(package / "migrations" / "versions")
    (package / "repositories" / "consents.py").unlink()
    (environment / "bin" / "registration-persistence").unlink()
    code, found = check("0.1.1")

    assert code == 1
    for problem in (
        "version 0.1.0 is installed: expected 0.1.1",
        "registration_persistence.ConsentRepository cannot be imported",
        "py.typed is missing",
        "have 0 newest revisions: expected 1",
        "registration-persistence does not exist",
    ):
        assert problem in found


def contents(wheel: Path) -> dict[str, bytes]:
    """Return the content of each file of a wheel."""
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_description_has_no_relative_links(wheel: Path) -> None:
    """Each link and picture leads to the tag of the version, at a path that exists in the checkout."""
    (name,) = (name for name in contents(wheel) if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(contents(wheel)[name])
    urls = dict(url.split(", ") for url in metadata.get_all("Project-URL", []))
    description = str(metadata.get_payload())

    links = re.findall(r"(!?)\[[^]]*\]\(([^)\s]+)\)", description)

    assert metadata["Metadata-Version"] == "2.4"
    assert urls.keys() == {"Repository", "Documentation", "Changelog"}
    assert len(links) == len(re.findall(r"\]\(", (ROOT / "README.md").read_text(encoding="utf-8"))) > 30
    assert "!" in {mark for mark, _ in links}
    for mark, link in links:
        start = f"{urls['Repository']}/{'raw' if mark else 'blob'}/v{metadata['Version']}/"
        assert link.startswith(start)
        assert (ROOT / link.removeprefix(start).partition("#")[0]).exists(), link
    for name in ("Documentation", "Changelog"):
        start = f"{urls['Repository']}/blob/main/"
        assert urls[name].startswith(start)
        assert (ROOT / urls[name].removeprefix(start)).exists()


def test_the_wheel_contains_its_license_and_its_command(wheel: Path) -> None:
    """The wheel has the license and the entry point of `registration-persistence`."""
    with ZipFile(wheel) as archive:
        metadata = {name.partition(".dist-info/")[2]: name for name in archive.namelist() if ".dist-info/" in name}

        assert "licenses/LICENSE" in metadata
        assert (
            "registration-persistence = registration_persistence_command:main"
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
