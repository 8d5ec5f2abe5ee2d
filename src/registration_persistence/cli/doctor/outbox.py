"""The outbox: the age of the oldest message that is due, and the dead letters."""

from sqlalchemy import text

from registration_persistence.cli.doctor.check import Check, failed, ok, warning
from registration_persistence.cli.doctor.facts import Facts
from registration_persistence.quantities import counted

OUTBOX, DEAD_LETTERS = "outbox", "dead letters"

_WARNING_SECONDS, _FAILURE_SECONDS = 300.0, 3600.0

_MAX_COUNTED = 1000

# Both read the beginning of an index. A failed or claimed message is due again at its `available_at`.
_OLDEST_DUE = text("""
SELECT extract(epoch FROM statement_timestamp() - min(available_at))::float8
FROM public.outbox WHERE dead_at IS NULL AND available_at <= statement_timestamp()
""")
_DEAD = text(f"""
SELECT count(*) AS number, min(dead_at) AS since
FROM (SELECT dead_at FROM public.outbox WHERE dead_at IS NOT NULL ORDER BY dead_at LIMIT {_MAX_COUNTED + 1}) AS dead
""")  # noqa: S608 a constant


def outbox_check(facts: Facts) -> Check:
    """Return how long the oldest message has been due."""
    seconds: float | None = facts.connection.execute(_OLDEST_DUE).scalar_one()
    return age_check(seconds)


def age_check(seconds: float | None) -> Check:
    """Return the result for the age of the oldest due message in seconds; `None` if no message is due."""
    if seconds is None:
        return ok(OUTBOX, "no message is due")
    described = f"the oldest message has been due for {_duration(seconds)}"
    fix = (
        "see whether a worker runs (`registration-persistence outbox run`) and what it logs; "
        "docs/howto/deliver-the-outbox.md"
    )
    if seconds >= _FAILURE_SECONDS:
        return failed(OUTBOX, described, fix)
    return warning(OUTBOX, described, fix) if seconds >= _WARNING_SECONDS else ok(OUTBOX, described)


def dead_letters_check(facts: Facts) -> Check:
    """Count the dead letters."""
    dead = facts.connection.execute(_DEAD).one()
    if not dead.number:
        return ok(DEAD_LETTERS, "none")
    number = f"more than {_MAX_COUNTED:,} messages" if dead.number > _MAX_COUNTED else counted(dead.number, "message")
    return warning(
        DEAD_LETTERS,
        f"{number}, the first one since {dead.since:%Y-%m-%d %H:%M} UTC",
        "`registration-persistence outbox dead` shows the reasons; once they are gone, `registration-persistence "
        "outbox revive --all`",
    )


def _duration(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004 two minutes
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"  # noqa: PLR2004 two hours
