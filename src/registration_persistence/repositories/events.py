"""`EventRepository`: what happened to a registration, in order."""

from uuid import UUID

from registration_persistence.domain.records import Event
from registration_persistence.domain.validation import checked_id, checked_number
from registration_persistence.repositories.base import Repository
from registration_persistence.repositories.sql.events import LIST_EVENTS
from registration_persistence.repositories.traceback_redaction import redact_traceback

_MOST_EVENTS = 1000

# PostgreSQL's integer.
_GREATEST_SEQ = 2**31 - 1


class EventRepository(Repository):
    """The event trail, which outlives erasure and is only ever added to; each method is one statement."""

    @redact_traceback
    def list_events(self, registration_id: UUID, *, after: int = 0, limit: int = 100) -> tuple[Event, ...]:
        """Return the events of a registration in order; none where there was no such registration.

        Args:
            registration_id: Which one.
            after: The `seq` to go on after, for what does not fit into one call.
            limit: Events at most, 1 to 1000.

        Raises:
            InvalidInput: Nothing was sent.
        """
        parameters = {
            "id": checked_id(registration_id),
            "after_seq": checked_number("after", after, 0, _GREATEST_SEQ),
            "limit": checked_number("the limit", limit, 1, _MOST_EVENTS),
        }
        return tuple(
            Event(
                id=row.id,
                registration_id=row.registration_id,
                seq=row.seq,
                type=row.type,
                data=row.data,
                actor=row.actor,
                correlation_id=row.correlation_id,
                occurred_at=row.occurred_at,
            )
            for row in self._session.execute(LIST_EVENTS, parameters)
        )
