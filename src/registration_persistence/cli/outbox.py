"""`outbox`: run a worker, print the dead letters, and make them due again."""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from threading import Event, Thread
from types import FrameType
from uuid import UUID

from registration_persistence.cli.arguments import Subcommands, check_chosen, number, seconds, uuid
from registration_persistence.cli.console import ExitCode
from registration_persistence.cli.deliver_function import load_function
from registration_persistence.database import get_db, session_scope
from registration_persistence.outbox_worker import OutboxWorker
from registration_persistence.repositories.outbox import OutboxRepository

# The most that `OutboxRepository.dead` returns, and `OutboxRepository.revive` takes, at once.
_MAX_DEAD_MESSAGES = 1000

_up_to_1000 = number(int, 1, 1000)


def add_commands(commands: Subcommands) -> None:
    """Add the commands for the outbox."""
    group = commands.add_group("outbox", "deliver messages, and show or revive dead letters")
    _add_run(group)
    _add_dead(group)
    _add_revive(group)


def _add_run(commands: Subcommands) -> None:
    parser = commands.add("run", _run, "deliver messages until SIGTERM")
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
    deliver = load_function(options.deliver)
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
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        if options.once:
            while not stop.is_set() and worker.run_once(stop):
                pass
        else:
            print("delivering: SIGTERM or Ctrl-C ends it after the current message", file=sys.stderr, flush=True)
            worker.run(stop, poll=options.poll)
    finally:
        get_db().dispose()
        print(", ".join(f"{worker.counts[name]} {name}" for name in ("delivered", "retried", "buried", "released")))
    return ExitCode.DONE


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
    parser = commands.add("dead", _dead, "print the dead letters")
    parser.add_argument(
        "--limit", type=_up_to_1000, default=100, metavar="MESSAGES", help="1 to 1000 messages (default: 100)"
    )


def _dead(options: argparse.Namespace) -> int:
    with session_scope(autocommit=True) as session:
        messages = OutboxRepository(session).dead(options.limit)
    for message in messages:
        assert message.dead_at is not None
        died_at = message.dead_at.isoformat(timespec="seconds")
        print(message.event_id, died_at, message.type, message.registration_id, message.last_error)
    if not messages:
        print("there are no dead letters", file=sys.stderr)
    return ExitCode.DONE


def _add_revive(commands: Subcommands) -> None:
    parser = commands.add("revive", _revive, "make dead letters due again")
    parser.add_argument("ids", nargs="*", type=uuid, metavar="EVENT_ID", help="event ids of messages")
    parser.add_argument("--all", action="store_true", help="all dead letters")


def _revive(options: argparse.Namespace) -> int:
    check_chosen(options.ids, others=options.all, option="--all")
    if options.all:
        print(f"revived {_revive_all()}")
        return ExitCode.DONE
    wanted: Sequence[UUID] = list(dict.fromkeys(options.ids))
    revived = 0
    for start in range(0, len(wanted), _MAX_DEAD_MESSAGES):
        with session_scope(autocommit=True) as session:
            revived += OutboxRepository(session).revive(wanted[start : start + _MAX_DEAD_MESSAGES])
    print(f"revived {revived} of {len(wanted)}")
    return ExitCode.DONE if revived == len(wanted) else ExitCode.FAILED


def _revive_all() -> int:
    revived, found = 0, _MAX_DEAD_MESSAGES
    while found >= _MAX_DEAD_MESSAGES:
        with session_scope(autocommit=True) as session:
            outbox = OutboxRepository(session)
            ids = [message.event_id for message in outbox.dead(_MAX_DEAD_MESSAGES)]
            revived += outbox.revive(ids)
        found = len(ids)
    return revived
