"""`OutboxWorker`: delivers the messages of the outbox, each at least once."""

import inspect
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from threading import Event

from registration_persistence.database import Database
from registration_persistence.database.backoff import backoff
from registration_persistence.domain.records import OutboxMessage
from registration_persistence.domain.validation import checked_duration, checked_number, checked_reason
from registration_persistence.durations import Duration, in_seconds
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    InvalidInput,
    RegistrationPersistenceError,
    StatementTimeout,
    Undeliverable,
)
from registration_persistence.repositories.outbox import OutboxRepository

logger: logging.Logger = logging.getLogger(__name__)

# The back-off while the database cannot be reached.
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.5, 30.0

# A message with more unreported attempts counts as a poison message.
_MAX_UNREPORTED_ATTEMPTS = 3

# The share of the lease in which a delivery may start.
_DELIVERY_SHARE_OF_LEASE = 0.9

# The delay before a message is tried again varies by ± 50 %.
_DELAY_JITTER = (0.5, 1.5)

_MAX_BATCH_MESSAGES, _MAX_ATTEMPTS, _MAX_DELAY, _MAX_REASON_CHARACTERS = 1000, 10_000, timedelta(days=365), 200


class OutboxWorker:
    """Claims messages, calls a function with each, and deletes the message when the function returns.

    A message stays in the outbox until the function has returned, so none is lost if the worker is killed. A message
    that was delivered and not yet deleted is delivered again after its lease. If the function raises, the message
    waits with exponential back-off, and after *max_attempts* it becomes a dead letter. A crash of the worker uses up
    an attempt, too. After three unreported attempts a message counts as a poison message: each batch delivers at most
    one, as its last message. Any number of workers may run at the same time.

    Durations are a `timedelta` or a number of seconds.

    Args:
        database: The database of the outbox.
        deliver: A plain function, called with each message, outside of any transaction. The outbox and the log get
            the class of its exception alone, because errors of mail servers quote mailboxes. It may raise
            `Undeliverable` with a reason, to give the message up at once.
        batch: The maximum number of messages to claim at once, 1 to 1000. Defaults to 10.
        lease: How long other workers cannot claim the messages of a batch; more than 0, at most ten years. Choose a
            time that is longer than *deliver* takes for the whole batch. After 90 % of it, the rest of the batch is
            released. Defaults to one minute.
        max_attempts: The number of attempts after which a message is given up, 1 to 10,000. Defaults to 10.
        first_delay: How long a message waits after its first failure; more than 0, at most *longest_delay*. It doubles
            with each further failure, and each delay is varied by up to ±50 % at random. Defaults to 5 seconds.
        longest_delay: The maximum of this delay before the variation; *first_delay* to 365 days. Defaults to one hour.

    Attributes:
        counts: The number of messages that this worker has `delivered`, `retried`, `buried` and `released`.

    Raises:
        InvalidInput: An argument is out of its range, or *deliver* is not a plain function.
    """

    def __init__(
        self,
        database: Database,
        deliver: Callable[[OutboxMessage], object],
        *,
        batch: int = 10,
        lease: Duration = timedelta(minutes=1),
        max_attempts: int = 10,
        first_delay: Duration = timedelta(seconds=5),
        longest_delay: Duration = timedelta(hours=1),
    ) -> None:
        if not callable(deliver) or _is_deferred(deliver):
            raise InvalidInput("deliver must be a plain function: a coroutine or generator would never be executed")
        self._database = database
        self._deliver = deliver
        self._batch = checked_number("batch", batch, 1, _MAX_BATCH_MESSAGES)
        self._lease = checked_duration("lease", lease)
        self._max_attempts = checked_number("max_attempts", max_attempts, 1, _MAX_ATTEMPTS)
        self._first_delay = checked_duration("first_delay", first_delay)
        self._longest_delay = checked_duration("longest_delay", longest_delay)
        if not self._first_delay <= self._longest_delay <= _MAX_DELAY:
            raise InvalidInput(
                f"first_delay is {self._first_delay} and longest_delay is {self._longest_delay}: "
                f"expected first_delay <= longest_delay <= {_MAX_DELAY.days} days"
            )
        self.counts: Counter[str] = Counter()

    def run_once(self, stop: Event | None = None) -> int:
        """Claim one batch and deliver it.

        Args:
            stop: Set this event to release the rest of the batch after the current message. Defaults to `None`, which
                delivers the whole batch.

        Returns:
            The number of messages that were claimed; 0 means that no message is due.

        Raises:
            InvalidInput: The function returned a coroutine or a generator.
            RegistrationPersistenceError: The database failed; no message is lost.
        """
        last_start = time.monotonic() + _DELIVERY_SHARE_OF_LEASE * self._lease.total_seconds()
        with self._database.session(autocommit=True) as session:
            claimed = OutboxRepository(session).claim(self._batch, self._lease)
        messages = self._with_one_poison_message_last(claimed)
        for position, message in enumerate(messages):
            if (stop is not None and stop.is_set()) or time.monotonic() > last_start:
                self._release(messages[position:])
                break
            self._handle(message)
        return len(claimed)

    def run(self, stop: Event, *, poll: Duration = 1.0) -> None:
        """Deliver until *stop* is set, and finish the current message. Waits while the database cannot be reached.

        Args:
            stop: Set this event from another thread. A signal handler must start a thread for it, because `Event.set`
                may wait for a lock that the interrupted thread holds.
            poll: How long to wait if fewer messages than a full batch are due, as a `timedelta` or in seconds, 0 or
                more. Defaults to one second.

        Raises:
            RegistrationPersistenceError: The database failed, and the error is not one that a retry can resolve.
        """
        failures = 0
        while not stop.is_set():
            try:
                if self.run_once(stop) < self._batch:
                    stop.wait(in_seconds(poll))
                failures = 0
            except RegistrationPersistenceError as error:
                # The last statement may be repeated even if it was committed: a lease ends, a message is sent twice.
                if not (error.retryable or isinstance(error, CommitOutcomeUnknown | StatementTimeout)):
                    raise
                failures += 1
                pause = backoff(failures, _FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)
                logger.warning("the outbox cannot be read, trying again in %.1f s: %s", pause, type(error).__name__)
                stop.wait(pause)

    def _with_one_poison_message_last(self, claimed: Sequence[OutboxMessage]) -> Sequence[OutboxMessage]:
        """Release all poison messages except one, and move that one to the end.

        A worker that crashes uses up an attempt of every message in its batch, although only one caused the crash.
        """
        unreported = min(_MAX_UNREPORTED_ATTEMPTS, self._max_attempts)
        poison = [message for message in claimed if message.attempts > unreported and message.last_error is None]
        if poison[1:]:
            self._release(poison[1:])
        return [message for message in claimed if message not in poison] + poison[:1]

    def _handle(self, message: OutboxMessage) -> None:
        if message.attempts > self._max_attempts:  # the worker of the last attempt crashed
            self._bury(message, message.last_error or "attempts-used-up")
            return
        try:
            result = self._deliver(message)
        except Undeliverable as error:
            self._bury(message, _reason_of(error))
        except Exception as error:  # noqa: BLE001 whatever the service's function raises
            self._retry_or_bury(message, error)
        else:
            if inspect.isawaitable(result) or inspect.isgenerator(result):
                raise InvalidInput("deliver returned a coroutine or a generator, which would never be executed")
            with self._database.session(autocommit=True) as session:
                OutboxRepository(session).ack([message])
            self.counts["delivered"] += 1

    def _retry_or_bury(self, message: OutboxMessage, error: Exception) -> None:
        reason = _reason_of(error)
        if message.attempts >= self._max_attempts:
            self._bury(message, reason)
            return
        delay = self._delay(message.attempts)
        logger.warning("%s was not delivered: %s; trying again in %s", _described(message), reason, delay)
        with self._database.session(autocommit=True) as session:
            self.counts["retried"] += OutboxRepository(session).retry(message, reason, delay)

    def _delay(self, attempts: int) -> timedelta:
        first, longest = self._first_delay.total_seconds(), self._longest_delay.total_seconds()
        return timedelta(seconds=backoff(attempts - 1, first, longest, jitter=_DELAY_JITTER))

    def _bury(self, message: OutboxMessage, reason: str) -> None:
        logger.error("%s is a dead letter now, attempts: %d, reason: %s", _described(message), message.attempts, reason)
        with self._database.session(autocommit=True) as session:
            self.counts["buried"] += OutboxRepository(session).bury(message, reason)

    def _release(self, messages: Sequence[OutboxMessage]) -> None:
        with self._database.session(autocommit=True) as session:
            self.counts["released"] += OutboxRepository(session).release(messages)


def _is_deferred(deliver: Callable[[OutboxMessage], object]) -> bool:
    """Return whether a call of *deliver* only creates a coroutine or a generator."""
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    called = (deliver, type(deliver).__call__)
    return any(kind(function) for kind in kinds for function in called)


def _reason_of(error: Exception) -> str:
    """Return the reason of an `Undeliverable`, or the class of *error* if that is none or could contain a mailbox."""
    if isinstance(error, Undeliverable):
        with suppress(InvalidInput):
            return checked_reason(error.reason)
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return re.sub(r"[^A-Za-z0-9_.:-]", "-", name)[:_MAX_REASON_CHARACTERS]


def _described(message: OutboxMessage) -> str:
    return f"{message.type} of registration {message.registration_id}"
