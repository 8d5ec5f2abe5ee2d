"""`Database.run(single=True)`: one repository call without a session; and repositories on connections."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from races import PEPPERS, another, code_for
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session
from support import ADD, TERMS, Rows, added, losing_database, sent_statements, terminate_backend, untyped

from registration_persistence import (
    ConsentRepository,
    Database,
    DatabaseSettings,
    EventRepository,
    ImportRow,
    OutboxRepository,
    PrivacyRepository,
    RegistrationRepository,
    Retention,
    VerificationRepository,
    bulk_import,
    deadline,
)
from registration_persistence.errors import CommitOutcomeUnknown, ConnectionLost, InvalidInput, TransactionAborted
from registration_persistence.outcomes import Issued, Registered, Verified, WrongCode
from registration_persistence.sandbox import PostgresServer, wait_until
from registration_persistence.testing import RoundTripCounter

ATTEMPTS = "SELECT attempts FROM verification_tokens WHERE hash_key_id > 0"


def _registered(outcome: object) -> Registered:
    assert isinstance(outcome, Registered)
    return outcome


def _register(connection: Connection, email: str = "ada@example.com") -> Registered:
    return _registered(RegistrationRepository(connection).register(email, consents=[TERMS]))


def test_each_method_is_one_round_trip(wire: RoundTripCounter, counted: Database) -> None:
    """Each repository accepts the connection, and what it changed is committed before the call returns."""
    ada, eve = (
        _registered(counted.run(_register, single=True)),
        counted.run(lambda connection: _register(connection, "eve@example.com"), single=True),
    )
    wire.round_trips()
    now, gave = datetime.now(UTC), dict[str, Any]()
    first, second = ada.registration.id, eve.registration.id
    calls: dict[str, Callable[[Connection], object]] = {
        "verify": lambda on: VerificationRepository(on).verify_by_token(ada.token),
        "peek": lambda on: VerificationRepository(on).peek_token(eve.token),
        "issue token": lambda on: VerificationRepository(on).issue_token(second, min_gap=0),
        "issue code": lambda on: VerificationRepository(on, peppers=PEPPERS).issue_code(second, min_gap=0),
        "wrong code": lambda on: _judge(on, second, "x"),
        "code": lambda on: VerificationRepository(on, peppers=PEPPERS).verify_by_code(
            second, gave["issue code"].secret
        ),
        "activate": lambda on: RegistrationRepository(on).activate(first),
        "update": lambda on: RegistrationRepository(on).update_profile(first, {"name": "Ada"}),
        "cancel": lambda on: RegistrationRepository(on).cancel(second),
        "get": lambda on: RegistrationRepository(on).get(first),
        "find": lambda on: RegistrationRepository(on).find_by_email("ada@example.com"),
        "list": lambda on: RegistrationRepository(on).list_page(),
        "record": lambda on: ConsentRepository(on).record(first, [TERMS]),
        "consents": lambda on: ConsentRepository(on).current(first),
        "events": lambda on: EventRepository(on).list_events(first),
        "claim": lambda on: OutboxRepository(on).claim(),
        "ack": lambda on: OutboxRepository(on).ack(gave["claim"]),
        "export": lambda on: PrivacyRepository(on).export_subject(first),
        "erase": lambda on: PrivacyRepository(on).erase(first),
        "ids": lambda on: PrivacyRepository(on).ids_by_email("eve@example.com"),
        "expire": lambda on: Retention(on).expire_due(),
        "purge": lambda on: Retention(on).purge_closed(now + timedelta(hours=1)),
    }
    costs: dict[str, int] = {}
    for name, call in calls.items():
        gave[name] = counted.run(call, single=True)
        costs[name] = wire.round_trips()

    assert dict.fromkeys(costs, 1) == costs
    assert isinstance(gave["verify"], Verified)
    assert gave["wrong code"] == WrongCode(4)
    assert isinstance(gave["code"], Verified)
    assert (gave["update"].version, len(gave["claim"]), gave["ack"], gave["purge"]) == (4, 8, 8, 1)
    assert wire.connections == 1


def test_a_second_change_is_refused_before_it_is_sent(wire: RoundTripCounter, counted: Database, rows: Rows) -> None:
    """The error names the fix, the work is not repeated, and reading is allowed before and after the change."""
    attempts: list[int] = []

    def work(connection: Connection, change: Callable[[Connection], object]) -> None:
        attempts.append(1)
        assert RegistrationRepository(connection).find_by_email("nobody@example.com") is None
        registration = _register(connection).registration
        assert RegistrationRepository(connection).get(registration.id) == registration
        change(connection)

    changes: list[Callable[[Connection], object]] = [
        _register,
        lambda connection: connection.execute(text(ADD)),
        lambda connection: OutboxRepository(connection).claim(),
    ]
    for change in changes:
        with pytest.raises(RuntimeError, match=r"use run\(\) without single=True"):
            counted.run(partial(work, change=change), single=True)
        assert wire.round_trips() == 3
    with pytest.raises(RuntimeError, match="not sent"):
        counted.run(lambda on: (on.execute(text(ADD)), on.execute(text(ADD))), single=True)
    assert wire.round_trips() == 1
    assert len(attempts) == 3
    assert rows("SELECT count(*) AS n FROM registrations") == [{"n": 3}]
    assert added(rows) == 4


def test_a_statement_that_would_not_be_committed_is_refused(database: Database, rows: Rows) -> None:
    """Without autocommit, nobody would commit it, and the unit of work would succeed without a trace."""

    def work(connection: Connection) -> None:
        connection.execution_options(isolation_level="SERIALIZABLE")
        _register(connection)

    with pytest.raises(RuntimeError, match="isolation level of this connection was changed"):
        database.run(work, single=True)

    database.run(_register, single=True)
    assert rows("SELECT count(*) AS n FROM registrations") == [{"n": 1}]


def test_a_call_that_changed_nothing_may_be_followed_by_another(database: Database, rows: Rows) -> None:
    """It kept nothing, so nothing can be half kept."""

    def work(connection: Connection) -> Registered:
        with pytest.raises(InvalidInput):
            RegistrationRepository(connection).register("nobody")
        assert RegistrationRepository(connection).find_by_email("ada@example.com") is None
        return _register(connection)

    identity = database.run(work, single=True).registration.id
    database.run(lambda on: RegistrationRepository(on).cancel(identity), single=True)

    def again(connection: Connection) -> Registered:
        assert not RegistrationRepository(connection).cancel(identity).changed
        return _register(connection, "eve@example.com")

    database.run(again, single=True)
    assert rows("SELECT count(*) AS n FROM registrations") == [{"n": 2}]


def test_a_statement_that_changed_nothing_is_sent_again(
    database: Database, postgres_server: PostgresServer, rows: Rows
) -> None:
    """Another transaction issues a token while ours waits for the row: ours is repeated, and replaces that token."""
    identity = database.run(_register, single=True).registration.id
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with postgres_server.connect(database.settings.name) as other, ThreadPoolExecutor(1) as threads:
        other.autocommit = False
        other.execute("UPDATE registrations SET tokens_issued = tokens_issued + 1")
        with sent_statements(database) as sent:
            issuing = threads.submit(
                database.run, lambda on: VerificationRepository(on).issue_token(identity, min_gap=0), single=True
            )
            wait_until(lambda: rows(waiting), "the statement waits for the row")
            other.commit()
            assert isinstance(issuing.result(), Issued)
    assert len([statement for statement in sent if "pg_stat_activity" not in statement]) == 2


def test_a_lost_reply_to_sql_of_the_service_is_unknown(database_settings: DatabaseSettings, rows: Rows) -> None:
    """It has no evidence, so it is not repeated; a repository call has, see `test_commit_resolution`."""
    with losing_database(database_settings) as (database, proxy):
        database.ping()

        def work(connection: Connection) -> None:
            proxy.lose_next_reply()
            connection.execute(text(ADD))

        with pytest.raises(CommitOutcomeUnknown):
            database.run(work, single=True)
        assert proxy.lost_replies == 1
    assert added(rows) == 1


def test_a_connection_that_breaks_after_the_change_does_not_repeat_it(database: Database, rows: Rows) -> None:
    """The change was kept, whether its repository had the connection of the unit or that of a session."""
    attempts: list[int] = []

    def single(connection: Connection) -> None:
        attempts.append(1)
        _register(connection)
        _terminate(connection)
        connection.execute(text("SELECT 1"))

    def in_session(session: Session) -> None:
        attempts.append(1)
        _register(session.connection())
        terminate_backend(session)
        session.execute(text("SELECT 1"))

    with pytest.raises(ConnectionLost):
        database.run(single, single=True)
    with pytest.raises(ConnectionLost):
        database.run(in_session, autocommit=True)
    assert len(attempts) == 2
    assert rows("SELECT count(*) AS n FROM registrations") == [{"n": 2}]


def _terminate(connection: Connection) -> None:
    with Session(connection) as session:
        terminate_backend(session)


def test_a_connection_that_broke_before_is_repeated(database: Database, rows: Rows) -> None:
    """Nothing was kept, so there is a second attempt on a new connection."""
    attempts: list[int] = []

    def work(connection: Connection) -> Registered:
        attempts.append(1)
        if len(attempts) == 1:
            _terminate(connection)
        return _register(connection)

    assert _registered(database.run(work, single=True)).registration.email == "ada@example.com"
    assert len(attempts) == 2
    assert database.events.count("retry", "connection_lost") == 1
    assert rows("SELECT count(*) AS n FROM registrations") == [{"n": 1}]


def test_single_is_refused_where_it_cannot_apply(database: Database, rows: Rows) -> None:
    """An import is several statements, a read-only unit is a transaction, and a deadline belongs to a thread."""
    rows_to_import = [ImportRow("eve@example.org")]
    with pytest.raises(RuntimeError, match="nothing was sent"):
        database.run(lambda connection: bulk_import(connection, rows_to_import), single=True)
    for option in ("autocommit", "read_only"):
        with pytest.raises(ValueError, match="expected one"):
            untyped(database.run)(_register, single=True, **{option: True})
    with (
        pytest.raises(RuntimeError, match="deadline"),
        deadline(30),
        ThreadPoolExecutor(1) as threads,
    ):
        database.run(lambda connection: threads.submit(_register, connection).result(), single=True)
    assert rows("SELECT id FROM registrations") == []


def test_a_transaction_of_the_caller_is_rolled_back_or_committed(database: Database, rows: Rows) -> None:
    """A repository does not end it, and it may contain several calls, an import among them."""
    with database.engine.connect() as connection:
        transaction = connection.begin()
        made = _register(connection)
        assert isinstance(VerificationRepository(connection).verify_by_token(made.token), Verified)
        assert bulk_import(connection, [ImportRow("eve@example.org")]).inserted == 1
        transaction.rollback()
        assert rows("SELECT id FROM registrations") == []
        _register(connection)
        connection.commit()
    with database.engine.begin() as connection:
        _register(connection, "eve@example.com")
    assert rows("SELECT count(*) AS n FROM registrations") == [{"n": 2}]


def _judge(connection: Connection, identity: Any, code: str) -> object:
    return VerificationRepository(connection, peppers=PEPPERS).verify_by_code(identity, code)


@pytest.mark.parametrize("first", [True, False])
def test_a_wrong_code_counts_if_its_connection_rolls_back(database: Database, rows: Rows, *, first: bool) -> None:
    """In a transaction of the caller, in a savepoint, on the connection of a session, and if nobody ends it."""
    identity = database.run(_register, single=True).registration.id
    wrong = another(code_for(database, identity))

    def begin(connection: Connection) -> Connection:
        if not first:
            connection.execute(text("SELECT 1"))
        return connection

    with database.engine.connect() as connection, connection.begin() as transaction:
        assert _judge(begin(connection), identity, wrong) == WrongCode(4)
        transaction.rollback()
    with database.engine.begin() as connection:
        savepoint = begin(connection).begin_nested()
        assert _judge(connection, identity, wrong) == WrongCode(3)
        savepoint.rollback()
        assert _judge(connection, identity, wrong) == WrongCode(2)
    with database.session() as session:
        assert _judge(begin(session.connection()), identity, wrong) == WrongCode(1)
        session.rollback()
    assert [4] == [row["attempts"] for row in rows(ATTEMPTS)]
    with database.engine.connect() as connection:
        assert _judge(begin(connection), identity, wrong) == WrongCode(0)
    assert [5] == [row["attempts"] for row in rows(ATTEMPTS)]


def test_a_wrong_code_in_an_aborted_or_two_phase_transaction(database: Database, rows: Rows) -> None:
    """A failed statement rolls the code back at COMMIT, so it is counted again; a two-phase transaction is refused."""
    identity = database.run(_register, single=True).registration.id
    wrong = another(code_for(database, identity))
    with pytest.raises(TransactionAborted), database.engine.begin() as connection:
        connection.execute(text("SELECT 1"))
        assert _judge(connection, identity, wrong) == WrongCode(4)
        with pytest.raises(Exception, match="division by zero"):
            connection.execute(text("SELECT 1 / 0"))
    with database.engine.connect() as connection, connection.begin_twophase():
        connection.execute(text("SELECT 1"))
        with pytest.raises(InvalidInput, match="two-phase"):
            _judge(connection, identity, wrong)
    assert [1] == [row["attempts"] for row in rows(ATTEMPTS)]
    assert database.run(lambda connection: _judge(connection, identity, wrong), single=True) == WrongCode(3)
    assert [2] == [row["attempts"] for row in rows(ATTEMPTS)]
