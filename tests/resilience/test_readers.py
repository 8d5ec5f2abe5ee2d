"""Read-only sessions use a reader, and the writer if no reader answers; sessions that write never get a reader."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from threading import Event, Thread
from typing import Any, Self

import pytest
from psycopg.errors import ReadOnlySqlTransaction
from resilience.standbys import all_slots_held
from sqlalchemy import text
from sqlalchemy.exc import InternalError
from sqlalchemy.orm import Session

from registration_persistence import Database, RegistrationRepository, deadline
from registration_persistence.clock import monotonic
from registration_persistence.errors import ConnectionLost, TransactionConflict
from registration_persistence.outcomes import Registered
from registration_persistence.sandbox import LocalPostgres, TcpProxy, wait_until
from registration_persistence.testing import FailOver, RegistrationEnvironment, Rotate


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reader endpoint be tried often."""
    for name, seconds in {"_FIRST_PAUSE_SECONDS": 0.2, "_MAX_PAUSE_SECONDS": 0.5}.items():
        monkeypatch.setattr(f"registration_persistence.database.reader_login.{name}", seconds)


def new_database(environment: RegistrationEnvironment, **variables: str) -> Database:
    """Return a database of a process of its own."""
    return Database(environment.settings(**{"APP_DATABASE_POOL": "lambda", **variables}))


def is_reader(session: Session) -> bool:
    """Return whether the server of *session* is a reader."""
    return bool(session.scalar(text("SELECT pg_is_in_recovery()")))


def backend(session: Session) -> int:
    """Return the process id of the server's session."""
    return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)


def reads_from_reader(database: Database, **options: Any) -> bool:
    """Return whether a new read-only session uses a reader."""
    with deadline(8), database.session(read_only=True, **options) as session:
        return is_reader(session)


def standby_of(environment: RegistrationEnvironment) -> LocalPostgres:
    """Return the standby of the cluster."""
    return environment.cluster.add_standby()


def reader_endpoint_of(environment: RegistrationEnvironment) -> TcpProxy:
    """Return the reader endpoint of the cluster."""
    endpoint = environment.cluster.reader_endpoint
    assert endpoint is not None
    return endpoint


class Load:
    """Threads that call *unit* with increasing numbers, until the end of the block; each call has a deadline of 20 s.

    Attributes:
        results: The results, in the order in which the units ended.
        failures: The exceptions.
        slowest: The duration of the slowest unit in seconds.
    """

    def __init__(self, unit: Callable[[int], Any], *, threads: int = 3) -> None:
        self.results: list[Any] = []
        self.failures: list[Exception] = []
        self.slowest: float = 0.0
        self._unit, self._stopped = unit, Event()
        self._threads = [Thread(target=self._run, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, result: Any) -> None:
        """Wait until all later units return *result*, for ten units."""
        wait_until(
            lambda: self.failures or self.results[-10:] == [result] * 10, f"the load returns {result}", timeout=30
        )

    def _run(self, number: int) -> None:
        while not self._stopped.wait(0.005):
            started = monotonic()
            try:
                with deadline(20):
                    self.results.append(self._unit(number))
            except Exception as error:  # noqa: BLE001 any error is a failed request
                self.failures.append(error)
            self.slowest = max(self.slowest, monotonic() - started)
            number += 1000


@contextmanager
def silent_server() -> Iterator[int]:
    """Yield the port of a server that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def paused_replay(standby: LocalPostgres) -> Iterator[None]:
    """Let the reader lag behind until the block ends."""
    with standby.server.connect() as connection:
        connection.execute("SELECT pg_wal_replay_pause()")
        state = "SELECT pg_get_wal_replay_pause_state()"
        wait_until(lambda: connection.execute(state).fetchone() == ("paused",), "the replay is paused")
        try:
            yield
        finally:
            connection.execute("SELECT pg_wal_replay_resume()")


@pytest.mark.usefixtures("short_pauses")
def test_a_reader_that_is_gone_fails_no_read(reader: RegistrationEnvironment) -> None:
    """Under load, reads move to the writer at once, and back to the reader when it answers again."""
    database = new_database(reader, APP_DATABASE_POOL="service", APP_DATABASE_POOL_SIZE="3")
    endpoint = reader_endpoint_of(reader)
    with silent_server() as silent, Load(lambda _: database.run(is_reader, read_only=True)) as load:
        load.wait_for(result=True)
        endpoint.stop_accepting()
        endpoint.cut()
        load.wait_for(result=False)
        endpoint.resume_accepting()
        load.wait_for(result=True)
        standby = standby_of(reader).server
        endpoint.retarget("127.0.0.1", silent)
        endpoint.cut()
        load.wait_for(result=False)
        endpoint.retarget(standby.host, standby.port)
        load.wait_for(result=True)

    assert [] == load.failures
    assert load.slowest < 6, "a silent reader used up the deadline"
    assert database.events.count("reader_unavailable", "not_ready") < 60, "every read tried the reader"
    assert database.events.count("connection_opened", "reader_fallback") >= 2
    database.dispose()


def test_every_failure_of_a_reader_leads_to_the_writer(
    reader: RegistrationEnvironment, rotate: Rotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cold process reads from the writer in time; the next connection does not try the reader again."""
    endpoint, standby = reader_endpoint_of(reader), standby_of(reader)
    caught: dict[str, int] = {}

    def read(failure: str, cause: Any, fault: AbstractContextManager[Any], **variables: str) -> None:
        database = new_database(reader, **variables)
        with fault:
            assert not reads_from_reader(database), failure
            caught[failure] = database.events.count("reader_unavailable", cause)
            database.engine.dispose()
            with deadline(8), database.session(read_only=True) as first, database.session() as second:
                assert not is_reader(first)
                assert not is_reader(second)
                assert backend(first) != backend(second)
        database.dispose()

    @contextmanager
    def refused() -> Iterator[None]:
        endpoint.stop_accepting()
        yield
        endpoint.resume_accepting()

    @contextmanager
    def retargeted(port: int) -> Iterator[None]:
        endpoint.retarget("127.0.0.1", port)
        yield
        endpoint.retarget(standby.server.host, standby.server.port)

    @contextmanager
    def rotated() -> Iterator[None]:
        with paused_replay(standby):
            rotate()
            yield

    with silent_server() as silent:
        read("refused", "not_ready", refused())
        read("silent", "not_ready", retargeted(silent))
        read("closed at once", "not_ready", retargeted(1))
        read("no slot", "no_slot", all_slots_held(standby.server))
        read("the password is not replicated yet", "login_rejected", rotated())
        read("proxy", "not_ready", refused(), APP_DATABASE_POOL="proxy")
    resolve = socket.getaddrinfo

    def unknown(host: str, *arguments: Any, **named: Any) -> Any:
        if host == "reader.invalid":
            raise socket.gaierror("Name or service not known")
        return resolve(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    read("unknown host", "not_ready", nullcontext(), APP_DATABASE_READER_HOST="reader.invalid")

    assert dict.fromkeys(caught, 1) == caught


@pytest.mark.usefixtures("short_pauses")
def test_a_failover_that_promotes_the_reader_loses_nothing(
    reader: RegistrationEnvironment, fail_over: FailOver
) -> None:
    """No read and no write fails; a session that writes is never on a reader; reads return to the next reader."""
    database = new_database(reader, APP_DATABASE_POOL="service", APP_DATABASE_POOL_SIZE="3")
    kept: list[str] = []

    def write(number: int) -> tuple[bool, int]:
        def work(session: Session) -> tuple[bool, int]:
            server = session.execute(text("SELECT pg_is_in_recovery(), inet_server_port()")).one()
            RegistrationRepository(session).register(f"{number}@example.com", idempotency_key=str(number))
            return server[0], server[1]

        server = database.run(work, idempotent=True)
        kept.append(f"{number}@example.com")
        return server

    old, new = reader.server.port, standby_of(reader).server.port
    with Load(write, threads=2) as writes, Load(lambda _: database.run(is_reader, read_only=True)) as reads:
        writes.wait_for((False, old))
        reads.wait_for(result=True)
        fail_over(switch_after=1)
        reads.wait_for(result=False)
        writes.wait_for((False, new))
        reader.cluster.add_standby()
        reads.wait_for(result=True)

    assert [] == reads.failures + writes.failures
    assert {(False, old), (False, new)} == set(writes.results)
    with reader.connect() as connection:
        stored = [email for (email,) in connection.execute("SELECT email FROM registrations")]
    assert set(kept) <= set(stored)
    assert len(stored) == len(set(stored))
    database.dispose()


def test_a_reader_lags_and_rejects_writes(reader: RegistrationEnvironment) -> None:
    """A read may be stale, so it must not decide about a write; a write is rejected, also on the writer as fallback."""
    database, endpoint, standby = new_database(reader), reader_endpoint_of(reader), standby_of(reader)

    def find(session: Session) -> Any:
        return RegistrationRepository(session).find_by_email("ada@example.com")

    assert database.run(find, read_only=True) is None
    with paused_replay(standby):
        outcome = database.run(lambda session: RegistrationRepository(session).register("ada@example.com"))
        assert isinstance(outcome, Registered)
        assert database.run(find, read_only=True) is None, "the read was not stale"
        assert database.run(find) is not None
    wait_until(lambda: database.run(find, read_only=True) is not None, "the reader has replayed the sign-up")

    def write(session: Session) -> None:
        RegistrationRepository(session).register("eve@example.com")

    with pytest.raises(InternalError) as raised:
        database.run(write, read_only=True)
    endpoint.stop_accepting()
    endpoint.cut()
    assert not reads_from_reader(database)
    with pytest.raises(InternalError) as raised_by_writer:
        database.run(write, read_only=True)
    endpoint.resume_accepting()

    assert isinstance(raised.value.orig, ReadOnlySqlTransaction)
    assert isinstance(raised_by_writer.value.orig, ReadOnlySqlTransaction)
    with pytest.raises(ValueError, match="only a transaction is read-only"):
        database.run(find, read_only=True, autocommit=True, idempotent=True)
    database.dispose()


def test_a_lost_read_is_repeated(reader: RegistrationEnvironment) -> None:
    """Nothing of a read-only unit is kept, so it is repeated whenever it fails, even after a commit of its own."""
    database, endpoint, standby = new_database(reader), reader_endpoint_of(reader), standby_of(reader)
    attempts: list[bool] = []

    def lost_after_commit(session: Session) -> bool:
        is_reader(session)
        session.commit()
        attempts.append(is_reader(session))
        if len(attempts) == 1:
            endpoint.stop_accepting()
            endpoint.cut()
        return is_reader(session)

    assert database.run(lost_after_commit, read_only=True) is False
    assert [True, False] == attempts
    endpoint.resume_accepting()
    database.dispose()

    with (
        endpoint.lose_replies(1.0),
        deadline(3),
        pytest.raises(ConnectionLost),
        database.session(read_only=True) as session,
    ):
        is_reader(session)
    database.dispose()

    conflicts: list[int] = []

    def conflicting(session: Session) -> int:
        conflicts.append(1)
        rows = session.scalar(text("SELECT count(*) FROM registrations"))
        if len(conflicts) == 1:
            with reader.connect() as connection:
                connection.execute("DELETE FROM registration_events")
                connection.execute("DELETE FROM registrations")
                connection.execute("VACUUM registrations")
            session.execute(text("SELECT pg_sleep(5)"))
        return int(rows or 0)

    database.run(lambda session: RegistrationRepository(session).register("ada@example.com"))
    standby.configure(max_standby_streaming_delay="0")
    wait_until(lambda: database.run(conflicting, read_only=True) is not None, "the read was repeated")
    standby.configure(max_standby_streaming_delay=None)
    assert len(conflicts) == 2
    assert database.events.count("retry", "transaction_conflict") == 1, TransactionConflict
    database.dispose()


def test_the_reader_has_its_own_connection(reader: RegistrationEnvironment) -> None:
    """It can be used inside a session that writes; fork, dispose and the end of the process concern both."""
    database = new_database(reader)
    with database.session() as writing:
        RegistrationRepository(writing).register("ada@example.com")
        with database.session(read_only=True) as reading:
            assert is_reader(reading)
            assert RegistrationRepository(reading).find_by_email("ada@example.com") is None
            before = backend(reading)
    assert {"cold": 1, "reader": 1} == {
        cause: database.events.count("connection_opened", cause) for cause in ("cold", "reader")
    }
    assert database.events.count("connection_opened") == 2

    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException), database.session(read_only=True) as session:
            os.write(write_end, str(backend(session)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert int(os.read(read_end, 100)) != before
    os.close(read_end)
    os.close(write_end)
    with database.session(read_only=True) as session:
        assert before == backend(session)
    assert database.ping().writable

    database.dispose()
    with database.session(read_only=True) as session:
        assert before != backend(session)
    with pytest.raises(ConnectionLost), database.session(read_only=True) as session:
        assert is_reader(session)
        database.abort_connections()
        is_reader(session)
    with database.engine.connect() as connection:
        assert connection.scalar(text("SELECT pg_is_in_recovery()")) is False
    database.dispose()


class CountingProxy(TcpProxy):
    """A proxy that counts round trips."""

    round_trips = 0

    def before_forwarding(self, data: bytes, *, from_client: bool, is_turn: bool) -> None:  # noqa: ARG002 the proxy's signature
        """Count a request."""
        self.round_trips += from_client and is_turn


def test_a_reader_takes_no_more_round_trips(reader: RegistrationEnvironment) -> None:
    """On an open connection, a read-only session takes two round trips at the reader and none at the writer."""
    writer, standby = reader.server, standby_of(reader).server
    with (
        CountingProxy(writer.host, writer.port) as first,
        CountingProxy(standby.host, standby.port, listen_on=("127.0.0.3", first.port)) as second,
    ):
        database = new_database(reader, APP_DATABASE_PORT=str(first.port), APP_DATABASE_READER_HOST="127.0.0.3")
        counts = []
        for _ in range(20):
            before = second.round_trips
            assert reads_from_reader(database)
            counts.append(second.round_trips - before)
        assert counts[10:] == [2] * 10  # earlier, there are the login and the preparation of the statement
        assert first.round_trips == 0
        database.dispose()
