"""Random lives of registrations on a real PostgreSQL; see `life_cycle`."""

import dataclasses
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from life_cycle import CLOCK, LifeCycle
from sqlalchemy import text

from registration_persistence import Database

ENOUGH_STEPS = 500


@pytest.fixture
def shifted(database: Database) -> Iterator[Database]:
    """A database whose clock can be set."""
    with database.engine.begin() as connection:
        connection.execute(text(CLOCK))
    made = Database(dataclasses.replace(database.settings, pool="lambda"))
    yield made
    made.dispose()


def test_every_life_is_legal(shifted: Database) -> None:
    """No random sequence of steps, roll-backs and clock jumps breaks an invariant of the domain."""
    LifeCycle.database = shifted
    LifeCycle.steps.clear()
    nightly = settings.get_current_profile_name() == "nightly"
    chosen = settings(
        max_examples=1000 if nightly else 40, stateful_step_count=80 if nightly else 40, deadline=None,
        derandomize=not nightly,
    )  # fmt: skip

    run_state_machine_as_test(LifeCycle, settings=chosen)

    assert LifeCycle.steps.total() >= ENOUGH_STEPS, LifeCycle.steps
