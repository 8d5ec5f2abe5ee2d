"""Tests of an `OutboxWorker` whose deliveries all fail, as when the mail server is down."""

import logging
import time
from threading import Event, Thread
from uuid import UUID

import pytest
from outbox_queue import TIMEOUT_SECONDS, Queue

from registration_persistence import Database, OutboxWorker
from registration_persistence.errors import Undeliverable
from registration_persistence.outcomes import OutboxMessage
from registration_persistence.sandbox import wait_until


class MailServer:
    """A `deliver` function that fails while the server is down."""

    def __init__(self) -> None:
        self.is_down = True
        self.tried: list[UUID] = []

    def __call__(self, message: OutboxMessage) -> None:
        """Note the message, and fail if the server is down."""
        self.tried.append(message.event_id)
        if self.is_down:
            raise ConnectionRefusedError


def after_the_pause(worker: OutboxWorker) -> int:
    """Call `run_once` until it has claimed messages, and return their number."""
    claimed = 0

    def has_claimed() -> bool:
        nonlocal claimed
        claimed = worker.run_once()
        return claimed > 0

    wait_until(has_claimed, "the pause is over", timeout=TIMEOUT_SECONDS)
    return claimed


def test_an_outage_of_the_mail_server_uses_up_few_attempts(
    database: Database, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker pauses after five failures; trials take other messages in turn, and use up no attempts."""
    caplog.set_level(logging.INFO, "registration_persistence.outbox_worker")
    event_ids, server = queue.put(20), MailServer()
    worker = OutboxWorker(database, server, batch=20, longest_pause=0.05)

    assert worker.run_once() == 20
    assert event_ids[:5] == server.tried
    assert {"retried": 5, "released": 15} == worker.counts
    assert worker.run_once() == 0, "nothing is claimed during the pause"

    assert [5, 5, 5] == [after_the_pause(worker) for _ in range(3)]
    assert event_ids == server.tried
    assert [0] * 15 + [1] * 5 == sorted(row["attempts"] for row in queue.rows())
    assert [row["dead_at"] for row in queue.rows()] == [None] * 20

    server.is_down = False
    assert after_the_pause(worker) == 5
    queue.end_leases()
    assert worker.run_once() == 15
    assert [] == queue.rows()
    own = [record.message for record in caplog.records if "trying again in" not in record.message]
    assert ["the deliveries are paused: the last 5 messages failed", "the deliveries work again"] == own


def test_a_worker_sleeps_during_the_pause(database: Database, queue: Queue) -> None:
    """`run` waits as long as the pause, and delivers everything when the server answers again."""
    queue.put(30)
    server, stop = MailServer(), Event()
    worker = OutboxWorker(database, server, batch=5, first_delay=0.01, longest_delay=0.01, longest_pause=0.3)
    thread = Thread(target=worker.run, args=(stop,), kwargs={"poll": 0}, daemon=True)
    thread.start()
    wait_until(lambda: len(server.tried) >= 10, "a trial has begun", timeout=TIMEOUT_SECONDS)
    time.sleep(1)
    tried = len(server.tried)
    server.is_down = False
    wait_until(lambda: not queue.rows(), "all messages are delivered", timeout=TIMEOUT_SECONDS)
    stop.set()
    thread.join(TIMEOUT_SECONDS)

    # Each pause lasts 0.15 s or longer, and is followed by five trials.
    assert tried <= 10 + 5 * 12
    assert worker.counts["delivered"] == 30
    assert worker.counts["buried"] == 0


def test_refusals_of_single_messages_are_no_outage(database: Database, queue: Queue) -> None:
    """`Undeliverable` is about its message: a batch of these does not pause the deliveries."""
    queue.put(10)

    def deliver(_message: OutboxMessage) -> None:
        raise Undeliverable("smtp:550")

    worker = OutboxWorker(database, deliver, pause_after=2)
    worker.run_once()

    assert {"buried": 10} == worker.counts


def test_failures_between_deliveries_are_no_outage(database: Database, queue: Queue) -> None:
    """Nine of ten messages may fail, if one in between is delivered."""
    event_ids = queue.put(9)

    def deliver(message: OutboxMessage) -> None:
        if message.event_id != event_ids[4]:
            raise ConnectionResetError

    worker = OutboxWorker(database, deliver)
    worker.run_once()

    assert {"retried": 8, "delivered": 1} == worker.counts


def test_a_whole_batch_that_fails_pauses_the_deliveries(database: Database, queue: Queue) -> None:
    """Only as many messages as the threshold use up an attempt."""
    queue.put(10)

    def deliver(_messages: object) -> None:
        raise ConnectionRefusedError

    worker = OutboxWorker(database, deliver, takes_batch=True, pause_after=3)
    worker.run_once()

    assert {"retried": 3, "released": 7} == worker.counts
    assert worker.run_once() == 0


def test_a_batch_that_is_delivered_in_part_is_no_outage(database: Database, queue: Queue) -> None:
    """Four of five messages may fail, if the function delivered the fifth."""
    event_ids = queue.put(5)
    worker = OutboxWorker(
        database, lambda _messages: dict.fromkeys(event_ids[:4], OSError()), takes_batch=True, pause_after=2
    )
    worker.run_once()

    assert {"retried": 4, "delivered": 1} == worker.counts
