"""A model of a registration's life: random steps by every method, roll-backs and clock jumps on a real PostgreSQL.

After each step the whole database is read. A step that was rolled back must not have changed anything, a step that was
kept must be allowed in the state before, and the thirteen invariants of the domain must hold.
"""

from collections import Counter, defaultdict
from datetime import timedelta
from typing import Any
from uuid import UUID

from expectations import assert_found
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from invariants import assert_no_mailbox_is_left, assert_registration_is_consistent
from operation_rules import OperationRules
from registration_rules import RegistrationRules
from sign_up_rules import NEXT_STEPS, SignUpRules
from sqlalchemy import text
from steps import Steps
from world import MAILBOXES, TABLES, events_of

from registration_persistence import ConsentRepository, EventRepository, PrivacyRepository, RegistrationRepository
from registration_persistence.outcomes import OutboxMessage

ADJUSTABLE_CLOCK = """
CREATE SCHEMA clock;
CREATE TABLE clock.shift AS SELECT interval '0' AS amount;
CREATE FUNCTION clock.statement_timestamp() RETURNS timestamptz STABLE LANGUAGE sql
  AS 'SELECT pg_catalog.statement_timestamp() + amount FROM clock.shift';
DO $$
DECLARE
  moment record;
BEGIN
  FOR moment IN SELECT attrelid::regclass AS relation, attname FROM pg_attrdef
                JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
                WHERE pg_get_expr(adbin, adrelid) = 'statement_timestamp()'
  LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT clock.statement_timestamp()',
                   moment.relation, moment.attname);
  END LOOP;
  EXECUTE format('ALTER DATABASE %I SET search_path = clock, pg_catalog, public', current_database());
END $$
"""
"""Puts a clock that can be set in front of the clock of the server."""


class LifeCycle(SignUpRules, RegistrationRules, OperationRules):
    """All rules, and the invariants that are checked after each step."""

    @initialize(sign_ups=st.lists(st.tuples(st.sampled_from(MAILBOXES), NEXT_STEPS), min_size=3, max_size=5))
    def begin(self, sign_ups: list[tuple[str, str]]) -> None:
        """Start with empty tables, the real time and some registrations."""
        with self.database.engine.begin() as connection:
            for table in TABLES:
                connection.execute(text(f"DELETE FROM {table}"))
            connection.execute(text("UPDATE clock.shift SET amount = interval '0'"))
        self.tokens: list[str] = []
        self.codes: dict[UUID, list[str]] = defaultdict(list)
        self.submitted: dict[str, tuple[Any, UUID]] = {}
        self.acknowledged: set[UUID] = set()
        self.claimed: dict[UUID, OutboxMessage] = {}
        self.world = self.read_world()
        for email, next_step in sign_ups:
            self.register("autocommit", email, next_step, None, "Ada", timedelta(days=40), timedelta(days=2))

    @precondition(Steps.has_registrations)
    @rule(
        by=st.sampled_from([timedelta(minutes=-5), timedelta(days=-1), timedelta(minutes=2), *[timedelta(days=3)] * 2])
    )
    def shift_clock(self, by: timedelta) -> None:
        """Change the clock of the server."""
        with self.database.engine.begin() as connection:
            connection.execute(text("UPDATE clock.shift SET amount = amount + :by"), {"by": by})
        self.steps["shift_clock"] += 1
        self.world = self.read_world()

    @invariant()
    def every_invariant_holds(self) -> None:
        """Check the thirteen invariants, as far as stored rows show them."""
        world = self.world
        for identity, row in world.registrations.items():
            assert_registration_is_consistent(world, identity, row)
        verified = Counter(
            row["email_key"] for row in world.registrations.values() if row["status"] in ("verified", "active")
        )
        assert all(number == 1 for number in verified.values()), "two registrations have verified the same mailbox"
        messages = {row["id"] for row in world.registration_events.values()} - self.acknowledged
        assert messages == set(world.outbox), "each event has one message until it is delivered"
        assert_no_mailbox_is_left(world)

    @rule()
    def read(self) -> None:
        """The methods return the stored rows: pages, look-ups, events, consents and exports."""
        world = self.world
        with self.database.session() as session:
            registrations = RegistrationRepository(session)
            listed, page = [], registrations.list_page(limit=2)
            while True:
                listed += [item.id for item in page.items]
                if page.next_cursor is None:
                    break
                page = registrations.list_page(limit=2, after=page.next_cursor)
            assert sorted(world.registrations) == listed
            for email in MAILBOXES[1:4]:
                assert_found(world, email, registrations.find_by_email(email))
            for identity in listed[:1]:
                log = EventRepository(session).list_events(identity)
                assert [row["seq"] for row in events_of(world, identity)] == [event.seq for event in log]
                history = ConsentRepository(session).history(identity)
                current = ConsentRepository(session).current(identity)
                assert {record.purpose: record for record in history} == {record.purpose: record for record in current}
                exported = PrivacyRepository(session).export_subject(identity)
                assert len(log) == len(exported["events"])
                assert registrations.get(identity) is not None
