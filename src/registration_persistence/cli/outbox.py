"""`outbox`: run a worker, print the dead letters, and make them due again."""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from threading import Event, Thread
from types import FrameType
from typing import TYPE_CHECKING
from uuid import UUID

from registration_persistence.cli.arguments import check_chosen, number, seconds, uuid
from registration_persistence.cli.commands import Subcommands
from registration_persistence.cli.console import ExitCode, note, option_name, report
from registration_persistence.database import get_db, session_scope

# The most that `OutboxRepository.dead` returns, and `OutboxRepository.revive` takes, at once.
_MAX_DEAD_MESSAGES = 1000

if TYPE_CHECKING:
    from registration_persistence.outbox_worker import OutboxWorker

_up_to_1000 = number(int, 1, 1000)


def add_commands(commands: Subcommands) -> None:
    """Add the commands for the outbox."""
    group = commands.add_group("outbox", "deliver messages, and show or revive dead letters")
    _add_run(group)
    _add_dead(group)
    _add_revive(group)


def _add_run(commands: Subcommands) -> None:
    parser = commands.add(
        "run",
        _run,
        "deliver messages until SIGTERM",
        examples=["outbox run --deliver myservice.mail:deliver --once"],
        json_fields={
            "delivered": "number of delivered messages",
            "retried": "number of failed attempts",
            "buried": "number of messages that became dead letters",
            "released": "number of messages that were returned before their delivery",
        },
    )
    parser.add_argument(
        "--deliver", required=True, metavar="MODULE:FUNCTION", help="the function to call with each message"
    )
    parser.add_argument("--once", action="store_true", help="end when no message is due, or when the worker pauses")
    parser.add_argument(
        "--takes-batch", action="store_true", help="call the function with a tuple of all messages of a batch"
    )
    parser.add_argument(
        "--acknowledge",
        choices=["message", "batch"],
        default="message",
        help="delete each delivered message at once, or together those of up to a batch or 0.1 s (default: message)",
    )
    for option, kind, default, metavar, purpose in (
        ("--batch", _up_to_1000, 10, "MESSAGES", "messages to claim at once, 1 to 1000"),
        ("--lease", seconds, 60, "SECONDS", "seconds until other workers may claim the batch, 0.1 to 86400"),
        ("--max-attempts", _up_to_1000, 10, "ATTEMPTS", "attempts until a message is a dead letter, 1 to 1000"),
        ("--poll", seconds, 1, "SECONDS", "seconds to wait if no message is due, 0.1 to 86400"),
    ):
        parser.add_argument(option, type=kind, default=default, metavar=metavar, help=f"{purpose} (default: {default})")


def _run(options: argparse.Namespace) -> int:
    from registration_persistence.cli.deliver_function import load_function
    from registration_persistence.outbox_worker import OutboxWorker

    deliver = load_function(options.deliver, given_as=option_name(options, "--deliver"))
    worker = OutboxWorker(
        get_db(),
        deliver,
        takes_batch=options.takes_batch,
        acknowledge=options.acknowledge,
        batch=options.batch,
        lease=options.lease,
        max_attempts=options.max_attempts,
    )
    stop = _stop_on_signals()
    try:
        if options.once:
            _deliver_due(options, worker, stop)
        else:
            _log_to_standard_error()
            note(options, "delivering: SIGTERM or Ctrl-C ends it after the current message")
            worker.run(stop, poll=options.poll)
    finally:
        get_db().dispose()
        counts = {name: worker.counts[name] for name in ("delivered", "retried", "buried", "released")}
        report(options, ", ".join(f"{number} {name}" for name, number in counts.items()), counts)
    return ExitCode.DONE


def _deliver_due(options: argparse.Namespace, worker: "OutboxWorker", stop: Event) -> None:
    """Deliver until no message is due, with a progress bar."""
    from registration_persistence.cli.progress import counting_bar
    from registration_persistence.cli.remaining import due_messages

    with counting_bar("Delivering messages", due_messages, hidden=options.json) as show:
        _log_to_standard_error()  # inside, so that a line of the log is printed above the bar
        while not stop.is_set() and worker.run_once(stop):
            show(worker.counts.total())


def _log_to_standard_error() -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)


def _stop_on_signals() -> Event:
    """Return an event that SIGTERM and Ctrl-C set."""
    stop = Event()

    def set_stop(_number: int, _frame: FrameType | None) -> None:
        # In another thread, because this one may hold the lock of `stop` at the moment, when it waits for it.
        Thread(target=stop.set).start()

    for number_of_signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number_of_signal, set_stop)
    return stop


def _add_dead(commands: Subcommands) -> None:
    parser = commands.add(
        "dead",
        _dead,
        "print the dead letters",
        examples=["outbox dead --limit 20"],
        json_fields={
            "event_id": "id of the event, and of the message",
            "dead_at": "time at which the message became a dead letter",
            "type": "type of the message",
            "registration_id": "id of the registration",
            "last_error": "reason of the last failed attempt",
        },
        json_lines=True,
    )
    parser.add_argument(
        "--limit", type=_up_to_1000, default=100, metavar="MESSAGES", help="1 to 1000 messages (default: 100)"
    )


def _dead(options: argparse.Namespace) -> int:
    from registration_persistence.repositories.outbox import OutboxRepository

    with session_scope(autocommit=True) as session:
        messages = OutboxRepository(session).dead(options.limit)
    for message in messages:
        assert message.dead_at is not None
        data = {
            "event_id": message.event_id,
            "dead_at": message.dead_at.isoformat(timespec="seconds"),
            "type": message.type,
            "registration_id": message.registration_id,
            "last_error": message.last_error,
        }
        report(options, " ".join(map(str, data.values())), data)
    if not messages and not options.json:
        print("there are no dead letters", file=sys.stderr)
    return ExitCode.DONE


def _add_revive(commands: Subcommands) -> None:
    parser = commands.add(
        "revive",
        _revive,
        "make dead letters due again",
        examples=["outbox revive --all"],
        json_fields={"revived": "number of revived messages", "chosen": "number of ids; null with `--all`"},
    )
    parser.add_argument("ids", nargs="*", type=uuid, metavar="EVENT_ID", help="event ids of messages")
    parser.add_argument("--all", action="store_true", help="all dead letters")


def _revive(options: argparse.Namespace) -> int:
    from registration_persistence.repositories.outbox import OutboxRepository

    check_chosen(options.ids, others=options.all, option="--all")
    if options.all:
        revived = _revive_all()
        report(options, f"revived {revived}", {"revived": revived, "chosen": None})
        return ExitCode.DONE
    wanted: Sequence[UUID] = list(dict.fromkeys(options.ids))
    revived = 0
    for start in range(0, len(wanted), _MAX_DEAD_MESSAGES):
        with session_scope(autocommit=True) as session:
            revived += OutboxRepository(session).revive(wanted[start : start + _MAX_DEAD_MESSAGES])
    report(options, f"revived {revived} of {len(wanted)}", {"revived": revived, "chosen": len(wanted)})
    return ExitCode.DONE if revived == len(wanted) else ExitCode.FAILED


def _revive_all() -> int:
    from registration_persistence.repositories.outbox import OutboxRepository

    revived, found = 0, _MAX_DEAD_MESSAGES
    while found >= _MAX_DEAD_MESSAGES:
        with session_scope(autocommit=True) as session:
            outbox = OutboxRepository(session)
            ids = [message.event_id for message in outbox.dead(_MAX_DEAD_MESSAGES)]
            revived += outbox.revive(ids)
        found = len(ids)
    return revived
