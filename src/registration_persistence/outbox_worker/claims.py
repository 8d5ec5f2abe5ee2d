"""`Claims`: claims the messages that are due, without reading the whole queue each time."""

import math
from collections.abc import Sequence
from datetime import timedelta

from registration_persistence.clock import monotonic
from registration_persistence.database import Database
from registration_persistence.domain.records import OutboxMessage
from registration_persistence.repositories.outbox import OutboxPosition, OutboxRepository

# How long a message may stay unseen that was stored before the position and committed after it.
_SECONDS_BETWEEN_WHOLE_READS = 1.0


class Claims:
    """Starts each claim where the previous one started, and at least every second at the beginning of the queue."""

    def __init__(self, database: Database, lease: timedelta) -> None:
        self._database = database
        self._lease = lease
        self._position = OutboxPosition()
        self._last_whole_read = -math.inf

    def take(self, limit: int, delivered: Sequence[OutboxMessage] = ()) -> tuple[OutboxMessage, ...]:
        """Lease up to *limit* messages, fewer only if no other message is due, and delete those that were *delivered*.

        The first claim and the deletion are one statement.
        """
        if monotonic() >= self._last_whole_read + _SECONDS_BETWEEN_WHOLE_READS:
            return self._take_from_the_beginning(limit, delivered)
        messages = self._take(limit, delivered)
        if len(messages) < limit:
            messages += self._take_from_the_beginning(limit - len(messages))
        return messages

    def _take_from_the_beginning(
        self, limit: int, delivered: Sequence[OutboxMessage] = ()
    ) -> tuple[OutboxMessage, ...]:
        self._position = OutboxPosition()
        self._last_whole_read = monotonic()
        return self._take(limit, delivered)

    def _take(self, limit: int, delivered: Sequence[OutboxMessage]) -> tuple[OutboxMessage, ...]:
        with self._database.session(autocommit=True) as session:
            outbox = OutboxRepository(session)
            messages, self._position = outbox.claim_from(self._position, limit, self._lease, delivered=delivered)
        return messages
