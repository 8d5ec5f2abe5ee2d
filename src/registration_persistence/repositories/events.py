"""`EventRepository`: the event log of a registration."""

from uuid import UUID

from registration_persistence.domain.records import Event
from registration_persistence.domain.validation import checked_id, checked_number
from registration_persistence.repositories.base import Repository
from registration_persistence.repositories.sql.events import LIST_EVENTS
from registration_persistence.repositories.traceback_redaction import redact_traceback

_MAX_EVENTS = 1000
_MAX_SEQ = 2**31 - 1  # PostgreSQL's integer


class EventRepository(Repository):
    """The event log, which is append-only and stays after an erasure.

    Each method is one statement: one round trip in an `autocommit` session. Errors of the connection are raised as
    `Database.session` lists them.

    Args:
        session: A session of `Database.session`, or a `sqlalchemy.Connection` of `Database.run` or `Database.engine`.
        actor: For a uniform constructor; reading adds no event. `user`, `system` or `admin:<id>`. Defaults to `user`.
        correlation_id: For a uniform constructor; reading adds no event. 1 to 64 letters, digits or `_.:/-`. Defaults
            to `None`.
    """

    @redact_traceback
    def list_events(self, registration_id: UUID, *, after: int = 0, limit: int = 100) -> tuple[Event, ...]:
        """Return the events of a registration, in the order in which they happened.

        Args:
            registration_id: The registration, a UUID; an unknown one has no events.
            after: The `seq` of the event to continue after, 0 to 2,147,483,647, for a registration with more than
                *limit* events. Defaults to 0, which begins with the first event.
            limit: The largest number of events, 1 to 1000. Defaults to 100.

        Raises:
            InvalidInput: An argument is not valid; nothing was sent.
        """
        parameters = {
            "id": checked_id(registration_id),
            "after_seq": checked_number("after", after, 0, _MAX_SEQ),
            "limit": checked_number("the limit", limit, 1, _MAX_EVENTS),
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
