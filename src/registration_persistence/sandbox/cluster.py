"""A local cluster like Aurora's: a writer behind an endpoint, and the faults that it can have."""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from registration_persistence.clock import monotonic
from registration_persistence.durations import Duration, bounded_seconds
from registration_persistence.sandbox.binaries import embedded_binaries, system_binaries
from registration_persistence.sandbox.connection_slots import hold_slots
from registration_persistence.sandbox.ports import READER_LOOPBACK
from registration_persistence.sandbox.postgres import LocalPostgres
from registration_persistence.sandbox.server import PostgresServer
from registration_persistence.sandbox.tcp_proxy import TcpProxy
from registration_persistence.sandbox.waiting import wait_until
from registration_persistence.sandbox.wake_up import EarlyAttempts

# Few connections, because `fill_slots` opens them all. A standby retries often after its primary was away, because no
# commit is acknowledged before it is connected again.
_SETTINGS = {"max_connections": "60", "wal_retrieve_retry_interval": "100ms"}

_HAS_STANDBY = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')"


class LocalCluster:
    """A primary that clients reach through an endpoint, as in Aurora; use it as a context manager.

    Args:
        binaries: Folder with `initdb` and `pg_ctl`; by default that of the system, or the embedded one if the system
            has no PostgreSQL server.
        settings: Further lines of `postgresql.conf`, by name; none by default.
        in_memory: Whether the data is in `/dev/shm`, which makes tests with many databases faster, if at least 4 GiB
            are free there and `TMPDIR` is not set. Defaults to false.

    Attributes:
        primary: The server that accepts writes; `fail_over` replaces it.
        endpoint: The proxy to which clients connect; it can also close connections and lose replies.
        reader_endpoint: The proxy to the standby, if `add_reader` has opened it.

    Raises:
        LocalServerError: Neither the system nor the extra `local` has a PostgreSQL server; or, when the block is
            entered, the server does not start.
    """

    primary: LocalPostgres
    endpoint: TcpProxy
    reader_endpoint: TcpProxy | None = None

    def __init__(
        self, binaries: Path | None = None, *, settings: Mapping[str, str] | None = None, in_memory: bool = False
    ) -> None:
        self._binaries = binaries or system_binaries() or embedded_binaries()
        self._settings = {**_SETTINGS, **(settings or {})}
        self._in_memory = in_memory
        self._standby: LocalPostgres | None = None

    @property
    def server(self) -> PostgresServer:
        """Host and port of the endpoint, with the superuser."""
        return replace(self.primary.server, port=self.endpoint.port)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.primary = stack.enter_context(
                LocalPostgres(self._binaries, settings=self._settings, in_memory=self._in_memory)
            )
            server = self.primary.server
            self.endpoint = stack.enter_context(TcpProxy(server.host, server.port))
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
            stack.callback(self.remove_reader)

    def add_standby(self) -> LocalPostgres:
        """Start a synchronous standby: a commit is acknowledged only if the standby has it, as Aurora's storage does.

        Returns:
            The standby; if there is one already, that one.
        """
        if self._standby is None:
            self._standby = LocalPostgres(self._binaries, standby_of=self.primary).open()
            if self.reader_endpoint is not None:
                self.reader_endpoint.retarget(self._standby.server.host, self._standby.server.port)
            self.primary.configure(synchronous_standby_names="*")
            with self.primary.server.connect() as connection:
                # Commits wait for the standby as soon as the checkpointer has read the configuration; it does so
                # before this checkpoint.
                connection.execute("CHECKPOINT")
                wait_until(
                    lambda: connection.execute(_HAS_STANDBY).fetchone() == (True,),
                    "the standby replicates synchronously",
                )
        return self._standby

    def add_reader(self) -> TcpProxy:
        """Open the reader endpoint, which leads to the standby: 127.0.0.2, with the port of the endpoint.

        The standby has replayed all that was committed before.

        After `fail_over` it leads to the new primary, like Aurora's if there are no readers, and after the next
        `add_standby` to the new standby.

        Returns:
            The proxy of the reader endpoint; if there is one already, that one.
        """
        standby = self.add_standby().server
        self._wait_for_replay(standby)
        if self.reader_endpoint is None:
            proxy = TcpProxy(standby.host, standby.port, listen_on=(READER_LOOPBACK, self.endpoint.port))
            self.reader_endpoint = proxy.__enter__()
        return self.reader_endpoint

    def _wait_for_replay(self, standby: PostgresServer) -> None:
        with self.primary.server.connect() as writer, standby.connect() as reader:
            position = writer.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
            wait_until(
                lambda: reader.execute("SELECT pg_last_wal_replay_lsn() >= %s", position).fetchone() == (True,),
                "the standby has replayed every commit",
            )

    def remove_reader(self) -> None:
        """Close the reader endpoint if there is one; the standby stays."""
        if self.reader_endpoint is not None:
            self.reader_endpoint.__exit__(None, None, None)
            self.reader_endpoint = None

    def fail_over(self, *, switch_after: Duration = 3.0) -> float:
        """Crash the primary and promote the standby; can be called repeatedly.

        Every connection ends, and the endpoint refuses connections until it points to the new primary. Acknowledged
        commits are kept. The new primary has no standby.

        Args:
            switch_after: Time from the crash until the endpoint points to the new primary, like the delay of a DNS
                change, as a `timedelta` or in seconds, 0 to a day; 3 s by default. It is longer if the promotion takes
                longer.

        Returns:
            The seconds during which the endpoint refused connections.
        """
        delay = bounded_seconds(switch_after, "switch_after")
        standby = self.add_standby()
        self.endpoint.stop_accepting()
        started = monotonic()
        self.primary.stop("immediate")
        self.endpoint.cut()
        standby.promote()
        crashed, self.primary, self._standby = self.primary, standby, None
        crashed.close()
        time.sleep(max(0.0, started + delay - monotonic()))
        self.endpoint.retarget(standby.server.host, standby.server.port)
        self.endpoint.resume_accepting()
        return monotonic() - started

    def restart(self, *, down_for: Duration = 0.5) -> None:
        """Stop the primary, which ends every session, and start it again.

        Args:
            down_for: Time between stop and start, as a `timedelta` or in seconds, 0 to a day; 0.5 s by default.
        """
        seconds = bounded_seconds(down_for, "down_for")
        self.endpoint.stop_accepting()
        self.primary.stop()
        time.sleep(seconds)
        self.endpoint.resume_accepting()
        self.primary.start()

    def fill_slots(self, *, leave: int = 0) -> AbstractContextManager[int]:
        """Hold every connection slot that is free for ordinary roles until the block ends.

        Args:
            leave: The number of slots that stay free, 0 or more; 0 by default.

        Returns:
            A context manager that yields the number of held slots.

        Raises:
            ValueError: *leave* is negative.
        """
        if leave < 0:
            raise ValueError(f"leave is {leave}: expected 0 or more")
        return hold_slots(self.primary.server, leave=leave)

    def pause(self, *, wake_after: Duration = 15.0, early: EarlyAttempts = "held") -> AbstractContextManager[None]:
        """Pause until the block ends, or until a client has connected and the wake-up is over.

        Aurora pauses a cluster only if it has no session, so every session of a client of the endpoint ends. Sessions
        at the primary itself are not affected, and do not wake the cluster.

        Args:
            wake_after: Time from the first attempt to connect until the cluster answers, as a `timedelta` or in
                seconds, 0 to a day; 15 s by default, as Aurora usually needs, and 30 s or more after a day.
            early: The result of an attempt to connect before that: `held`, the default, answers it when the cluster
                is awake; `closed` closes it without an answer.

        Raises:
            TypeError, ValueError: *wake_after* is not a duration in its range, or *early* is another word; raised when
                the block begins.
            RuntimeError: The cluster is paused already; raised when the block begins.
        """
        return self.endpoint.pause(wake_after=wake_after, early=early)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Make the primary refuse writes until the block ends, like a demoted writer."""
        self.primary.configure(default_transaction_read_only="on")
        try:
            yield
        finally:
            self.primary.configure(default_transaction_read_only=None)

    def terminate_sessions(self, user: str | None = None) -> int:
        """End sessions on the server, and return their number.

        Args:
            user: Role whose sessions end; by default those of every role.
        """
        with self.primary.server.connect() as connection:
            ((count,),) = connection.execute(
                "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() "
                "AND usename = coalesce(%s, usename)",
                [user],
            ).fetchall()
        assert isinstance(count, int)
        return count
