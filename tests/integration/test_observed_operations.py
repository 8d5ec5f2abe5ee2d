"""Observers are told of each operation: its parts, its attempts, its outcome and its exact number of round trips."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from registration_persistence import Database, RegistrationRepository
from registration_persistence.database.operations import Operation
from registration_persistence.errors import RegistrationNotFound
from registration_persistence.testing import RoundTripCounter


class Operations:
    """An observer that keeps the operations that have ended, and the order in which they began and ended."""

    def __init__(self) -> None:
        self.ended: list[Operation] = []
        self.order: list[str] = []

    def __call__(self, operation: Operation) -> AbstractContextManager[None]:
        """Return the block of *operation*."""
        return self._block(operation)

    @contextmanager
    def _block(self, operation: Operation) -> Iterator[None]:
        self.order.append(f"begin {operation.name}")
        yield
        self.order.append(f"end {operation.name}")
        self.ended.append(operation)

    def taken(self) -> list[tuple[str, str, int]]:
        """Return name, outcome and round trips of the operations that ended since the last call."""
        taken: list[tuple[str, str, int]] = [(each.name, each.outcome, each.round_trips) for each in self.ended]
        self.ended.clear()
        return taken


@pytest.fixture
def operations(counted: Database) -> Operations:
    """The operations of `counted`."""
    observer = Operations()
    counted.events.observe(observer)
    return observer


def sign_up(target: Any) -> Any:
    """Register a new mailbox."""
    return RegistrationRepository(target).register(f"{uuid4().hex}@example.com")


def test_each_unit_of_work_counts_its_round_trips(
    counted: Database, wire: RoundTripCounter, operations: Operations
) -> None:
    """A single call, autocommit, a transaction, a rollback and each preparation have the round trips of the wire."""

    def in_transaction() -> None:
        with counted.session() as session:
            sign_up(session)
            session.execute(text("SELECT 1"))
            with session.begin_nested():
                session.execute(text("SELECT 2"))

    def rolled_back() -> None:
        with pytest.raises(RegistrationNotFound), counted.session() as session:
            session.execute(text("SELECT 1"))
            RegistrationRepository(session).activate(uuid4())

    def in_autocommit() -> None:
        with counted.session(autocommit=True) as session:
            sign_up(session)

    def streamed() -> None:
        with counted.session() as session:
            rows = session.execute(text("SELECT generate_series(1, 2000)"), execution_options={"yield_per": 500})
            assert len(rows.all()) == 2000

    def many() -> None:
        with counted.session() as session:
            session.execute(text("SELECT CAST(:x AS int)"), [{"x": x} for x in range(50)])

    units: list[Callable[[], object]] = [
        lambda: counted.run(sign_up, single=True),
        in_autocommit,
        in_transaction,
        rolled_back,
        lambda: counted.run(sign_up),
        lambda: counted.run(lambda session: session.execute(text("SELECT 1")).all(), read_only=True),
        streamed,
        many,
    ]
    for unit in units:
        for _ in range(8):
            unit()
            on_the_wire = wire.round_trips()
            *_, (_, _, counted_trips) = operations.taken()
            assert counted_trips == on_the_wire, units.index(unit)
