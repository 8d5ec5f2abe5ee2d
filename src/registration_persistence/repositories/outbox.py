"""`OutboxRepository`: messages that are to be delivered at least once."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, TextClause

from registration_persistence.domain.records import OutboxMessage
from registration_persistence.domain.validation import checked_gap, checked_number, checked_reason, checked_ttl
from registration_persistence.errors import InvalidInput
from registration_persistence.repositories.base import Repository
from registration_persistence.repositories.sql.outbox import ACK, BURY, CLAIM, DEAD, RELEASE, RETRY, REVIVE
from registration_persistence.repositories.traceback_redaction import redact_traceback

_MOST_MESSAGES = 1000


class OutboxRepository(Repository):
    """The queue of messages, one for each event, deleted when it was delivered; never commits.

    A message that was claimed is leased: nobody else gets it until the lease is over, no transaction stays open
    meanwhile, and a worker that dies loses nothing. So a message is delivered at least once, sometimes twice, and not
    in the order of the events; `OutboxMessage.seq` tells the order. Claim in one session and commit, then deliver.

    Each method is one statement: one round trip in an `autocommit` session, which is what it is made for.
    """

    @redact_traceback
    def claim(self, limit: int = 10, lease: timedelta = timedelta(minutes=1)) -> tuple[OutboxMessage, ...]:
        """Lease messages that are due, the oldest first; any number of workers may ask at once.

        Args:
            limit: Messages at most, 1 to 1000.
            lease: How long they are kept from others; longer than delivering all of them takes.

        Raises:
            InvalidInput: Nothing was sent.
        """
        claimed = self._read(
            CLAIM,
            limit=checked_number("the limit", limit, 1, _MOST_MESSAGES),
            lease=checked_ttl("the lease", lease),
        )
        return tuple(sorted(claimed, key=lambda message: message.event_id))

    @redact_traceback
    def ack(self, messages: Iterable[OutboxMessage]) -> int:
        """Remove messages that were delivered; return how many were still there."""
        return self._write(ACK, ids=[message.event_id for message in _checked(messages)])

    @redact_traceback
    def retry(self, message: OutboxMessage, reason: str, delay: timedelta) -> bool:
        """Give a message back, to be tried again after *delay*.

        Args:
            message: As `claim` gave it.
            reason: Why it was not delivered, in letters, digits and `_.:-`, for example `smtp:421`.
            delay: How long to wait, 0 included.

        Returns:
            False where the lease was over and somebody else has claimed, delivered or buried it; nothing is done.

        Raises:
            InvalidInput: Nothing was sent.
        """
        parameters = {"error": checked_reason(reason), "delay": checked_gap("the delay", delay)}
        return self._write_claimed(RETRY, [message], **parameters) == 1

    @redact_traceback
    def release(self, messages: Iterable[OutboxMessage]) -> int:
        """Give messages back that were not tried, as if they had not been claimed; return how many were still ours."""
        return self._write_claimed(RELEASE, messages)

    @redact_traceback
    def bury(self, message: OutboxMessage, reason: str) -> bool:
        """Give a message up: it stays, for `dead` to find, until it is revived.

        Args, result and errors are those of `retry`.
        """
        return self._write_claimed(BURY, [message], error=checked_reason(reason)) == 1

    @redact_traceback
    def dead(self, limit: int = 100) -> tuple[OutboxMessage, ...]:
        """Return messages that were given up, the oldest first; 1 to 1000."""
        return self._read(DEAD, limit=checked_number("the limit", limit, 1, _MOST_MESSAGES))

    @redact_traceback
    def revive(self, event_ids: Iterable[UUID]) -> int:
        """Make messages due that were given up, with all their attempts anew; return how many there were.

        Raises:
            InvalidInput: Nothing was sent.
        """
        ids = list(event_ids) if isinstance(event_ids, Iterable) else [None]
        if not all(isinstance(event_id, UUID) for event_id in ids):
            raise InvalidInput("the event ids are not all of them a uuid.UUID")
        return self._write(REVIVE, ids=ids)

    def _read(self, statement: TextClause, **parameters: Any) -> tuple[OutboxMessage, ...]:
        return tuple(_message(row) for row in self._session.execute(statement, parameters))

    def _write(self, statement: TextClause, **parameters: Any) -> int:
        result: Any = self._session.execute(statement, parameters)
        return int(result.rowcount)

    def _write_claimed(self, statement: TextClause, messages: Iterable[OutboxMessage], **parameters: Any) -> int:
        claimed = _checked(messages)
        return self._write(
            statement,
            ids=[message.event_id for message in claimed],
            attempts_of=[message.attempts for message in claimed],
            leased_until=[message.available_at for message in claimed],
            **parameters,
        )


def _checked(messages: Iterable[OutboxMessage]) -> list[OutboxMessage]:
    given = list(messages) if isinstance(messages, Iterable) else [messages]
    if not all(isinstance(message, OutboxMessage) for message in given):
        raise InvalidInput("the messages are not all of them an OutboxMessage, as claim gave it")
    return given


def _message(row: Row[Any]) -> OutboxMessage:
    return OutboxMessage(
        event_id=row.event_id,
        registration_id=row.registration_id,
        type=row.type,
        seq=row.seq,
        attempts=row.attempts,
        last_error=row.last_error,
        available_at=row.available_at,
        dead_at=row.dead_at,
    )
