"""The load of `chaos`, which runs in its processes: clients that sign up, and send a request again if they must."""

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
"""Has a row for each sign-up and nothing that keeps a second one out, unlike `registrations`."""

Outcome = Literal["ok", "failed", "unknown"]
"""`failed` where an error said that nothing was kept, `unknown` where the client gave up and never learnt it."""

# Seconds that a request may take.
_DEADLINE = 10.0

# How often a client sends a request again whose outcome it was not told, and how many seconds it waits before.
_REPLAYS = 5

_BEFORE_REPLAY = 0.1

# Seconds between two requests of a process, at the longest.
_PAUSE = 0.01

_LONGEST_MESSAGE = 300

_INSERT = text(f"INSERT INTO {TABLE} (key) VALUES (:key)")  # noqa: S608 a constant

_INSERT_IF_MISSING = text(
    f"INSERT INTO {TABLE} (key) SELECT :key WHERE NOT EXISTS (SELECT FROM {TABLE} WHERE key = :key)"  # noqa: S608 a constant
)


@dataclass(frozen=True, slots=True)
class Record:
    """One sign-up, as its client saw it.

    Args:
        key: Its idempotency key; `KEY@example.com` is the mailbox.
        began: When it was sent, on the clock of `time.time`.
        seconds: How long it took, replays included.
        outcome: See `Outcome`.
        attempts: How often its transaction was begun, by `Database.run` and by the client.
        error: The name of the last error's class; empty where all went well.
        said: What the error said.
    """

    key: str
    began: float
    seconds: float
    outcome: Outcome
    attempts: int = 1
    error: str = ""
    said: str = ""


def load(event: Mapping[str, Any], _context: object) -> list[dict[str, Any]]:
    """Sign people up, one after the other, and return a `Record` of each.

    Args:
        event: Has `name`, which begins each key; `stop`, the file that ends the load when it appears; `at_most`, the
            seconds after which it ends anyway; `seed`, of the pauses.
    """
    pauses = random.Random(event["seed"])  # noqa: S311 a pause guards no secret
    stop, end = Path(event["stop"]), time.monotonic() + event["at_most"]
    records: list[dict[str, Any]] = []
    get_db().warm_up()
    while not stop.exists() and time.monotonic() < end:
        records.append(asdict(_sign_up(f"{event['name']}-{len(records)}")))
        time.sleep(pauses.uniform(0, _PAUSE))
    return records


def _sign_up(key: str) -> Record:
    """Send one request, and again for as long as nobody says whether it was kept."""
    events = get_db().events
    retries, began, started = events.count("retry"), time.time(), time.monotonic()
    unknown, sent = False, 0
    error: Exception | None = None
    while sent <= _REPLAYS:
        sent += 1
        try:
            with deadline(_DEADLINE):
                get_db().run(partial(_store, key, replay=unknown))
        except CommitOutcomeUnknown as failure:
            unknown, error = True, failure
        except Exception as failure:  # noqa: BLE001 whatever it is goes into the report
            error = failure
            if not unknown:
                break
        else:
            error = None
            break
        time.sleep(_BEFORE_REPLAY)
    return Record(
        key,
        began,
        time.monotonic() - started,
        "ok" if error is None else "unknown" if unknown else "failed",
        sent + events.count("retry") - retries,
        "" if error is None else type(error).__name__,
        "" if error is None else str(error).partition("\n")[0][:_LONGEST_MESSAGE],
    )


def _store(key: str, session: Session, *, replay: bool) -> None:
    RegistrationRepository(session).register(
        f"{key}@example.com", consents=[Consent("terms", "2026-01")], idempotency_key=key
    )
    # After `register`, which waits for a transaction with the same key that has not ended.
    session.execute(_INSERT_IF_MISSING if replay else _INSERT, {"key": key})
