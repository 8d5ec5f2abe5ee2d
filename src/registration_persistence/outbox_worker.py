"""`OutboxWorker`: hands the messages of the outbox to a function, each at least once."""

import inspect
import logging
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from threading import Event

from registration_persistence.database import Database
from registration_persistence.domain.records import OutboxMessage
from registration_persistence.domain.validation import checked_duration, checked_number, checked_reason
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    InvalidInput,
    RegistrationPersistenceError,
    StatementTimeout,
    Undeliverable,
)
from registration_persistence.repositories.outbox import OutboxRepository

logger = logging.getLogger(__name__)

# Seconds between attempts to reach a database that cannot be reached.
_LONGEST_PAUSE = 30.0

_LARGEST_BATCH = 1000

_MOST_ATTEMPTS = 10_000

# Attempts after which a message that nobody has given back may be what kills its workers.
_UNSUSPECTED = 3

_LONGEST_DELAY = timedelta(days=365)

# What `OutboxRepository.retry` stores.
_LONGEST_REASON = 200


class OutboxWorker:
    """Claims messages, calls a function with each, and removes those for which it returns.

    A message stays in the outbox until the function has returned, so none is lost when the worker is killed; what was
    delivered and not yet removed is delivered again when its lease is over. Where the function raises, the message
    waits, longer each time, and after *max_attempts* it is buried for an operator to look at. Messages that kill the
    worker count too: after three attempts of which nobody has told, a message is tried last in a batch, one such in
    each. Any number of workers may run beside each other.

    Args:
        database: Where the outbox is.
        deliver: Called with each message, outside of any transaction. What it raises is logged and stored by its
            class alone, because errors of mail servers quote mailboxes; it may raise `Undeliverable` with a reason.
        batch: Messages that are claimed at once.
        lease: How long they are kept from other workers; longer than *deliver* takes for the whole batch. What is
            left of a batch when its lease is nearly over is given back.
        max_attempts: How often a message is tried.
        first_delay: How long to wait after the first failure; twice as long after each further one, give or take half.
        longest_delay: But never longer than this.

    Attributes:
        counts: `delivered`, `retried`, `buried` and `released` messages since the worker was made.

    Raises:
        InvalidInput: An argument is wrong: *batch* is 1 to 1000, *max_attempts* 1 to 10,000, a delay a year at most.
    """

    def __init__(
        self,
        database: Database,
        deliver: Callable[[OutboxMessage], object],
        *,
        batch: int = 10,
        lease: timedelta = timedelta(minutes=1),
        max_attempts: int = 10,
        first_delay: timedelta = timedelta(seconds=5),
        longest_delay: timedelta = timedelta(hours=1),
    ) -> None:
        if not callable(deliver) or _runs_later(deliver):
            raise InvalidInput("deliver is no function, or a coroutine or generator, whose body nobody would run")
        self._database = database
        self._deliver = deliver
        self._batch = checked_number("batch", batch, 1, _LARGEST_BATCH)
        self._lease = checked_duration("lease", lease)
        self._max_attempts = checked_number("max_attempts", max_attempts, 1, _MOST_ATTEMPTS)
        self._first_delay = checked_duration("first_delay", first_delay)
        self._longest_delay = checked_duration("longest_delay", longest_delay)
        if not self._first_delay <= self._longest_delay <= _LONGEST_DELAY:
            raise InvalidInput("first_delay is longer than longest_delay, or that than a year")
        self.counts: Counter[str] = Counter()

    def run_once(self, stop: Event | None = None) -> int:
        """Claim one batch and deliver it; return how many messages were claimed, so that 0 means none is due.

        Args:
            stop: Set it to have the rest of the batch given back after the message that is being delivered.

        Raises:
            RegistrationPersistenceError: The database failed; no message is lost.
        """
        lapses = time.monotonic() + 0.9 * self._lease.total_seconds()
        with self._database.session(autocommit=True) as session:
            claimed = OutboxRepository(session).claim(self._batch, self._lease)
        messages = self._suspects_last(claimed)
        for position, message in enumerate(messages):
            if (stop is not None and stop.is_set()) or time.monotonic() > lapses:
                self._release(messages[position:])
                break
            self._handle(message)
        return len(claimed)

    def run(self, stop: Event, *, poll: float = 1.0) -> None:
        """Deliver until *stop* is set; the message that is being delivered then is finished.

        A database that cannot be reached is waited for.

        Args:
            stop: Set it from another thread; in a signal handler start one for it, because `Event.set` may wait for a
                lock that the interrupted thread holds.
            poll: Seconds to wait when no message is due.

        Raises:
            RegistrationPersistenceError: The database failed in a way that waiting does not mend.
        """
        failures = 0
        while not stop.is_set():
            try:
                if self.run_once(stop) < self._batch:
                    stop.wait(poll)
                failures = 0
            except RegistrationPersistenceError as error:
                # Whether the last statement was kept does not matter: a lease ends, and a message is delivered twice.
                if not (error.retryable or isinstance(error, CommitOutcomeUnknown | StatementTimeout)):
                    raise
                failures += 1
                pause = min(_LONGEST_PAUSE, 2.0 ** min(failures, 10) / 2) * random.uniform(0.5, 1)  # noqa: S311 jitter
                logger.warning("the outbox cannot be read, trying again in %.1f s: %s", pause, type(error).__name__)
                stop.wait(pause)

    def _suspects_last(self, claimed: Sequence[OutboxMessage]) -> Sequence[OutboxMessage]:
        """Return *claimed* with at most one message that may have killed its workers, at the end; release the others.

        A worker that dies leaves an attempt with every message of its batch, and one alone is to blame.
        """
        unsuspected = min(_UNSUSPECTED, self._max_attempts)
        suspects = [message for message in claimed if message.attempts > unsuspected and message.last_error is None]
        if suspects[1:]:
            self._release(suspects[1:])
        return [message for message in claimed if message not in suspects] + suspects[:1]

    def _handle(self, message: OutboxMessage) -> None:
        if message.attempts > self._max_attempts:
            # Claimed that often and neither delivered nor given back: whoever tried it died.
            self._bury(message, message.last_error or "attempts-used-up")
            return
        try:
            result = self._deliver(message)
        except Undeliverable as error:
            self._bury(message, _reason_of(error))
        except Exception as error:  # noqa: BLE001 whatever the service's function raises
            self._failed(message, error)
        else:
            if inspect.isawaitable(result) or inspect.isgenerator(result):
                raise InvalidInput("deliver returned a coroutine or a generator, whose body nobody runs")
            with self._database.session(autocommit=True) as session:
                OutboxRepository(session).ack([message])
            self.counts["delivered"] += 1

    def _failed(self, message: OutboxMessage, error: Exception) -> None:
        reason = _class_of(error)
        if message.attempts >= self._max_attempts:
            self._bury(message, reason)
            return
        delay = self._delay(message.attempts)
        logger.warning("%s was not delivered: %s; trying again in %s", _named(message), reason, delay)
        with self._database.session(autocommit=True) as session:
            self.counts["retried"] += OutboxRepository(session).retry(message, reason, delay)

    def _bury(self, message: OutboxMessage, reason: str) -> None:
        logger.error("%s is given up, attempts: %d, reason: %s", _named(message), message.attempts, reason)
        with self._database.session(autocommit=True) as session:
            self.counts["buried"] += OutboxRepository(session).bury(message, reason)

    def _release(self, messages: Sequence[OutboxMessage]) -> None:
        with self._database.session(autocommit=True) as session:
            self.counts["released"] += OutboxRepository(session).release(messages)

    def _delay(self, attempts: int) -> timedelta:
        doubled = min(self._first_delay * 2 ** min(attempts - 1, 30), self._longest_delay)
        return timedelta(seconds=doubled.total_seconds() * random.uniform(0.5, 1.5))  # noqa: S311 jitter


def _runs_later(deliver: Callable[[OutboxMessage], object]) -> bool:
    """Tell whether calling *deliver* would only make a coroutine or a generator."""
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    called = (deliver, type(deliver).__call__)
    return any(kind(function) for kind in kinds for function in called)


def _class_of(error: Exception) -> str:
    """Return the name of the class of *error*, as the outbox stores it."""
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return re.sub(r"[^A-Za-z0-9_.:-]", "-", name)[:_LONGEST_REASON]


def _reason_of(error: Undeliverable) -> str:
    """Return what the service says of *error*, or its class where that could hold a mailbox."""
    try:
        return checked_reason(error.reason)
    except InvalidInput:
        return _class_of(error)


def _named(message: OutboxMessage) -> str:
    return f"{message.type} of registration {message.registration_id}"
