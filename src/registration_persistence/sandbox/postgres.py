"""A local PostgreSQL server on 127.0.0.1, with the programs of a Python package or of the system."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psycopg
from psycopg import sql

from registration_persistence.durations import Duration, bounded_seconds
from registration_persistence.sandbox.data_directory import DataDirectory
from registration_persistence.sandbox.errors import LocalServerError
from registration_persistence.sandbox.limits import raise_limits
from registration_persistence.sandbox.ports import LOOPBACK, free_port
from registration_persistence.sandbox.server import PostgresServer
from registration_persistence.sandbox.waiting import wait_until

# A port that was free may be in use when the server starts.
_MAX_START_ATTEMPTS = 3

_SUPERUSER = "postgres"

_PASSWORD_LOGIN = f"host all all {LOOPBACK}/32 scram-sha-256\nhost replication all {LOOPBACK}/32 scram-sha-256\n"

# The WAL would take 1 GiB of memory otherwise.
_IN_MEMORY = {"max_wal_size": "256MB"}

StopMode = Literal["fast", "immediate"]
"""`fast` ends the sessions and shuts down; `immediate` is a crash, after which the server recovers from its WAL."""


class LocalPostgres:
    """A server with TCP and SCRAM, whose data is removed when it is closed; use it as a context manager.

    Args:
        binaries: Folder with `initdb` and `pg_ctl`.
        settings: Further lines of `postgresql.conf`, by name; none by default.
        hba: Content of `pg_hba.conf`; by default every role logs in from 127.0.0.1 with its password.
        files: Content of further files in the data folder, by name, such as a certificate; none by default. Only the
            server can read them.
        standby_of: A running server, of which this one becomes a streaming standby that can be promoted; `None` by
            default. A standby has the settings, the roles and the passwords of its primary.
        in_memory: Whether the data is in `/dev/shm`, which makes tests with many databases faster, if at least 4 GiB
            are free there and `TMPDIR` is not set. Defaults to false; a standby is where its primary is.

    Attributes:
        server: Host, port and superuser of the server.
        in_memory: Whether the data is in memory if there is room.
    """

    def __init__(
        self,
        binaries: Path,
        *,
        settings: Mapping[str, str] | None = None,
        hba: str = _PASSWORD_LOGIN,
        files: Mapping[str, bytes] | None = None,
        standby_of: "LocalPostgres | None" = None,
        in_memory: bool = False,
    ) -> None:
        self._binaries = binaries
        self.in_memory: bool = standby_of.in_memory if standby_of else in_memory
        self._settings = {"fsync": "off", "listen_addresses": LOOPBACK, "unix_socket_directories": ""}
        self._settings |= {**(_IN_MEMORY if in_memory else {}), **(settings or {})}
        self._files: Mapping[str, str | bytes] = {"pg_hba.conf": hba, **(files or {})}
        self._primary = standby_of
        self._directory: DataDirectory | None = None
        password = standby_of.server.password if standby_of else secrets.token_urlsafe(16)
        self.server: PostgresServer = PostgresServer(LOOPBACK, 0, _SUPERUSER, password)

    @property
    def psql(self) -> Path:
        """The path of the `psql` that belongs to the server."""
        return self._binaries / "psql"

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> Self:
        """Create the server and start it, if a `with` block cannot be used; call `close` at the end.

        Raises:
            LocalServerError: The server cannot be created here, or does not start.
        """
        raise_limits()
        self._directory = DataDirectory(self._binaries, in_memory=self.in_memory)
        try:
            if self._primary is None:
                self._directory.initialise(self.server, self._settings, self._files)
            else:
                self._directory.copy_from(self._primary.server)
            self._start_on_a_free_port()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Stop the server if it runs, and remove it with its data."""
        if self._directory is None:
            return
        try:
            if self._directory.is_running:
                self.stop("immediate")
        finally:
            self._directory.remove()
            self._directory = None

    def start(self) -> None:
        """Start the server again, on the same port.

        Raises:
            LocalServerError: The server does not start; the message has its log.
            RuntimeError: The server is not open.
        """
        self._control("-o", f"-c port={self.server.port}", "start")

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and keep its data.

        Args:
            mode: `fast` ends the sessions and shuts down; `immediate` is a crash, after which the server recovers
                from its WAL. Defaults to `fast`.

        Raises:
            LocalServerError: The server does not stop; the message has its log.
            RuntimeError: The server is not open.
        """
        self._control("-m", mode, "stop")

    def restart(self, *, mode: StopMode = "fast", down_for: Duration = 0.0) -> None:
        """Stop the server and start it again.

        Args:
            mode: `fast` ends the sessions and shuts down; `immediate` is a crash, after which the server recovers
                from its WAL. Defaults to `fast`.
            down_for: Time between stop and start, as a `timedelta` or in seconds, 0 to a day. Defaults to 0.

        Raises:
            LocalServerError: The server does not stop or does not start; the message has its log.
            RuntimeError: The server is not open.
        """
        seconds = bounded_seconds(down_for, "down_for")
        self.stop(mode)
        time.sleep(seconds)
        self.start()

    def promote(self) -> None:
        """Promote a standby to a primary; return when it accepts writes.

        Raises:
            LocalServerError: The server is not a standby, or the promotion failed; the message has its log.
            RuntimeError: The server is not open.
        """
        self._control("promote")

    def configure(self, **settings: str | None) -> None:
        """Change settings that need no restart, also for open sessions; return when new sessions have the values.

        Open sessions have them before their next statement.

        Args:
            settings: The values by name; `None` restores the default.

        Raises:
            LocalServerError: The server has not loaded the settings after 10 s.
        """
        with self.server.connect() as connection:
            before = _load_time(connection)
            for name, value in settings.items():
                verb = sql.SQL("RESET {}") if value is None else sql.SQL("SET {} = {}")
                connection.execute(sql.SQL("ALTER SYSTEM ") + verb.format(sql.Identifier(name), sql.Literal(value)))
            connection.execute("SELECT pg_reload_conf()")

        def is_loaded() -> bool:
            with self.server.connect() as connection:
                return _load_time(connection) != before

        wait_until(is_loaded, f"the server has loaded {', '.join(settings)}")

    def _control(self, *arguments: str) -> None:
        if self._directory is None:
            raise RuntimeError("the server is not open: use it in a with block, or call open() first")
        self._directory.control(*arguments)

    def _start_on_a_free_port(self) -> None:
        for attempt in range(1, _MAX_START_ATTEMPTS + 1):
            self.server = replace(self.server, port=free_port())
            try:
                self.start()
            except LocalServerError:
                if attempt == _MAX_START_ATTEMPTS:
                    raise
            else:
                return


def _load_time(connection: psycopg.Connection) -> datetime:
    """Return when the configuration of this session was loaded."""
    (when,) = connection.execute("SELECT pg_conf_load_time()").fetchall()[0]
    assert isinstance(when, datetime)
    return when
