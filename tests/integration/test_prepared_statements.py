"""A prepared statement that becomes invalid on the server fails no unit of work, and never the same one twice."""

import dataclasses
import secrets
from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
from outbox_queue import Queue
from sqlalchemy import text
from sqlalchemy.exc import DataError, NotSupportedError, ProgrammingError
from sqlalchemy.orm import Session
from support import Change

from registration_persistence import Database, DatabaseSettings, OutboxWorker
from registration_persistence.database.connection import BoundedConnection
from registration_persistence.errors import TransactionConflict
from registration_persistence.outcomes import OutboxMessage
from registration_persistence.sandbox import PostgresServer, wait_until

PREPARED_AFTER = 6

SELECT = text("SELECT * FROM things WHERE id >= :id")
INSERT = text("INSERT INTO things (name) VALUES (:name) RETURNING *")

KIND_OF_SIZE = (
    "SELECT atttypid::regtype::text FROM pg_attribute WHERE attrelid = 'things'::regclass AND attname = 'size'"
)

Invalidate = Callable[[Database], None]


@pytest.fixture
def one(database_settings: DatabaseSettings, change: Change) -> Iterator[Database]:
    """A database with one connection, as in a Lambda, and a table `things`."""
    change("CREATE TABLE things (id bigserial, name varchar(40), size int DEFAULT 1)")
    made = Database(dataclasses.replace(database_settings, pool="lambda"))
    yield made
    made.dispose()


def driver_of(session: Session) -> BoundedConnection[Any]:
    """Return the psycopg connection of *session*."""
    driver = session.connection().connection.dbapi_connection
    assert isinstance(driver, BoundedConnection)
    return driver


def prepare(database: Database, *statements: Any, autocommit: bool = False) -> None:
    """Execute each of *statements* until psycopg has prepared it."""
    for _ in range(PREPARED_AFTER):
        with database.session(autocommit=autocommit) as session:
            for statement in statements:
                session.execute(statement, {"id": 1, "name": "a"})
    with database.session(autocommit=True) as session:
        count = session.scalar(text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%things%'"))
        assert count == len(statements)


def alter_table(database: Database) -> None:
    """Change the types of the result in another session, as a migration does."""
    with psycopg.connect(**login(database), autocommit=True) as other:
        (present,) = other.execute(KIND_OF_SIZE).fetchall()[0]
        other.execute(f"ALTER TABLE things ALTER COLUMN size TYPE {'int' if present == 'bigint' else 'bigint'}")


def add_column(database: Database) -> None:
    """Add a column to the result in another session."""
    with psycopg.connect(**login(database), autocommit=True) as other:
        other.execute(f"ALTER TABLE things ADD COLUMN color_{secrets.token_hex(4)} text")


def reset_session(command: str) -> Invalidate:
    """Return a function that executes *command* in the session, behind psycopg's back, as a pooler does."""

    def reset(database: Database) -> None:
        with database.session(autocommit=True) as session:
            driver_of(session).pgconn.exec_(command.encode())

    return reset


def login(database: Database) -> dict[str, Any]:
    """Return the parameters of a connection to *database*."""
    settings = database.settings
    return {
        "host": settings.host,
        "port": settings.port,
        "dbname": settings.name,
        "user": settings.user,
        "password": settings.password,
    }


INVALIDATIONS = [
    pytest.param(alter_table, id="alter-column"),
    pytest.param(add_column, id="add-column"),
    pytest.param(reset_session("DISCARD ALL"), id="discard-all"),
    pytest.param(reset_session("DEALLOCATE ALL"), id="deallocate-all"),
]


@pytest.mark.parametrize("invalidate", INVALIDATIONS)
def test_an_invalid_statement_is_sent_again(one: Database, invalidate: Invalidate) -> None:
    """In autocommit and as the first of a transaction, no caller notices, and each row is stored once."""

    def add_thing(session: Session) -> None:
        session.execute(INSERT, {"name": "b"})

    units: list[Callable[[], object]] = [
        lambda: one.run(add_thing),
        lambda: one.run(add_thing, idempotent=True, autocommit=True),
    ]
    for number, unit in enumerate(units, 1):
        prepare(one, SELECT, INSERT)
        with one.session(autocommit=True) as session:
            backend = driver_of(session).info.backend_pid
        invalidate(one)

        unit()
        with one.session(autocommit=True) as session:
            assert backend == driver_of(session).info.backend_pid
            rows = session.execute(SELECT, {"id": 0}).all()
        assert sum(row.name == "b" for row in rows) == number
    assert one.events.count("retry") == 0


@pytest.mark.parametrize("invalidate", INVALIDATIONS[::2])
def test_an_invalid_statement_in_a_transaction_is_retryable_once(one: Database, invalidate: Invalidate) -> None:
    """After earlier work, one `TransactionConflict` is raised; a repetition succeeds, also after a savepoint."""
    prepare(one, SELECT, INSERT)
    invalidate(one)
    with one.session() as session:
        session.execute(text("INSERT INTO things (name) VALUES ('kept')"))
        with pytest.raises(TransactionConflict, match="repeat the unit of work") as raised, session.begin_nested():
            session.execute(INSERT, {"name": "b"})
        with session.begin_nested():
            session.execute(INSERT, {"name": "c"})
        assert ["kept", "c"] == [row.name for row in session.execute(SELECT, {"id": PREPARED_AFTER + 1})]
    assert raised.value.retryable
    assert isinstance(raised.value.__cause__, psycopg.Error)


def test_run_repeats_the_unit_of_work_once(one: Database) -> None:
    """A failed statement in the middle of a transaction costs one repetition, and nothing is stored twice."""
    prepare(one, SELECT, INSERT)
    alter_table(one)

    def work(session: Session) -> list[str]:
        session.execute(text("INSERT INTO things (name) VALUES ('first')"))
        session.execute(INSERT, {"name": "second"})
        return [row.name for row in session.execute(SELECT, {"id": PREPARED_AFTER + 1})]

    assert one.run(work) == ["first", "second"]
    assert one.events.count("retry", "transaction_conflict") == one.events.count("retry") == 1
    for _ in range(PREPARED_AFTER):
        one.run(work)
    assert one.events.count("retry") == 1


def test_every_way_to_send_a_statement_recovers(one: Database) -> None:
    """`executemany`, with and without rows, plain psycopg, a session of a pipeline, and a name that exists already."""
    with one.session(autocommit=True) as session:
        driver = driver_of(session)
        insert = "INSERT INTO things (name) VALUES (%s)"
        for name in ("a", "b"):
            driver.cursor().executemany(insert, [(name,), (name,)])
            driver.execute("SELECT * FROM things", prepare=True)
            driver.pgconn.exec_(b"DISCARD ALL")
        driver.cursor().executemany(insert, [("c",), ("c",)])
        with driver.cursor() as cursor:
            cursor.executemany(insert + " RETURNING name", [("d",)], returning=True)
            driver.pgconn.exec_(b"DEALLOCATE ALL")
            cursor.executemany(insert + " RETURNING name", [("d",)], returning=True)
            assert cursor.fetchone() == ("d",)
        assert sorted("aabbccdd") == sorted(name for (name,) in driver.execute("SELECT name FROM things").fetchall())

        driver.execute("SELECT * FROM things", prepare=True)
        driver.pgconn.exec_(b"DISCARD ALL")
        with pytest.raises(psycopg.errors.InvalidSqlStatementName), driver.pipeline():
            driver.execute("SELECT * FROM things", prepare=True)
        assert driver.execute("SELECT * FROM things", prepare=True).rowcount == 8

        latest = driver.execute("SELECT max(substr(name, 6)::int) FROM pg_prepared_statements").fetchone()
        assert latest is not None
        driver.pgconn.exec_(b"PREPARE _pg3_%d AS SELECT 1" % (latest[0] + 1))
        assert driver.execute("SELECT 7", prepare=True).fetchone() == (7,)


def test_an_iterator_of_parameters_is_not_sent_twice(one: Database) -> None:
    """It can be read only once, so its statement fails once; the next one succeeds."""
    with one.session(autocommit=True) as session:
        driver = driver_of(session)
        insert = "INSERT INTO things (name) VALUES (%s)"
        driver.cursor().executemany(insert, [("a",)])
        driver.execute("SELECT * FROM things", prepare=True)
        driver.pgconn.exec_(b"DISCARD ALL")
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            driver.cursor().executemany(insert, iter([("b",)]))
        driver.cursor().executemany(insert, iter([("c",)]))
        assert session.scalars(text("SELECT string_agg(name, '') FROM things")).one() == "ac"


def test_parameter_types_of_an_old_column_are_not_kept(one: Database) -> None:
    """The types of the parameters were taken from the columns; after ALTER TABLE the statement is prepared again."""
    insert, select = "INSERT INTO things (size) VALUES (%s)", "SELECT count(*) FROM things WHERE size = %s"
    with one.session(autocommit=True) as session:
        connection = session.connection()
        for _ in range(PREPARED_AFTER):
            connection.exec_driver_sql(insert, ("1",))
            connection.exec_driver_sql(select, ("1",))
        with psycopg.connect(**login(one), autocommit=True) as other:
            other.execute("ALTER TABLE things ALTER COLUMN size DROP DEFAULT, ALTER COLUMN size TYPE text")
        connection.exec_driver_sql(insert, ("large",))
        assert connection.exec_driver_sql(select, ("large",)).scalar() == 1


def test_a_dropped_type_of_a_parameter_is_not_kept(one: Database) -> None:
    """The server does not find the type of the parameter any more; the statement is prepared again."""
    select = "SELECT count(*) FROM moods WHERE mood = %s"
    with psycopg.connect(**login(one), autocommit=True) as other, one.session(autocommit=True) as session:
        other.execute("CREATE TYPE mood AS ENUM ('calm')")
        other.execute("CREATE TABLE moods AS SELECT 'calm'::mood AS mood")
        connection = session.connection()
        for _ in range(PREPARED_AFTER):
            connection.exec_driver_sql(select, ("calm",))
        other.execute("ALTER TABLE moods ALTER COLUMN mood TYPE text")
        other.execute("DROP TYPE mood")
        assert connection.exec_driver_sql(select, ("calm",)).scalar() == 1


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELECT 'x'::int", DataError),
        ("EXECUTE nothing", ProgrammingError),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '0A000'; END $$", NotSupportedError),
    ],
)
def test_an_error_of_the_statement_itself_is_raised(one: Database, statement: str, error: type[Exception]) -> None:
    """The same SQLSTATE for another reason is neither retryable nor a reason to drop prepared statements."""
    prepare(one, SELECT, INSERT, autocommit=True)
    with one.session(autocommit=True) as session:
        for _ in range(2):
            with pytest.raises(error):
                session.execute(text(statement))
        prepared = session.scalar(text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%things%'"))
    assert prepared == 2
    with pytest.raises(error), one.session() as session:
        session.execute(text("SELECT 1"))
        session.execute(text(statement))


def test_the_settings_of_a_transaction_survive(one: Database) -> None:
    """The statement that is sent again has the isolation level of its session, and so has the next transaction."""
    prepare(one, SELECT)
    reset_session("DISCARD ALL")(one)
    with one.session(read_only=True) as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        session.execute(SELECT, {"id": 1})
        assert session.scalar(text("SHOW transaction_isolation")) == "repeatable read"
        assert session.scalar(text("SHOW transaction_read_only")) == "on"
    with one.session() as session:
        session.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        session.execute(SELECT, {"id": 1})


def test_a_dropped_statement_does_not_begin_a_transaction(one: Database) -> None:
    """After a failure in the middle of a transaction, the first statement of the next one is the service's own."""
    prepare(one, SELECT)
    alter_table(one)
    with pytest.raises(TransactionConflict), one.session() as session:
        session.execute(text("SELECT 1"))
        session.execute(SELECT, {"id": 1})
    with one.session() as session:
        session.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        session.execute(SELECT, {"id": 1})


def test_the_outbox_worker_goes_on(single_connection: Database, queue: Queue, postgres_server: PostgresServer) -> None:
    """Its statements become invalid between two messages; each message is delivered once, and no pause is made."""
    queue.put(30)
    delivered: list[OutboxMessage] = []
    resets = ["ALTER TABLE outbox ADD COLUMN note text", "ALTER TABLE outbox ALTER COLUMN attempts TYPE bigint"]

    def deliver(message: OutboxMessage) -> None:
        delivered.append(message)
        if len(delivered) in (12, 18):
            with postgres_server.connect(single_connection.settings.name) as other:
                other.execute(resets.pop(0).encode())
        if len(delivered) == 24:
            reset_session("DISCARD ALL")(single_connection)

    stop = Event()
    worker = OutboxWorker(single_connection, deliver, batch=2)
    thread = Thread(target=worker.run, args=(stop,), kwargs={"poll": 0.01})
    thread.start()
    try:
        wait_until(lambda: worker.counts["delivered"] >= 30 or not thread.is_alive(), "all messages are delivered")
    finally:
        stop.set()
        thread.join()

    assert worker.counts == {"delivered": 30}
    assert len({message.event_id for message in delivered}) == len(delivered) == 30
