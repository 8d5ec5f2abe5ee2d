"""`outbox`: run a worker, look at the messages that it gave up, make them due again."""

import importlib
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from threading import Event, Thread
from types import FrameType
from uuid import UUID

from registration_persistence.database import get_db, session_scope
from registration_persistence.domain.records import OutboxMessage
from registration_persistence.errors import RegistrationPersistenceError
from registration_persistence.outbox_worker import OutboxWorker
from registration_persistence.repositories.outbox import OutboxRepository

_ALL = 1000

Deliver = Callable[[OutboxMessage], object]


class NoSuchFunction(RegistrationPersistenceError):
    """What `--deliver` names cannot be called; the message says why."""

    exit_code = 2


def load(name: str) -> Deliver:
    """Return the function that *name*, `module:function`, names; the module may be in the current folder.

    Raises:
        NoSuchFunction: It is not of that form, or cannot be imported or called.
    """
    module, separator, attribute = name.partition(":")
    if not (module and separator and attribute) or module.startswith("."):
        raise NoSuchFunction(f"--deliver {name}: expected module:function, for example myservice.mail:deliver")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise NoSuchFunction(f"--deliver {name}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not callable(found):
        raise NoSuchFunction(f"--deliver {name}: {attribute} cannot be called")
    deliver: Deliver = found
    return deliver


def run(worker: OutboxWorker, *, once: bool, poll: float) -> None:
    """Deliver until SIGTERM or Ctrl-C, or *once* until nothing is due; say at the end how many there were."""
    stop = Event()

    def finish(_number: int, _frame: FrameType | None) -> None:
        # In a thread, because this one may hold the lock of `stop` just now, while it waits for it.
        Thread(target=stop.set).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, finish)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        if once:
            while not stop.is_set() and worker.run_once(stop):
                pass
        else:
            print("delivering; SIGTERM or Ctrl-C ends it after the message at hand", file=sys.stderr, flush=True)
            worker.run(stop, poll=poll)
    finally:
        get_db().dispose()
        print(", ".join(f"{worker.counts[name]} {name}" for name in ("delivered", "retried", "buried", "released")))


def dead(limit: int) -> None:
    """Print the messages that were given up, the oldest first."""
    with session_scope(autocommit=True) as session:
        messages = OutboxRepository(session).dead(limit)
    for message in messages:
        assert message.dead_at is not None
        print(
            message.event_id,
            message.dead_at.isoformat(timespec="seconds"),
            message.type,
            message.registration_id,
            message.last_error,
        )
    if not messages:
        print("no message was given up", file=sys.stderr)


def revive(event_ids: Sequence[UUID], *, everything: bool) -> bool:
    """Make messages due that were given up; tell whether all of *event_ids* were."""
    revived = 0
    while True:
        with session_scope(autocommit=True) as session:
            outbox = OutboxRepository(session)
            chosen = [message.event_id for message in outbox.dead(_ALL)] if everything else event_ids
            revived += outbox.revive(chosen)
        if not everything or len(chosen) < _ALL:
            break
    print(f"revived {revived}" + ("" if everything else f" of {len(set(event_ids))}"))
    return everything or revived == len(set(event_ids))
