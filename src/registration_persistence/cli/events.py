"""`events`: the event log of a registration."""

import argparse

from registration_persistence.cli.arguments import number, uuid
from registration_persistence.cli.commands import Subcommands
from registration_persistence.cli.console import ExitCode, note, quoted_value, report
from registration_persistence.database import session_scope
from registration_persistence.errors import RegistrationNotFound

_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def add_commands(commands: Subcommands) -> None:
    """Add `events`."""
    parser = commands.add(
        "events",
        _events,
        "print the event log of a registration, which has no personal data",
        examples=[f"events {_ID}", f"events {_ID} --after 100 --limit 1000"],
        json_fields={
            "seq": "number of the event within its registration",
            "id": "id of the event",
            "type": "type of the change",
            "occurred_at": "time of the change",
            "actor": "cause of the change",
            "correlation_id": "trace id, or null",
            "data": "details, for example names of fields",
        },
        json_lines=True,
    )
    parser.add_argument("id", type=uuid, metavar="ID", help="id of the registration")
    parser.add_argument(
        "--after",
        type=number(int, 0, 2**31 - 1),
        default=0,
        metavar="SEQ",
        help="the number of the event to continue after, 0 to 2147483647 (default: 0)",
    )
    parser.add_argument(
        "--limit", type=number(int, 1, 1000), default=100, metavar="EVENTS", help="1 to 1000 events (default: 100)"
    )


def _events(options: argparse.Namespace) -> int:
    from registration_persistence.repositories.events import EventRepository
    from registration_persistence.repositories.registrations import RegistrationRepository

    with session_scope(read_only=True) as session:
        log = EventRepository(session)
        events = log.list_events(options.id, after=options.after, limit=options.limit)
        # The events of a purged registration stay, and those of an old one may be dropped with their partition.
        if not events and not options.after and RegistrationRepository(session).get(options.id) is None:
            raise RegistrationNotFound(options.id)
        more = len(events) == options.limit and log.list_events(options.id, after=events[-1].seq, limit=1)
    for event in events:
        data = {
            "seq": event.seq,
            "id": event.id,
            "type": event.type,
            "occurred_at": event.occurred_at,
            "actor": event.actor,
            "correlation_id": event.correlation_id,
            "data": event.data,
        }
        details = f"  {quoted_value(event.data)}" if event.data else ""
        trace = f"  {event.correlation_id}" if event.correlation_id else ""
        text = f"{event.seq:>6}  {event.occurred_at:%Y-%m-%d %H:%M:%SZ}  {event.type}  {event.actor}{trace}{details}"
        report(options, text, data)
    note(options, "there are no events", shown=not events)
    note(options, f"more events follow: --after {events[-1].seq if events else 0}", shown=bool(more))
    return ExitCode.DONE
