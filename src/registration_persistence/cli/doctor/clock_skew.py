"""The clock of the server, compared with that of this process."""

import time
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from registration_persistence.cli.doctor.check import Check, failed, ok, warning
from registration_persistence.cli.doctor.facts import Facts
from registration_persistence.clock import monotonic

NAME = "clock"

_SAMPLES = 3

_WARNING_SECONDS = 5.0

# AWS refuses a signature that is 5 minutes off, also that of a token of IAM.
_FAILURE_SECONDS = 300.0

_FIX = (
    "synchronise the clock of this machine (chronyc tracking; in AWS, the time service is at 169.254.169.123); if it "
    "is right, the clock of the server is wrong"
)

_CLOCK = text("SELECT extract(epoch FROM clock_timestamp())::float8")


def clock_check(facts: Facts) -> Check:
    """Compare both clocks, and use the sample with the shortest round trip."""
    round_trip, offset = min(_sample(facts.connection) for _ in range(_SAMPLES))
    return skew_check(offset, round_trip / 2)


def skew_check(offset: float, uncertainty: float) -> Check:
    """Return the result for a measured difference of the clocks.

    Args:
        offset: The clock of the server minus that of this process, in seconds.
        uncertainty: How wrong *offset* can be, in seconds: half of the round trip.
    """
    certain = max(abs(offset) - uncertainty, 0.0)
    direction = "ahead of" if offset > 0 else "behind"
    described = f"the server is {abs(offset):.3f} s {direction} this process (+/- {uncertainty:.3f} s)"
    if certain >= _FAILURE_SECONDS:
        return failed(NAME, f"{described}; AWS refuses signatures and tokens that are 5 minutes off", _FIX)
    if certain >= _WARNING_SECONDS:
        return warning(NAME, f"{described}, which is {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC here", _FIX)
    return ok(NAME, described)


def _sample(connection: Connection) -> tuple[float, float]:
    """Return the duration of a round trip, and the difference of the clocks in its middle."""
    started, here = monotonic(), time.time()
    there = float(connection.execute(_CLOCK).scalar_one())
    round_trip = monotonic() - started
    return round_trip, there - here - round_trip / 2
