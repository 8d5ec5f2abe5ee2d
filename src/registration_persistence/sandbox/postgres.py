"""A PostgreSQL server of one's own on 127.0.0.1, from the binaries of a Python package or of the system."""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psycopg
from psycopg import sql

from registration_persistence.sandbox.binaries import LOOPBACK, LocalServerError, free_port
from registration_persistence.sandbox.server import PostgresServer

# The user that runs the server when we are root, as which PostgreSQL refuses to run: "nobody" by convention.
_NOBODY = 65534

_STARTS = 3

_REMOVALS = 20

# Seconds.
_LAST_WRITES = 0.05

# What others may do with a folder whose files they read.
_READ_AND_ENTER = 0o005

_SUPERUSER = "postgres"

_HBA = f"host all all {LOOPBACK}/32 scram-sha-256\nhost replication all {LOOPBACK}/32 scram-sha-256\n"

# Seconds until a server that was told something must have heard it.
_PATIENCE = 10.0

StopMode = Literal["fast", "immediate"]
"""`fast` ends the sessions and shuts down; `immediate` is a crash, after which the server recovers from its WAL."""


class LocalPostgres:
    """A server with TCP and SCRAM, in a folder that goes away with it; use it as a context manager.

    Args:
        binaries: The folder with `initdb` and `pg_ctl`.
        settings: More lines for `postgresql.conf`, by name.
        hba: The lines of `pg_hba.conf`; by default everybody on 127.0.0.1 logs in with a password.
        files: More files in the data folder, such as a certificate, by name; only the server can read them.
        standby_of: A running server, of which this one becomes a streaming copy that can be promoted. It has the
            settings, the roles and the passwords of that one.

    Attributes:
        address: Where it is, with its superuser.
    """

    def __init__(
        self,
        binaries: Path,
        *,
        settings: Mapping[str, str] | None = None,
        hba: str = _HBA,
        files: Mapping[str, bytes] | None = None,
        standby_of: "LocalPostgres | None" = None,
    ) -> None:
        self._binaries = binaries
        self._settings = {"fsync": "off", "listen_addresses": LOOPBACK, "unix_socket_directories": ""}
        self._settings |= settings or {}
        self._hba = hba
        self._files = files or {}
        self._source = standby_of
        self._folder: Path | None = None
        password = standby_of.address.password if standby_of else secrets.token_urlsafe(16)
        self.address: PostgresServer = PostgresServer(LOOPBACK, 0, _SUPERUSER, password)

    @property
    def psql(self) -> Path:
        """The `psql` that came with the server."""
        return self._binaries / "psql"

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> Self:
        """Make the server and start it, where a `with` block does not fit; `close` it then.

        Raises:
            LocalServerError: It cannot be made here, or does not start.
        """
        temporary = Path(tempfile.gettempdir())
        if os.geteuid() == 0 and not _readable_by_all(temporary):
            raise LocalServerError(
                f"PostgreSQL does not run as root, and {temporary} is closed to others: set TMPDIR to an open folder"
            )
        self._folder = Path(tempfile.mkdtemp(prefix="registration-postgres-", dir=temporary))
        try:
            self._make_programs_readable()
            if self._source is None:
                self._initialise()
            else:
                self._copy(self._source.address)
            self._start_on_a_free_port()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Stop the server, if it runs, and remove it with its data."""
        if self._folder is None:
            return
        try:
            if (self._data / "postmaster.pid").exists():
                self.stop("immediate")
        finally:
            for _ in range(_REMOVALS):  # the last processes of a server that was killed may still write
                shutil.rmtree(self._folder, ignore_errors=True)
                if not self._folder.exists():
                    break
                time.sleep(_LAST_WRITES)
            self._folder = None

    def start(self) -> None:
        """Start the server again, on the port that it had.

        Raises:
            LocalServerError: It does not start; the message has its log.
        """
        port = f"-c port={self.address.port}"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", self._data / "log", "-o", port, "start")

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and keep its data; see `StopMode`."""
        self._run("pg_ctl", "-D", self._data, "-m", mode, "-w", "stop")

    def restart(self, *, mode: StopMode = "fast", down_for: float = 0.0) -> None:
        """Stop the server, and start it *down_for* seconds later."""
        self.stop(mode)
        time.sleep(down_for)
        self.start()

    def promote(self) -> None:
        """Make a standby the primary; returns when it accepts writes."""
        self._run("pg_ctl", "-D", self._data, "-w", "promote")

    def configure(self, **settings: str | None) -> None:
        """Change settings that need no restart, for sessions that are open too; `None` is the default again.

        Returns when new sessions have the values. Those that are open take them up before their next statement.
        """
        with self.address.connect() as connection:
            before = _loaded(connection)
            for name, value in settings.items():
                verb = sql.SQL("RESET {}") if value is None else sql.SQL("SET {} = {}")
                connection.execute(sql.SQL("ALTER SYSTEM ") + verb.format(sql.Identifier(name), sql.Literal(value)))
            connection.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + _PATIENCE
        while True:
            with self.address.connect() as connection:
                if _loaded(connection) != before:
                    return
            if time.monotonic() > deadline:
                raise LocalServerError(f"the server did not take up {', '.join(settings)} within {_PATIENCE:g} s")
            time.sleep(0.01)

    @property
    def _data(self) -> Path:
        assert self._folder is not None
        return self._folder / "data"

    def _make_programs_readable(self) -> None:
        assert self._folder is not None
        self._own(self._folder)
        if os.geteuid() == 0 and not _readable_by_all(self._binaries):
            self._binaries = Path(
                shutil.copytree(self._binaries.parent, self._folder / "postgres", symlinks=True), self._binaries.name
            )

    def _copy(self, primary: PostgresServer) -> None:
        self._run(
            "pg_basebackup", "-D", self._data, "-h", primary.host, "-p", str(primary.port), "-U", primary.user,
            "-R", "-X", "stream", "-c", "fast", "--no-sync", "-C", "-S", f"standby_{secrets.token_hex(4)}",
            environment={"PGPASSWORD": primary.password},
        )  # fmt: skip

    def _initialise(self) -> None:
        assert self._folder is not None
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
            self.address = replace(self.address, port=free_port())
            try:
                self.start()
            except LocalServerError:
                if attempt == _STARTS:
                    raise
            else:
                return

    def _run(self, program: str, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> None:
        command: Sequence[str | Path] = [self._binaries / program, *arguments]
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            identity = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        with tempfile.TemporaryFile() as output:
            # Not a pipe: the server would hold it open for as long as it runs.
            process = subprocess.Popen(
                command,
                cwd="/",
                env={**os.environ, **(environment or {})},
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


def _loaded(connection: psycopg.Connection) -> datetime:
    """Return when the configuration that a session has was read."""
    (when,) = connection.execute("SELECT pg_conf_load_time()").fetchall()[0]
    assert isinstance(when, datetime)
    return when


def _readable_by_all(path: Path) -> bool:
    return all(folder.stat().st_mode & _READ_AND_ENTER == _READ_AND_ENTER for folder in (path, *path.parents))
