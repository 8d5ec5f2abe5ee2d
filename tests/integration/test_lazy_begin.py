"""BEGIN is sent with the first statement of a transaction, and no statement is executed outside of its transaction."""

import inspect
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from threading import Timer
from types import FrameType
from typing import Any

import psycopg
import pytest
from psycopg import ClientCursor, IsolationLevel, RawCursor
from psycopg.pq import PipelineStatus, TransactionStatus
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError
from support import ADD

from registration_persistence import Database, DatabaseSettings, deadline
from registration_persistence.database.commit_guard import driver_connection
from registration_persistence.database.connection import BoundedConnection
from registration_persistence.database.lazy_begin import LazyBeginCursor
from registration_persistence.errors import ConnectionLost, StatementTimeout, TransactionAborted
from registration_persistence.sandbox import PostgresServer
from registration_persistence.testing import RoundTripCounter

Driver = BoundedConnection[Any]
Entry = Callable[[Driver], object]

_INSERT = "INSERT INTO notes (content) VALUES (%s)"
_COUNT = "SELECT count(*) FROM notes"
_CHARACTERISTICS = (
    "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), "
    "current_setting('transaction_deferrable'), %s"
)


@pytest.fixture
def driver(database_settings: DatabaseSettings, wire: RoundTripCounter) -> Iterator[Driver]:
    """A connection through `wire` to a database with the table `notes`."""
    here = database_settings
    connection = BoundedConnection[Any].connect(
        host="127.0.0.1", port=wire.port, dbname=here.name, user=here.user, password=here.password, sslmode="disable"
    )
    connection.max_silence_seconds = 5
    connection.execute("CREATE TABLE notes (content text CHECK (content <> 'bad'))")
    connection.commit()
    wire.round_trips()
    yield connection
    connection.close()


@pytest.fixture
def reopened(driver: Driver, database_settings: DatabaseSettings) -> Iterator[Callable[[], Driver]]:
    """Opens another connection to the database of `driver`, and closes the one before."""
    opened: list[Driver] = []

    def open_next() -> Driver:
        for earlier in opened:
            earlier.close()
        settings = database_settings
        opened[:] = [BoundedConnection[Any].connect(driver.info.dsn, port=settings.port, password=settings.password)]
        return opened[0]

    yield open_next
    for last in opened:
        last.close()


def copied(driver: Driver) -> None:
    """Insert with COPY."""
    with driver.cursor().copy("COPY notes FROM STDIN") as copy:
        copy.write_row(["one"])


def streamed(driver: Driver) -> None:
    """Insert, and read the result row by row."""
    assert list(driver.cursor().stream(f"{_INSERT} RETURNING content", ["one"])) == [("one",)]


def fetched_from_server(driver: Driver) -> None:
    """Read from a cursor on the server, which needs a transaction, and insert."""
    with driver.cursor("on_server") as cursor:
        assert cursor.execute("SELECT %s", [1]).fetchall() == [(1,)]
        driver.execute(_INSERT, ["one"])


def in_pipeline(driver: Driver) -> None:
    """Insert in a pipeline of the caller."""
    with driver.pipeline():
        driver.execute(_INSERT, ["one"])
        driver.cursor().executemany(_INSERT, [["two"], ["three"]])


def in_own_pipeline(driver: Driver, *, returning: bool = False) -> None:
    """Insert several rows."""
    driver.cursor().executemany(f"{_INSERT} RETURNING 1", [["one"], ["two"]], returning=returning)


def in_two_phases(driver: Driver) -> None:
    """Insert in a two-phase transaction."""
    driver.tpc_begin("tx")
    driver.execute(_INSERT, ["one"])


# The entries of psycopg, and the round trips until the first statement is done.
ENTRIES: dict[str, tuple[Entry, int]] = {
    "parameters": (lambda driver: driver.execute(_INSERT, ["one"]), 1),
    "prepared": (lambda driver: driver.execute(_INSERT, ["one"], prepare=True), 1),
    "binary": (lambda driver: driver.execute(_INSERT, ["one"], binary=True), 1),
    "text": (lambda driver: driver.execute("INSERT INTO notes VALUES ('one');"), 1),
    "cursor": (lambda driver: driver.cursor().execute(_INSERT, ["one"]), 1),
    "comment in front": (lambda driver: driver.execute(f"/*ddps='copy;api'*/ /*;*/{_INSERT}", ["one"]), 1),
    "comment and text": (lambda driver: driver.execute("/*ddps='copy;api'*/ INSERT INTO notes VALUES ('one')"), 1),
    "several after a comment": (lambda driver: driver.execute("/*a*/ SELECT 1; INSERT INTO notes VALUES ('one')"), 2),
    "several rows": (in_own_pipeline, 1),
    "several rows with results": (lambda driver: in_own_pipeline(driver, returning=True), 2),
    "text of several statements": (lambda driver: driver.execute("SELECT 1; INSERT INTO notes VALUES ('one')"), 2),
    "copy": (copied, 3),
    "stream": (streamed, 2),
    "cursor on the server": (fetched_from_server, 6),
    "cursor of psycopg": (lambda driver: psycopg.Cursor(driver).execute(_INSERT, ["one"]), 2),
    "values in the text": (lambda driver: ClientCursor(driver).execute(_INSERT, ["one"]), 2),
    "raw": (lambda driver: RawCursor(driver).execute("INSERT INTO notes VALUES ($1)", ["one"]), 2),
    "pipeline": (in_pipeline, 2),
    "two phases": (in_two_phases, 2),
}


def test_every_entry_is_inside_its_transaction(driver: Driver, wire: RoundTripCounter) -> None:
    """BEGIN precedes the first statement of each entry of psycopg, and its round trips are those that are stated."""
    costs = {}
    for name, (execute, _) in ENTRIES.items():
        wire.round_trips()
        execute(driver)
        costs[name] = wire.round_trips()
        assert driver.info.transaction_status == TransactionStatus.INTRANS, name
        (driver.tpc_rollback if name == "two phases" else driver.rollback)()
        assert driver.execute(_COUNT).fetchone() == (0,), name
        driver.rollback()

    assert costs == {name: round_trips for name, (_, round_trips) in ENTRIES.items()}


def test_a_transaction_takes_one_round_trip_more_than_its_statements(counted: Database, wire: RoundTripCounter) -> None:
    """The checkout, with its check, takes none; SAVEPOINT and `executemany` are statements."""
    insert, rows = text("INSERT INTO notes VALUES (:content)"), [{"content": "one"}, {"content": "two"}]

    def of_one(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE notes (content text)"))

    def of_three(connection: Connection) -> None:
        for row in [*rows, *rows[:1]]:
            connection.execute(insert, row)

    def of_many(connection: Connection) -> None:
        connection.execute(insert, rows)
        connection.execute(insert, rows)

    def of_savepoint(connection: Connection) -> None:
        with connection.begin_nested():
            connection.execute(insert, rows[0])

    costs = []
    for work in (of_one, of_three, of_many, of_savepoint):
        with counted.engine.begin() as connection:
            work(connection)
        costs.append(wire.round_trips())

    assert costs == [1 + 1, 3 + 1, 2 + 1, 3 + 1]


def test_the_preparation_of_the_first_statement_takes_no_round_trip(driver: Driver, wire: RoundTripCounter) -> None:
    """The statement is prepared in its sixth execution, together with BEGIN."""
    costs = []
    for _ in range(8):
        driver.execute(_INSERT, ["one"])
        driver.commit()
        costs.append(wire.round_trips())

    assert costs == [2] * 8
    prepared = driver.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s", ["INSERT%"])
    assert prepared.fetchone() == (1,)
    driver.rollback()


def test_begin_has_the_characteristics_of_the_transaction(driver: Driver, counted: Database) -> None:
    """The first statement is already executed with them, and `SET TRANSACTION` may be the first statement."""
    driver.isolation_level, driver.read_only, driver.deferrable = IsolationLevel.SERIALIZABLE, True, True
    assert driver.execute(_CHARACTERISTICS, [1]).fetchone() == ("serializable", "on", "on", 1)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        driver.execute(_INSERT, ["one"])
    driver.rollback()
    driver.isolation_level, driver.read_only, driver.deferrable = None, None, None
    assert driver.execute(_CHARACTERISTICS, [1]).fetchone() == ("read committed", "off", "off", 1)
    driver.rollback()
    driver.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY")
    assert driver.execute(_CHARACTERISTICS, [1]).fetchone() == ("serializable", "on", "off", 1)
    driver.rollback()

    engine = counted.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_deferrable=True)
    with engine.connect() as connection:
        statement = text(_CHARACTERISTICS.replace("%s", ":one"))
        assert tuple(connection.execute(statement, {"one": 1}).one()) == ("repeatable read", "off", "on", 1)


def test_an_error_of_the_first_statement_aborts_the_transaction(counted: Database) -> None:
    """Its transaction has begun, so a later statement and the commit are refused, and the next transaction works."""
    with counted.session() as session:
        session.execute(text("CREATE TABLE notes (content text CHECK (content <> 'bad'))"))
    with pytest.raises(TransactionAborted), counted.engine.begin() as connection:
        with pytest.raises(IntegrityError):
            connection.execute(text("INSERT INTO notes VALUES (:content)"), {"content": "bad"})
        assert driver_connection(connection).info.transaction_status == TransactionStatus.INERROR

    with counted.session() as session:
        assert session.scalar(text("SELECT count(*) FROM notes WHERE content <> :content"), {"content": "x"}) == 0


def test_nothing_is_executed_if_begin_fails(driver: Driver) -> None:
    """The server skips the statement, so it is not executed outside of its transaction."""
    failing: list[Entry] = [
        lambda driver: driver.execute(_INSERT, ["one"], prepare=True),
        lambda driver: driver.execute(_INSERT, ["one"]),
        lambda driver: driver.execute("INSERT INTO notes VALUES ('one')"),
        lambda driver: driver.cursor().executemany(_INSERT, [["one"], ["two"]]),
    ]
    for execute in failing:
        driver._begin_statement = b"BEGIN ISOLATION LEVEL NONSENSE"
        with pytest.raises(psycopg.errors.SyntaxError):
            execute(driver)
        assert driver.info.transaction_status == TransactionStatus.IDLE
        driver._begin_statement = b""
        assert driver.execute(_COUNT, prepare=True).fetchone() == (0,)
        driver.rollback()


def test_a_statement_that_cannot_be_sent_leaves_a_usable_connection(driver: Driver) -> None:
    """It fails in Python or in libpq; in neither case there is something left that was not read."""
    unusable: list[tuple[str, list[Any]]] = [("SELECT %s, %s", [1]), ("SELECT %s", [object()])]
    for query, parameters in unusable:
        with pytest.raises(psycopg.ProgrammingError):
            driver.execute(query, parameters)
        assert driver.info.transaction_status == TransactionStatus.IDLE
    with pytest.raises(psycopg.OperationalError, match="65535"):
        driver.execute(f"SELECT 1 WHERE 1 IN ({', '.join(['%s'] * 65536)})", [1] * 65536)

    assert driver.info.transaction_status == TransactionStatus.INTRANS
    assert driver.execute("SELECT %s", [2]).fetchone() == (2,)
    driver.rollback()
    assert driver.execute("SELECT %s", [3]).fetchone() == (3,)


def test_copy_as_a_plain_statement_is_refused_as_by_psycopg(driver: Driver) -> None:
    """It is not sent in pipeline mode, which libpq could not leave any more."""
    with pytest.raises(psycopg.ProgrammingError, match="COPY cannot be used with this method"):
        driver.execute("COPY notes TO STDOUT")
    assert driver.info.transaction_status == TransactionStatus.ACTIVE
    driver.close()


def test_nothing_is_sent_after_the_deadline(counted: Database, wire: RoundTripCounter) -> None:
    """Not even BEGIN; the statement that is running at the deadline is cancelled, and the connection stays open."""
    with counted.engine.connect() as connection:
        with deadline(0.3, reserve=0):
            with pytest.raises(StatementTimeout):
                connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": 10})
            connection.rollback()
            time.sleep(0.1)
            wire.round_trips()
            with pytest.raises(StatementTimeout, match="was not sent"):
                connection.execute(text("SELECT :one"), {"one": 1})
        connection.rollback()
        assert wire.round_trips() == 0
        assert connection.scalar(text("SELECT CAST(:one AS int)"), {"one": 1}) == 1
    assert counted.events.count("connection_opened") == 1


def test_an_interrupt_in_the_first_statement_cancels_it(driver: Driver) -> None:
    """As psycopg does it, the error is raised at once, and the connection works after a rollback."""

    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            driver.execute("SELECT pg_sleep(%s)", [10])
    finally:
        signal.signal(signal.SIGALRM, before)

    assert driver.info.transaction_status == TransactionStatus.INERROR
    driver.rollback()
    assert driver.execute("SELECT %s", [1]).fetchone() == (1,)


def interrupted_at(line: int, execute: Callable[[], object]) -> bool:
    """Call *execute* with an interrupt before this line of the package's code; return whether there is such a line."""
    lines = count(1)

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        code = frame.f_code
        # Python delivers an interrupt at a call or a loop, and not between the assignments at the end of this function.
        if "registration_persistence/database/" not in code.co_filename or code.co_name == "_pipeline_nolock":
            return None
        if event == "line" and next(lines) == line:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        execute()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


# An abandoned generator of psycopg wants to read from a connection that is closed by now.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_line_leaves_a_usable_or_a_closed_connection(
    driver: Driver, reopened: Callable[[], Driver]
) -> None:
    """No statement after it is executed outside of its transaction, not even one of a cursor of psycopg itself."""

    def committed(used: Driver) -> None:
        used.execute("SELECT 1")
        used.commit()

    for execute in (ENTRIES["prepared"][0], in_own_pipeline, committed):
        used = reopened()
        for line in count(1):
            if not interrupted_at(line, partial(execute, used)):
                break
            if used.closed:
                used = reopened()
            assert used.pgconn.pipeline_status == PipelineStatus.OFF
            with suppress(psycopg.errors.InFailedSqlTransaction):
                ClientCursor(used).execute(_INSERT, ["after"])
            used.rollback()
            assert driver.execute(_COUNT).fetchone() == (0,), line
            driver.rollback()
        assert line > 30


def test_a_session_that_ends_during_the_first_statement_is_a_lost_connection(
    counted: Database, postgres_server: PostgresServer
) -> None:
    """The server says why, and nothing was kept, because COMMIT was not sent."""
    with counted.engine.connect() as connection, postgres_server.connect() as other:
        process = driver_connection(connection).info.backend_pid
        end = Timer(0.2, other.execute, ["SELECT pg_terminate_backend(%s)", [process]])
        end.start()
        with pytest.raises(ConnectionLost, match="57P01"):
            connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": 10})
        end.join()

    counted.ping()
    assert counted.events.count("connection_opened", "lost") == 1


def test_a_server_that_falls_silent_in_the_first_statement_is_given_up(driver: Driver) -> None:
    """BEGIN and its statement are watched like a single statement."""
    driver.max_silence_seconds = 0.3
    started = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled, match=r"silent for 0\.3 s"):
        driver.execute("SELECT pg_sleep(%s)", [10])

    assert time.monotonic() - started < 5
    assert driver.info.transaction_status == TransactionStatus.INERROR


def test_the_server_ends_a_transaction_that_stays_idle_after_its_first_statement(driver: Driver) -> None:
    """After Sync no other message is sent, because that would stop the timeout."""
    driver.autocommit = True
    driver.execute("SET idle_in_transaction_session_timeout = 200")
    driver.autocommit = False
    driver.execute(_INSERT, ["one"])
    time.sleep(0.5)

    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        driver.execute(_COUNT)


def test_psycopg_has_the_names_that_are_used(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each private name is there, with these parameters, and is called by `execute` and `executemany` in this order."""
    calls: list[str] = []

    def parameters(function: Callable[..., object]) -> str:
        return " ".join(inspect.signature(function).parameters)

    def watch(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            calls.append(name)
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, watched)

    cursor, connection = psycopg.Cursor, psycopg.Connection
    prepared = type(driver._prepared)
    assert {
        cursor._execute_gen: "self query params prepare binary",
        cursor._start_query: "self query",
        cursor._convert_query: "self query params",
        cursor._maybe_prepare_gen: "self pgq prepare binary",
        cursor._execute_send: "self query force_extended binary",
        cursor._send_prepare: "self name query",
        cursor._send_query_prepared: "self name pgq binary",
        cursor._check_results: "self results",
        cursor._set_results: "self results",
        connection._start_query: "self",
        connection._get_tx_start_command: "self",
        connection._exec_command: "self command result_format",
        connection._deallocate: "self name",
        connection._pipeline_nolock: "self",
        connection._check_connection_ok: "self",
        prepared.maintain_gen: "conn",
        prepared.get: "query prepare",
        prepared.maybe_add_to_cache: "query prep name",
        prepared.validate: "key prep name results",
    } == {
        each: parameters(each).removeprefix("self ")
        if each.__qualname__.startswith("PrepareManager")
        else parameters(each)
        for each in (
            *(cursor._execute_gen, cursor._start_query, cursor._convert_query),
            *(cursor._maybe_prepare_gen, cursor._execute_send, cursor._send_prepare),
            *(cursor._send_query_prepared, cursor._check_results, cursor._set_results),
            *(connection._start_query, connection._get_tx_start_command, connection._exec_command),
            *(connection._deallocate, connection._pipeline_nolock, connection._check_connection_ok),
            *(prepared.maintain_gen, prepared.get, prepared.maybe_add_to_cache, prepared.validate),
        )
    }
    for owner, name in [
        (LazyBeginCursor, "_execute_gen"),
        (BoundedConnection, "_start_query"),
        (LazyBeginCursor, "_convert_query"),
        (LazyBeginCursor, "_maybe_prepare_gen"),
        (BoundedConnection, "_pipeline_nolock"),
    ]:
        watch(owner, name)
    driver.execute(_INSERT, ["one"])
    driver.rollback()
    driver.cursor().executemany(_INSERT, [["one"]])
    assert calls == [
        *("_execute_gen", "_start_query", "_convert_query"),
        *("_pipeline_nolock", "_start_query", "_convert_query", "_maybe_prepare_gen"),
    ]
    assert (driver._autocommit, driver._pipeline, driver._begin_statement) == (False, None, b"BEGIN")


def test_autocommit_sends_no_begin(counted: Database, wire: RoundTripCounter) -> None:
    """A statement in autocommit is one round trip, and commits at once."""
    with counted.session(autocommit=True) as session:
        session.execute(text(ADD))
    assert wire.round_trips() == 1
