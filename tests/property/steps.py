"""The base of all rules: each step is one call, in autocommit, in a transaction, or rolled back."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from invariants import assert_step_is_legal
from sqlalchemy import text
from sqlalchemy.orm import Session
from world import TABLES, World, rows

from registration_persistence import Database, RegistrationPersistenceError, Status
from registration_persistence.outcomes import OutboxMessage, WrongCode

T = TypeVar("T")
MODES = st.sampled_from(
    ["autocommit", "in a transaction", "autocommit", "in a transaction", "rolled back", "rolled back later"]
)
SPANS = st.sampled_from(
    [timedelta(days=40), timedelta(days=40), timedelta(days=2), timedelta(hours=3), timedelta(minutes=2)]
)
VERSIONS = st.sampled_from([None, "current", "stale"])
POSITIONS = st.integers(0, 4)


class Steps(RuleBasedStateMachine):
    """The state that all rules share; the test sets `database`."""

    database: ClassVar[Database]
    steps: ClassVar[Counter[str]] = Counter()
    world: World
    tokens: list[str]
    codes: dict[UUID, list[str]]
    submitted: dict[str, tuple[Any, UUID]]
    acknowledged: set[UUID]
    claimed: dict[UUID, OutboxMessage]

    def read_world(self) -> World:
        """Return the content of the database."""
        with self.database.engine.connect() as connection:
            now = connection.scalar(text("SELECT statement_timestamp()"))
            assert now is not None
            return World(now, {table: rows(connection, table, key) for table, key in TABLES.items()})

    def perform(self, mode: str, call: Callable[[Session], T]) -> tuple[T | RegistrationPersistenceError, World, bool]:
        """Execute *call* and check the change; return its outcome, the world before, and whether it was kept."""
        before = self.world
        outcome: T | RegistrationPersistenceError
        try:
            with self.database.session(autocommit=mode == "autocommit") as session:
                if mode == "rolled back later":
                    session.execute(text("SELECT 1"))
                outcome = call(session)
                if mode.startswith("rolled back"):
                    session.rollback()
        except RegistrationPersistenceError as error:
            outcome = error
        self.steps[type(outcome).__name__] += 1
        rolled_back = isinstance(outcome, Exception) or mode.startswith("rolled back")
        kept = not rolled_back or isinstance(outcome, WrongCode)  # a wrong code counts in any case
        self.world = self.read_world()
        if kept:
            assert_step_is_legal(before, self.world)
        else:
            assert before.tables == self.world.tables, "a step that was not kept changed the database"
        return outcome, before, kept

    def pick(self, position: int) -> UUID:
        """Return the id of a registration, counted from the newest."""
        newest_first: list[UUID] = sorted(self.world.registrations, reverse=True)
        return newest_first[position % len(newest_first)]

    def version(self, registration_id: UUID, which: str | None) -> int | None:
        """Return the version that a caller passes."""
        current: int = self.world.registrations[registration_id]["version"]
        return None if which is None else current if which == "current" else current + 1

    def has_registrations(self) -> bool:
        """Tell whether there is a registration."""
        return bool(self.world.registrations)

    def forget_closed_submissions(self) -> None:
        """Forget the idempotency keys of registrations that were erased or purged."""
        kept = {i for i, row in self.world.registrations.items() if row["status"] != Status.ERASED}
        self.submitted = {key: made for key, made in self.submitted.items() if made[1] in kept}
