"""The handlers of the resilience tests: a service as its users write it, with measurements."""

import os
import time
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from registration_persistence import Consent, RegistrationPersistenceError, RegistrationRepository, deadline, get_db
from registration_persistence.database import DatabaseEvent
from registration_persistence.errors import CommitOutcomeUnknown

_events: dict[str, int] = {}


def _count(event: DatabaseEvent) -> None:
    key = f"{event.name}: {event.cause}"
    _events[key] = _events.get(key, 0) + 1


get_db().events.subscribe(_count)
if os.environ.get("WARM_UP"):
    get_db().warm_up()


def events(_event: Any = None, _context: Any = None) -> dict[str, int]:
    """Return the number of events of the database, by name and cause."""
    return _events


def sign_up(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Register one mailbox before the invocation ends, and return the backend that did it."""

    def work(session: Session) -> int:
        RegistrationRepository(session).register(f"{event['key']}@example.com", idempotency_key=event["key"])
        return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)

    with deadline(context):
        backend = get_db().run(work, idempotent=event.get("idempotent", False))
    return {"backend": backend, "user": _user(), "events": _events}


def _user() -> str:
    with get_db().session(read_only=True) as session:
        return str(session.scalar(text("SELECT current_user")))


def load(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Register one mailbox after the other, each with its own deadline.

    The event has `name`, the prefix of each key; `seconds`, the duration of the load; `deadline` of each request in
    seconds; `pause` after every tenth request in seconds; `idempotent`, the argument of `run`.
    """
    kept: list[str] = []
    failed: list[dict[str, Any]] = []
    unknown: list[str] = []
    slowest, number = 0.0, 0
    end = time.monotonic() + event["seconds"]
    while time.monotonic() < end:
        key, number = f"{event['name']}-{number}", number + 1
        started = time.monotonic()
        try:
            with deadline(event["deadline"]):
                get_db().run(_registering(key), idempotent=event.get("idempotent", False))
            kept.append(key)
        except CommitOutcomeUnknown:
            unknown.append(key)
        except RegistrationPersistenceError as error:
            failed.append({"key": key, "type": type(error).__name__, "message": str(error)})
        slowest = max(slowest, time.monotonic() - started)
        if number % 10 == 0:
            time.sleep(event.get("pause", 0))
    return {"kept": kept, "failed": failed, "unknown": unknown, "slowest": slowest, "events": _events}


def sign_ups(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Register `units` mailboxes without idempotency keys, in a transaction each or in autocommit."""
    kept: list[str] = []
    failed: list[dict[str, Any]] = []
    for number in range(event["units"]):
        key = f"{event['name']}-{number}"

        def work(session: Session, key: str = key) -> Any:
            return RegistrationRepository(session).register(f"{key}@example.com")

        try:
            with deadline(20):
                outcome = get_db().run(work, autocommit=event["autocommit"])
            assert outcome.registration.email == f"{key}@example.com"
            kept.append(key)
        except RegistrationPersistenceError as error:
            failed.append({"key": key, "type": type(error).__name__, "message": str(error)})
    return {"kept": kept, "failed": failed, "unknown": [], "events": _events}


def _registering(key: str) -> Any:
    def work(session: Session) -> None:
        RegistrationRepository(session).register(
            f"{key}@example.com", consents=[Consent("terms", "2026-01")], idempotency_key=key
        )

    return work


def replay(event: dict[str, Any], context: Any) -> None:
    """Repeat the sign-ups of `keys`, as clients do if they got no reply."""
    with deadline(context):
        for key in event["keys"]:
            get_db().run(_registering(key), idempotent=True)


def idle_in_a_transaction(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Idle in the transaction for `seconds` in the first attempt, so that the server ends it."""
    attempts: list[int] = []

    def work(session: Session) -> None:
        attempts.append(1)
        RegistrationRepository(session).register(f"{event['key']}@example.com", idempotency_key=event["key"])
        if len(attempts) == 1:
            time.sleep(event["seconds"])
        session.execute(text("SELECT 1"))

    with deadline(context):
        get_db().run(work)
    return {"attempts": len(attempts)}


def units(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Run `units` units of work of different kinds: sign-ups, and reads with parameters of different types."""
    kept: list[str] = []
    failed: list[dict[str, Any]] = []
    for number in range(event["units"]):
        key = f"{event['name']}-{number}"
        try:
            if number % 10 == 1:
                get_db().run(_registering(key), attempts=1)
                kept.append(key)
            else:
                _read(number, key)
        except Exception as error:  # noqa: BLE001 wrong parameters cause errors of any class
            failed.append({"key": key, "type": type(error).__name__, "message": str(error)})
    return {"units": event["units"], "kept": kept, "failed": failed, "unknown": []}


def _read(number: int, key: str) -> None:
    options: dict[str, Any] = [{}, {"autocommit": True}, {"read_only": True}][number % 3]
    # psycopg prepares a statement at its sixth execution on a connection, if it is not told otherwise.
    runs = 8 if number % 5 == 0 else 1
    with get_db().session(**options) as session:
        for _ in range(runs):
            if number % 2:
                assert session.scalar(text("SELECT CAST(:n AS int) + 1"), {"n": number}) == number + 1
            else:
                assert session.scalar(text("SELECT CAST(:t AS text) || '!'"), {"t": key}) == f"{key}!"
