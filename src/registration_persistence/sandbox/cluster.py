"""A cluster like Aurora's on this machine: a writer behind an endpoint, and what goes wrong with it."""

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from registration_persistence.sandbox.binaries import LocalServerError, embedded_binaries, system_binaries
from registration_persistence.sandbox.postgres import LocalPostgres
from registration_persistence.sandbox.server import PostgresServer
from registration_persistence.sandbox.tcp_proxy import TcpProxy

# Few connections, because `fill_slots` opens them all. A standby looks often whether its primary is back, because no
# commit is acknowledged before that.
_SETTINGS = {"max_connections": "60", "wal_retrieve_retry_interval": "100ms"}

# What the server says with 53300; an attempt to connect that failed has no field with the code.
_FULL = ("remaining connection slots", "too many clients")

# Seconds that the servers may take for what they do in the background.
_PATIENCE = 10.0


class LocalCluster:
    """A primary that clients reach through an endpoint, as in Aurora; use it as a context manager.

    Args:
        binaries: The folder with `initdb` and `pg_ctl`; by default the system's, and where it has none, the embedded.
        settings: More lines for `postgresql.conf`, by name.

    Attributes:
        primary: The server that accepts writes; `fail_over` makes it another one.
        endpoint: What clients connect to; also cuts connections and loses replies.
    """

    primary: LocalPostgres
    endpoint: TcpProxy

    def __init__(self, binaries: Path | None = None, *, settings: Mapping[str, str] | None = None) -> None:
        self._binaries = binaries or system_binaries() or embedded_binaries()
        self._settings = {**_SETTINGS, **(settings or {})}
        self._standby: LocalPostgres | None = None

    @property
    def address(self) -> PostgresServer:
        """Where clients connect, with the superuser."""
        return replace(self.primary.address, port=self.endpoint.port)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.primary = stack.enter_context(LocalPostgres(self._binaries, settings=self._settings))
            address = self.primary.address
            self.endpoint = stack.enter_context(TcpProxy(address.host, address.port))
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            stack.callback(self.primary.close)
            if self._standby is not None:
                stack.callback(self._standby.close)
            stack.push(self.endpoint)

    def add_standby(self) -> LocalPostgres:
        """Start a standby; from now on no commit is acknowledged that it does not have, as Aurora's storage promises.

        Returns:
            The standby; the one that there was, where there was one.
        """
        if self._standby is None:
            self._standby = LocalPostgres(self._binaries, standby_of=self.primary).open()
            self.primary.configure(synchronous_standby_names="*")
            with self.primary.address.connect() as connection:
                # Commits begin to wait when the checkpointer has read the configuration, which it does before this.
                connection.execute("CHECKPOINT")
                _until(connection, "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')")
        return self._standby

    def fail_over(self, *, switch_after: float = 3.0) -> float:
        """Crash the primary and make the standby the new one; can be called again and again.

        Every connection ends, and the endpoint accepts nobody until it points to the new primary. What was
        acknowledged is kept. The new primary has no standby.

        Args:
            switch_after: Seconds from the crash until the endpoint points to the new primary, as an address in DNS is
                slow to change; promotion may take longer.

        Returns:
            The seconds that the endpoint was away.
        """
        standby = self.add_standby()
        self.endpoint.close_door()
        started = time.monotonic()
        self.primary.stop("immediate")
        self.endpoint.cut()
        standby.promote()
        crashed, self.primary, self._standby = self.primary, standby, None
        crashed.close()
        time.sleep(max(0.0, started + switch_after - time.monotonic()))
        self.endpoint.retarget(standby.address.host, standby.address.port)
        self.endpoint.open_door()
        return time.monotonic() - started

    def restart(self, *, down_for: float = 0.5) -> None:
        """Stop the primary, which ends every session, and start it *down_for* seconds later."""
        self.endpoint.close_door()
        self.primary.stop()
        time.sleep(down_for)
        self.endpoint.open_door()
        self.primary.start()

    @contextmanager
    def fill_slots(self, *, leave: int = 0) -> Iterator[int]:
        """Hold every connection slot that is free for ordinary roles, until the block ends; yields how many.

        Args:
            leave: Slots that stay free.
        """
        if leave < 0:
            raise ValueError(f"leave is {leave}: expected 0 or more")
        role, password = f"slots_{secrets.token_hex(4)}", secrets.token_urlsafe(16)
        server = self.primary.address
        server.create_login(role, password)
        ours = "SELECT count(*) = %(count)s FROM pg_stat_activity WHERE usename = %(role)s"
        with server.connect() as watch:
            held: list[psycopg.Connection] = []
            try:
                _fill(replace(server, user=role, password=password), held)
                while leave and held:
                    held.pop().close()
                    leave -= 1
                _until(watch, ours, {"count": len(held), "role": role})
                yield len(held)
            finally:
                for connection in held:
                    connection.close()
                _until(watch, ours, {"count": 0, "role": role})
                watch.execute(f"DROP ROLE {role}")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Let the primary refuse writes until the block ends, as a writer does that was demoted."""
        self.primary.configure(default_transaction_read_only="on")
        try:
            yield
        finally:
            self.primary.configure(default_transaction_read_only=None)

    def terminate_sessions(self, user: str | None = None) -> int:
        """End the sessions of *user*, by default everybody's, and return how many there were."""
        with self.primary.address.connect() as connection:
            ((count,),) = connection.execute(
                "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() "
                "AND usename = coalesce(%s, usename)",
                [user],
            ).fetchall()
        assert isinstance(count, int)
        return count


def _fill(address: PostgresServer, held: list[psycopg.Connection]) -> None:
    while True:
        try:
            held.append(address.connect())
        except psycopg.OperationalError as error:
            if not any(words in str(error) for words in _FULL):
                raise
            return


def _until(connection: psycopg.Connection, question: str, parameters: Mapping[str, object] | None = None) -> None:
    deadline = time.monotonic() + _PATIENCE
    while connection.execute(question.encode(), parameters).fetchone() != (True,):
        if time.monotonic() > deadline:
            raise LocalServerError(f"the server did not get there within {_PATIENCE:g} s: {question}")
        time.sleep(0.01)
