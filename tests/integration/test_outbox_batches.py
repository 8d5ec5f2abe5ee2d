"""Tests of an `OutboxWorker` that acknowledges, or delivers, whole batches."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Event
from typing import Any
from uuid import UUID

import pytest
from outbox_queue import Queue
from support import sent_statements

from registration_persistence import Database, OutboxWorker
from registration_persistence.errors import InvalidInput, Undeliverable
from registration_persistence.outbox_worker import settlement
from registration_persistence.outcomes import OutboxMessage


def test_a_batch_is_deleted_with_one_statement(
    database: Database, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `acknowledge="batch"`, a batch of ten is one claim and one deletion; by default it has ten deletions."""
    monkeypatch.setattr(settlement, "_SECONDS_BETWEEN_DELETIONS", 3600.0)  # however slow this machine is
    queue.put(20)
    with sent_statements(database) as sent:
        OutboxWorker(database, lambda _message: None).run_once()
        assert ["WITH", *["DELETE"] * 10] == [statement.split()[0] for statement in sent]
        sent.clear()
        worker = OutboxWorker(database, lambda _message: None, acknowledge="batch")
        worker.run_once()

    assert ["WITH", "DELETE"] == [statement.split()[0] for statement in sent]
    assert {"delivered": 10} == worker.counts
    assert [] == queue.rows()


@pytest.mark.parametrize("error", [SystemExit(), InvalidInput("deliver")], ids=["exit", "error"])
def test_delivered_messages_are_deleted_if_the_batch_is_broken_off(
    database: Database, queue: Queue, error: BaseException
) -> None:
    """An exception that ends the worker, and one message that fails, leave only what was not delivered."""
    first, second, third = queue.put(3)

    def deliver(message: OutboxMessage) -> None:
        if message.event_id == second:
            raise error

    worker = OutboxWorker(database, deliver, acknowledge="batch")
    with suppress(SystemExit):
        worker.run_once()

    remaining = {second, third} if isinstance(error, SystemExit) else {second}
    assert remaining == {row["event_id"] for row in queue.rows()}
    assert worker.counts["delivered"] == 3 - len(remaining)
    assert first not in remaining


def test_a_stop_deletes_what_was_delivered(database: Database, queue: Queue) -> None:
    """The rest of the batch is released."""
    queue.put(4)
    stop = Event()
    worker = OutboxWorker(database, lambda _message: stop.set(), acknowledge="batch")

    worker.run_once(stop)

    assert {"delivered": 1, "released": 3} == worker.counts
    assert [(0, True)] * 3 == [(row["attempts"], row["due"]) for row in queue.rows()]


def test_a_function_gets_a_whole_batch(database: Database, queue: Queue) -> None:
    """It is called once with all messages, which are deleted with one statement."""
    event_ids = queue.put(5)
    batches: list[list[UUID]] = []

    def deliver(messages: Sequence[OutboxMessage]) -> None:
        batches.append([message.event_id for message in messages])

    worker = OutboxWorker(database, deliver, takes_batch=True, batch=3)
    with sent_statements(database) as sent:
        assert [3, 2, 0] == [worker.run_once() for _ in range(3)]

    assert [event_ids[:3], event_ids[3:]] == batches
    assert len([statement for statement in sent if statement.startswith("DELETE")]) == 2
    assert {"delivered": 5} == worker.counts


def test_a_batch_may_fail_in_part(database: Database, queue: Queue) -> None:
    """The messages of the returned mapping are retried or buried; the others are deleted."""
    first, second, third = queue.put(3)

    def deliver(_messages: Sequence[OutboxMessage]) -> Mapping[UUID, Exception]:
        return {first: OSError(), third: Undeliverable("smtp:550")}

    worker = OutboxWorker(database, deliver, takes_batch=True)
    worker.run_once()

    assert {"delivered": 1, "retried": 1, "buried": 1} == worker.counts
    assert [(first, "builtins.OSError", False), (third, "smtp:550", True)] == [
        (row["event_id"], row["last_error"], row["dead_at"] is not None) for row in queue.rows()
    ]
    assert second not in [row["event_id"] for row in queue.rows()]


def test_an_exception_of_a_batch_counts_for_each_message(database: Database, queue: Queue) -> None:
    """All messages are retried."""
    queue.put(3)

    def deliver(_messages: Sequence[OutboxMessage]) -> None:
        raise ConnectionResetError

    worker = OutboxWorker(database, deliver, takes_batch=True)
    worker.run_once()

    assert {"retried": 3} == worker.counts
    assert [(1, "builtins.ConnectionResetError")] * 3 == [(row["attempts"], row["last_error"]) for row in queue.rows()]


@pytest.mark.parametrize(
    "result", [True, [], {"id": OSError()}, {UUID(int=1): OSError()}], ids=["bool", "list", "text", "another id"]
)
def test_another_result_of_a_batch_is_rejected(database: Database, queue: Queue, result: Any) -> None:
    """No message is deleted, because nobody knows which ones were delivered."""
    queue.put(2)
    worker = OutboxWorker(database, lambda _messages: result, takes_batch=True)

    with pytest.raises(InvalidInput, match="deliver returned something else"):
        worker.run_once()

    assert len(queue.rows()) == 2
    assert {} == worker.counts


def test_a_failure_must_be_an_exception(database: Database, queue: Queue) -> None:
    """A text as the reason is rejected, too."""
    (event_id,) = queue.put(1)
    unusual: Any = {event_id: "smtp:550"}
    worker = OutboxWorker(database, lambda _messages: unusual, takes_batch=True)

    with pytest.raises(InvalidInput, match="deliver returned something else"):
        worker.run_once()

    assert len(queue.rows()) == 1


def test_a_poison_message_is_alone_in_its_batch(database: Database, queue: Queue) -> None:
    """A message whose worker crashed three times is delivered after the others, in a call of its own."""
    poison, *harmless = queue.put(4)
    queue.change(f"UPDATE outbox SET attempts = 3 WHERE event_id = '{poison}'")
    batches: list[list[UUID]] = []

    def deliver(messages: Sequence[OutboxMessage]) -> None:
        batches.append([message.event_id for message in messages])
        if messages[0].event_id == poison:
            raise SystemExit

    worker = OutboxWorker(database, deliver, takes_batch=True)
    with pytest.raises(SystemExit):
        worker.run_once()

    assert [harmless, [poison]] == batches
    assert [poison] == [row["event_id"] for row in queue.rows()]
    assert {"delivered": 3} == worker.counts
