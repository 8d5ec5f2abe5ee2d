"""`OutboxWorker`: delivers the messages of the outbox, each at least once."""

from collections import Counter
from datetime import timedelta
from threading import Event

from registration_persistence.database import Database
from registration_persistence.domain.validation import checked_duration
from registration_persistence.durations import Duration
from registration_persistence.errors import InvalidInput
from registration_persistence.outbox_worker.delivery import Deliver, DeliverBatch, Delivery
from registration_persistence.outbox_worker.delivery_loop import Acknowledge, DeliveryLoop


class OutboxWorker:
    """Claims messages, calls a function with each, and deletes the message when the function returns.

    A message stays in the outbox until the function has returned, so none is lost if the worker is killed. A message
    that was delivered and not yet deleted is delivered again after its lease. A deletion that fails is repeated with
    the next one, so a lost connection alone redelivers nothing before the lease ends. If the function raises, the
    message waits with exponential back-off, and after *max_attempts* it becomes a dead letter. A crash of the worker
    uses up an attempt, too. After three unreported attempts a message counts as a poison message: each batch delivers
    at most one, as its last message. Any number of workers may run at the same time.

    If *pause_after* different messages fail in a row, the deliveries are paused, because the cause is probably not in
    the messages. After the pause a few messages are tried, and a trial that fails uses up no attempt. The state of the
    pause belongs to this object, so a Lambda function creates its worker once, outside of the handler.

    Durations are a `timedelta` or a number of seconds.

    Args:
        database: The database of the outbox.
        deliver: A plain function, called with each message, outside of any transaction. The outbox and the log get
            the class of its exception alone, because errors of mail servers quote mailboxes. It may raise
            `Undeliverable` with a reason, to give the message up at once.
        takes_batch: Whether *deliver* is called with a tuple of all messages of a batch, which are then deleted
            together. It returns `None`, or a mapping from the event ids of the messages that were not delivered to
            their exceptions. An exception that it raises counts for each message of the batch. Defaults to `False`.
        acknowledge: When delivered messages are deleted. `message`, the default, deletes each at once, so a worker that
            is killed redelivers at most one message. `batch` deletes together what was delivered since the last
            deletion: when a message was delivered 0.1 seconds or more after it, before a poison message is tried, and
            at the end of the batch, which `run` does together with the next claim. A worker that is killed redelivers
            up to *batch* messages, but if each delivery takes 0.1 seconds or longer, at most one.
        batch: The maximum number of messages to claim at once, 1 to 1000. Defaults to 10.
        lease: How long other workers cannot claim the messages of a batch; more than 0, at most ten years. Choose a
            time that is longer than *deliver* takes for the whole batch. After 90 % of it, the rest of the batch is
            released. Defaults to one minute.
        max_attempts: The number of attempts after which a message is given up, 1 to 10,000. Defaults to 10.
        first_delay: How long a message waits after its first failure; more than 0, at most *longest_delay*. It doubles
            with each further failure, and each delay is varied by up to ±50 % at random. Defaults to 5 seconds.
        longest_delay: The maximum of this delay before the variation; *first_delay* to 365 days. Defaults to one hour.
        pause_after: The number of different messages that fail in a row before the deliveries are paused, 1 to 10,000.
            Defaults to 5.
        longest_pause: The maximum of the pauses; more than 0, at most ten years. The first pause is one second or this
            maximum, each further one is twice as long, and each is reduced by up to 50 % at random. Defaults to one
            minute.

    Attributes:
        counts: The number of messages that this worker has `delivered`, `retried`, `buried` and `released`.

    Raises:
        InvalidInput: An argument is out of its range, or *deliver* is not a plain function.
    """

    def __init__(
        self,
        database: Database,
        deliver: Deliver | DeliverBatch,
        *,
        takes_batch: bool = False,
        acknowledge: Acknowledge = "message",
        batch: int = 10,
        lease: Duration = timedelta(minutes=1),
        max_attempts: int = 10,
        first_delay: Duration = timedelta(seconds=5),
        longest_delay: Duration = timedelta(hours=1),
        pause_after: int = 5,
        longest_pause: Duration = timedelta(minutes=1),
    ) -> None:
        if not isinstance(database, Database):
            kind = type(database).__name__
            raise InvalidInput(
                f"database is of type {kind[:100]}: expected a Database; AsyncDatabase needs AsyncOutboxWorker"
            )
        self._loop = DeliveryLoop(
            database,
            Delivery(deliver, takes_batch=takes_batch),
            acknowledge=acknowledge,
            batch=batch,
            lease=lease,
            max_attempts=max_attempts,
            first_delay=first_delay,
            longest_delay=longest_delay,
            pause_after=pause_after,
            longest_pause=longest_pause,
        )
        self.counts: Counter[str] = self._loop.settlement.counts

    def run_once(self, stop: Event | None = None) -> int:
        """Claim one batch and deliver it.

        Args:
            stop: Set this event to release the rest of the batch after the current message. Defaults to `None`, which
                delivers the whole batch.

        Returns:
            The number of messages that were claimed; 0 means that no message is due, or that the deliveries are paused.

        Raises:
            InvalidInput: The function returned a coroutine or a generator, or, if it takes batches, neither `None` nor
                a mapping from event ids of the batch to exceptions.
            RegistrationPersistenceError: The database failed; no message is lost.
        """
        return self._loop.run_once(stop)

    def run(self, stop: Event, *, poll: Duration = 1.0) -> None:
        """Deliver until *stop* is set, and finish the current message. Waits while the database cannot be reached.

        Args:
            stop: Set this event from another thread. A signal handler must start a thread for it, because `Event.set`
                may wait for a lock that the interrupted thread holds.
            poll: How long to wait if fewer messages than a full batch are due, as a `timedelta` or in seconds; 0 to
                ten years. Defaults to one second.

        Raises:
            InvalidInput: *poll* is out of its range; nothing was sent.
            RegistrationPersistenceError: The database failed, and the error is not one that a retry can resolve.
        """
        self._loop.run(stop, checked_duration("poll", poll, zero_is_allowed=True))
