"""`OutboxRepository`: the messages that are delivered at least once."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Executable, Row

from registration_persistence.domain.claimed_messages import checked_messages
from registration_persistence.domain.records import OutboxMessage
from registration_persistence.domain.validation import (
    checked_duration,
    checked_moment,
    checked_number,
    checked_reason,
    checked_uuids,
)
from registration_persistence.durations import Duration
from registration_persistence.errors import InvalidInput
from registration_persistence.light_dataclass import dataclass
from registration_persistence.repositories.base import Repository
from registration_persistence.repositories.sql.outbox import (
    ACK,
    ACK_AND_CLAIM,
    BURY,
    CLAIM,
    DEAD,
    RELEASE,
    RETRY,
    REVIVE,
)
from registration_persistence.repositories.traceback_redaction import redact_traceback

_MAX_MESSAGES = 1000

_DISTANT_PAST, _NIL = datetime.min.replace(tzinfo=UTC), UUID(int=0)


@dataclass(frozen=True, slots=True)
class OutboxPosition:
    """A position in the queue of due messages, which is ordered by the time since which they are due.

    Args:
        due_since: The time since which the message at this position was due. Defaults to the beginning of the queue.
        event_id: The event id of this message.
    """

    due_since: datetime = _DISTANT_PAST
    event_id: UUID = _NIL


class OutboxClaim(NamedTuple):
    """The messages of a claim, and its first position in the queue."""

    messages: tuple[OutboxMessage, ...]
    position: OutboxPosition


class OutboxRepository(Repository):
    """The queue of messages, one for each event, in the transaction of its session or connection; never commits.

    A claimed message is leased: no other worker gets it until the lease ends, no transaction stays open during that
    time, and a worker that crashes loses nothing. A message is therefore delivered at least once, sometimes twice, and
    not in the order of the events; `OutboxMessage.seq` gives the order. Claim in one session, commit, then deliver.

    Each method is one statement: one round trip in an `autocommit` session, which is the intended use.

    Args:
        session: A session of `Database.session`, or a `sqlalchemy.Connection` of `Database.run` or `Database.engine`.
        actor: For a uniform constructor; messages add no event. `user`, `system` or `admin:<id>`. Defaults to `user`.
        correlation_id: For a uniform constructor; messages add no event. 1 to 64 letters, digits or `_.:/-`. Defaults
            to `None`.
    """

    @redact_traceback
    def claim(self, limit: int = 10, lease: Duration = timedelta(minutes=1)) -> tuple[OutboxMessage, ...]:
        """Lease the messages that are due, the oldest first; any number of workers may call it at the same time.

        Args:
            limit: The largest number of messages, 1 to 1000. Defaults to 10.
            lease: The time for which no other worker gets them, as a `timedelta` or in seconds; more than 0, at most
                ten years. Choose a time that is longer than the delivery of all of them. Defaults to 1 minute.

        Raises:
            InvalidInput: An argument is not valid; nothing was sent.
        """
        return self.claim_from(OutboxPosition(), limit, lease).messages

    @redact_traceback
    def claim_from(
        self,
        position: OutboxPosition,
        limit: int = 10,
        lease: Duration = timedelta(minutes=1),
        *,
        delivered: Iterable[OutboxMessage] = (),
    ) -> OutboxClaim:
        """Lease the messages that are due from *position* on, as `claim` does.

        The server reads the queue from its beginning, and while any session keeps an old snapshot, this includes the
        entries of all messages that were claimed since then. A claim that starts where the previous one started does
        not read them again. It misses messages that were stored with an earlier time and committed later.

        Args:
            position: Start of the claim, an `OutboxPosition`: that of the previous claim, or `OutboxPosition()`.
            limit: The largest number of messages, 1 to 1000. Defaults to 10.
            lease: The time for which no other worker gets them, as a `timedelta` or in seconds; more than 0, at most
                ten years. Choose a time that is longer than the delivery of all of them. Defaults to 1 minute.
            delivered: Messages of the previous claim that were delivered, at most 1000. They are deleted in the same
                statement, as `ack` does it, which saves a round trip and a commit. Defaults to none.

        Raises:
            InvalidInput: An argument is not valid; nothing was sent.
        """
        parameters = {
            "limit": checked_number("the limit", limit, 1, _MAX_MESSAGES),
            "lease": checked_duration("the lease", lease),
            **_start(position),
        }
        ids = [message.event_id for message in checked_messages(delivered, _MAX_MESSAGES)]
        if ids:
            parameters["ids"] = ids
        rows = self._session.execute(ACK_AND_CLAIM if ids else CLAIM, parameters).all()
        messages = tuple(sorted(map(_message, rows), key=lambda message: message.event_id))
        return OutboxClaim(messages, OutboxPosition(rows[0].due_since, rows[0].first_id) if rows else position)

    @redact_traceback
    def ack(self, messages: Iterable[OutboxMessage]) -> int:
        """Delete messages that were delivered.

        Args:
            messages: The messages, as `claim` returned them, at most 1000; also if the lease has ended.

        Returns:
            The number of messages that were still in the outbox.

        Raises:
            InvalidInput: *messages* contains something else or too many; nothing was sent.
        """
        return self._write(ACK, ids=[message.event_id for message in checked_messages(messages, _MAX_MESSAGES)])

    @redact_traceback
    def retry(self, message: OutboxMessage, reason: str, delay: Duration) -> bool:
        """Return a message to the queue, to be tried again after *delay*.

        Args:
            message: The message, as `claim` returned it.
            reason: The reason of the failure, 1 to 200 letters, digits and `_.:-`, for example `smtp:421`.
            delay: The time until the next attempt, as a `timedelta` or in seconds; 0 to ten years.

        Returns:
            False if the lease had ended and another worker has claimed, delivered or buried the message; then nothing
            is changed.

        Raises:
            InvalidInput: An argument is not valid; nothing was sent.
        """
        wait = checked_duration("the delay", delay, zero_is_allowed=True)
        return self._write_claimed(RETRY, [message], error=checked_reason(reason), delay=wait) == 1

    @redact_traceback
    def release(self, messages: Iterable[OutboxMessage]) -> int:
        """Return messages that were not tried to the queue; the attempt does not count.

        Args:
            messages: The messages, as `claim` returned them, at most 1000.

        Returns:
            The number of messages that no other worker had claimed, delivered or buried.

        Raises:
            InvalidInput: *messages* contains something else or too many; nothing was sent.
        """
        return self._write_claimed(RELEASE, messages)

    @redact_traceback
    def bury(self, message: OutboxMessage, reason: str) -> bool:
        """Stop trying to deliver a message; it stays as a dead letter until it is revived.

        Args:
            message: The message, as `claim` returned it.
            reason: The reason, 1 to 200 letters, digits and `_.:-`, for example `smtp:550`.

        Returns:
            False if the lease had ended and another worker has claimed, delivered or buried the message; then nothing
            is changed.

        Raises:
            InvalidInput: An argument is not valid; nothing was sent.
        """
        return self._write_claimed(BURY, [message], error=checked_reason(reason)) == 1

    @redact_traceback
    def dead(self, limit: int = 100) -> tuple[OutboxMessage, ...]:
        """Return the dead letters, the oldest first.

        Args:
            limit: The largest number of messages, 1 to 1000. Defaults to 100.

        Raises:
            InvalidInput: *limit* is not valid; nothing was sent.
        """
        return self._read(DEAD, limit=checked_number("the limit", limit, 1, _MAX_MESSAGES))

    @redact_traceback
    def revive(self, event_ids: Iterable[UUID]) -> int:
        """Make dead letters due again, with no attempts counted.

        Args:
            event_ids: The ids of the messages, at most 1000; those of other messages are ignored.

        Returns:
            The number of dead letters among them.

        Raises:
            InvalidInput: *event_ids* contains something other than UUIDs, or too many; nothing was sent.
        """
        return self._write(REVIVE, ids=checked_uuids(event_ids, _MAX_MESSAGES))

    def _read(self, statement: Executable, **parameters: Any) -> tuple[OutboxMessage, ...]:
        return tuple(_message(row) for row in self._session.execute(statement, parameters))

    def _write(self, statement: Executable, **parameters: Any) -> int:
        result: Any = self._session.execute(statement, parameters)
        return int(result.rowcount)

    def _write_claimed(self, statement: Executable, messages: Iterable[OutboxMessage], **parameters: Any) -> int:
        claimed = checked_messages(messages, _MAX_MESSAGES)
        return self._write(
            statement,
            ids=[message.event_id for message in claimed],
            attempts_of=[message.attempts for message in claimed],
            leased_until=[message.available_at for message in claimed],
            **parameters,
        )


def _start(position: OutboxPosition) -> dict[str, Any]:
    if not isinstance(position, OutboxPosition) or not isinstance(position.event_id, UUID):
        raise InvalidInput("the position is not an OutboxPosition: pass the position of the previous claim")
    return {"due_since": checked_moment("due_since", position.due_since), "first_id": position.event_id}


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
