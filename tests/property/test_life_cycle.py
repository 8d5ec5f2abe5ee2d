"""Random lives of registrations on a real PostgreSQL; `life_cycle` is the model."""

import dataclasses
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from life_cycle import ADJUSTABLE_CLOCK, LifeCycle
from sqlalchemy import text

from registration_persistence import Database

MIN_STEPS = 500


@pytest.fixture
def adjustable(database: Database) -> Iterator[Database]:
    """A database whose clock the model can set."""
    with database.engine.begin() as connection:
        connection.execute(text(ADJUSTABLE_CLOCK))
    adjustable = Database(dataclasses.replace(database.settings, pool="lambda"))
    yield adjustable
    adjustable.dispose()


def test_every_life_is_legal(adjustable: Database) -> None:
    """No random sequence of steps, roll-backs and clock jumps breaks an invariant of the domain."""
    LifeCycle.database = adjustable
    LifeCycle.steps.clear()
    nightly = settings.get_current_profile_name() == "nightly"
    chosen = settings(
        max_examples=1000 if nightly else 15, stateful_step_count=80 if nightly else 40, deadline=None,
        derandomize=not nightly,
    )  # fmt: skip

    run_state_machine_as_test(LifeCycle, settings=chosen)

    assert LifeCycle.steps.total() >= MIN_STEPS, LifeCycle.steps
