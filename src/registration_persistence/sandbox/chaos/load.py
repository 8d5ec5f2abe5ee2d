"""The load of `chaos`: a handler whose clients sign up, and repeat a request if its outcome is unknown."""

import random
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

from registration_persistence.database import deadline, get_db
from registration_persistence.domain.records import Consent
from registration_persistence.errors import CommitOutcomeUnknown
from registration_persistence.repositories.registrations import RegistrationRepository

HANDLER = f"{__name__}:load"

TABLE = "chaos_attempts"
"""The table with a row for each sign-up; unlike `registrations` it has no unique constraint that rejects duplicates."""

RequestOutcome = Literal["ok", "failed", "unknown"]
"""`failed`: an error said that nothing was kept. `unknown`: the client gave up without a known outcome."""

REQUEST_TIMEOUT_SECONDS = 10.0
"""The deadline of one request; a client that repeats a request gets it again."""

_MAX_REPLAYS = 5
_REPLAY_PAUSE_SECONDS = 0.1

# The longest pause between two requests of a process.
_MAX_PAUSE_SECONDS = 0.01
_MAX_MESSAGE_CHARACTERS = 300

_INSERT = text(f"INSERT INTO {TABLE} (key) VALUES (:key)")  # noqa: S608 a constant

_INSERT_IF_MISSING = text(
    f"INSERT INTO {TABLE} (key) SELECT :key WHERE NOT EXISTS (SELECT FROM {TABLE} WHERE key = :key)"  # noqa: S608 a constant
)


@dataclass(frozen=True, slots=True)
class Record:
    """One sign-up, as its client has seen it.

    Args:
        key: Idempotency key of the sign-up; its mailbox is `KEY@example.com`.
        started_at: Start of the first request, on the clock of `time.time`.
        seconds: Duration in seconds, with replays.
        outcome: See `RequestOutcome`.
        attempts: The number of transactions that `Database.run` and the client began for it.
        error: Class name of the last error; empty if the outcome is `ok`.
        message: First line of the last error's message; empty if the outcome is `ok`.
    """

    key: str
    started_at: float
    seconds: float
    outcome: RequestOutcome
    attempts: int = 1
    error: str = ""
    message: str = ""


def load(event: Mapping[str, Any], _context: object) -> list[dict[str, Any]]:
    """Sign up one mailbox after the other, and return a `Record` of each.

    Args:
        event: An object with `name`, the prefix of each key; `stop_file`, which ends the load when it exists;
            `max_seconds`, the limit of the load; and `seed` of the pauses.
    """
    generator = random.Random(event["seed"])  # noqa: S311 not for cryptography
    stop_file, end = Path(event["stop_file"]), time.monotonic() + event["max_seconds"]
    records: list[dict[str, Any]] = []
    get_db().warm_up()
    while not stop_file.exists() and time.monotonic() < end:
        records.append(asdict(_sign_up(f"{event['name']}-{len(records)}")))
        time.sleep(generator.uniform(0, _MAX_PAUSE_SECONDS))
    return records


def _sign_up(key: str) -> Record:
    """Send one request, repeat it while its outcome is unknown, and measure it."""
    events = get_db().events
    retries, started_at, started = events.count("retry"), time.time(), time.monotonic()
    outcome, requests, error = _send_until_known(key)
    return Record(
        key,
        started_at,
        time.monotonic() - started,
        outcome,
        requests + events.count("retry") - retries,
        "" if error is None else type(error).__name__,
        "" if error is None else str(error).partition("\n")[0][:_MAX_MESSAGE_CHARACTERS],
    )


def _send_until_known(key: str) -> tuple[RequestOutcome, int, Exception | None]:
    """Return the outcome, the number of requests, and the last error if there was one."""
    is_unknown = False
    error: Exception | None = None
    for request in range(1, _MAX_REPLAYS + 2):
        try:
            with deadline(REQUEST_TIMEOUT_SECONDS):
                get_db().run(partial(_store, key, is_replay=is_unknown))
        except CommitOutcomeUnknown as failure:
            is_unknown, error = True, failure
        except Exception as failure:  # noqa: BLE001 every error is reported
            if not is_unknown:
                return "failed", request, failure
            error = failure
        else:
            return "ok", request, None
        time.sleep(_REPLAY_PAUSE_SECONDS)
    return "unknown", _MAX_REPLAYS + 1, error


def _store(key: str, session: Session, *, is_replay: bool) -> None:
    RegistrationRepository(session).register(
        f"{key}@example.com", consents=[Consent("terms", "2026-01")], idempotency_key=key
    )
    # This follows `register`, which waits for an open transaction with the same key.
    session.execute(_INSERT_IF_MISSING if is_replay else _INSERT, {"key": key})
