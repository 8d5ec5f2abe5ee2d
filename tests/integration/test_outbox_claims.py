"""Tests of `Claims`, with which a worker does not read its whole queue for each batch."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from outbox_queue import Queue
from sqlalchemy import text

from registration_persistence import Database, OutboxRepository
from registration_persistence.outbox_worker import claims
from registration_persistence.outbox_worker.claims import Claims

HOUR = timedelta(hours=1)


@pytest.fixture
def old_snapshot(database: Database) -> Iterator[None]:
    """A session whose snapshot is older than all messages, such as that of `pg_dump`."""
    with database.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(text("SELECT count(*) FROM registrations"))
        yield


def entries_read(database: Database) -> int:
    """Return how many index entries the claims of the queue have read."""
    with database.session(autocommit=True) as session:
        session.execute(text("SELECT pg_stat_force_next_flush()"))
        session.execute(text("SELECT pg_stat_clear_snapshot()"))
        read = session.scalar(
            text("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'ix_outbox_available_at_event_id'")
        )
    assert isinstance(read, int)
    return read


@pytest.mark.usefixtures("old_snapshot")
def test_an_old_snapshot_does_not_slow_down_claims(database: Database, queue: Queue) -> None:
    """The 30th claim reads a few entries, while a claim from the beginning reads those of all previous ones."""
    queue.put(400)
    steps = Claims(database, HOUR)
    for _ in range(29):
        taken = steps.take(10)
        with database.session(autocommit=True) as session:
            assert OutboxRepository(session).ack(taken) == 10

    before = entries_read(database)
    assert len(steps.take(10)) == 10
    between = entries_read(database)
    assert len(Claims(database, HOUR).take(10)) == 10
    after = entries_read(database)

    assert between - before <= 30
    assert after - between >= 300


def test_each_message_is_claimed_once(database: Database, queue: Queue) -> None:
    """Also those that were released, and those that were committed with an earlier time than the position."""
    event_ids = queue.put(40)
    steps = Claims(database, HOUR)
    claimed: list[UUID] = [message.event_id for message in steps.take(10)]
    again = steps.take(10)
    with database.session(autocommit=True) as session:
        OutboxRepository(session).release(again)
    queue.change(f"UPDATE outbox SET available_at = now() - interval '1 hour' WHERE event_id = '{event_ids[-1]}'")

    while taken := steps.take(10):
        claimed += [message.event_id for message in taken]

    assert event_ids == sorted(claimed)


def test_a_message_with_an_earlier_time_waits_at_most_a_second(
    database: Database, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next whole read claims it first, although the queue has other messages."""
    event_ids = queue.put(40)
    steps = Claims(database, HOUR)
    steps.take(10)
    queue.change(f"UPDATE outbox SET available_at = now() - interval '1 hour' WHERE event_id = '{event_ids[-1]}'")

    assert event_ids[10:20] == [message.event_id for message in steps.take(10)]
    monkeypatch.setattr(claims, "_SECONDS_BETWEEN_WHOLE_READS", 0.0)
    assert event_ids[-1] in [message.event_id for message in steps.take(10)]


def test_a_claim_takes_ten_messages(database: Database, queue: Queue) -> None:
    """Of eleven messages, `claim` without a limit leaves one."""
    event_ids = queue.put(11)
    with database.session(autocommit=True) as session:
        assert event_ids[:10] == [message.event_id for message in OutboxRepository(session).claim()]
