"""The exact counts of a cold start and of a unit of work are the recorded ones; no time is measured."""

import exact_counts
import pytest
from instructions import ValgrindMissing

from registration_persistence.testing import skip_or_fail

MAX_DIFFERENCE = 0.05
ADVICE = "if the change is intended, run `make record-counts`, and commit the file with the reason"


def test_a_cold_start_takes_the_recorded_round_trips_and_calls() -> None:
    """The first result takes the recorded round trips, TCP and TLS included, and the recorded calls."""
    _assert_recorded(exact_counts.cold_counts())


def test_a_warm_unit_takes_the_recorded_round_trips_and_calls() -> None:
    """A transaction, a statement and a repository call take the recorded round trips, and no call reads the secret."""
    _assert_recorded(exact_counts.warm_counts())


def test_the_import_loads_the_recorded_number_of_modules() -> None:
    """`import registration_persistence` loads neither more nor fewer modules."""
    recorded = _recorded_for_this_python()["modules at import"]

    assert recorded == exact_counts.modules_at_import(), ADVICE


def test_a_sign_up_takes_the_recorded_instructions() -> None:
    """One `register` takes the recorded number of instructions of this process, within 5 %."""
    recorded = _recorded_for_this_python()["instructions per register"]
    try:
        counted = exact_counts.instructions_per_register()
    except ValgrindMissing as error:
        skip_or_fail(error)

    assert counted == pytest.approx(recorded, rel=MAX_DIFFERENCE), ADVICE


def _assert_recorded(counts: dict[str, float]) -> None:
    recorded = exact_counts.read_recorded()["counts"]
    known = {name: count for name, count in counts.items() if name in recorded}

    assert {name: recorded[name] for name in known} == known, ADVICE
    for name in counts.keys() - recorded.keys():
        limit = recorded[name.split(",")[0] + ", PostgreSQL 15"]
        assert counts[name] <= limit, f"{name}: expected at most {limit}, as with PostgreSQL 15"


def _recorded_for_this_python() -> dict[str, float]:
    found: dict[str, float] | None = exact_counts.read_recorded()["by_python"].get(exact_counts.this_python())
    if found is None:
        pytest.skip(f"modules and instructions are not recorded for Python {exact_counts.this_python()}")
    return found
