"""The rules of the operator: retention, imports and the outbox."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from steps import MODES, POSITIONS, SPANS, Steps
from world import MAILBOXES

from registration_persistence import ImportRow, OutboxRepository, Retention, Status, bulk_import
from registration_persistence.domain.email import normalise_email
from registration_persistence.outcomes import ImportReport
from registration_persistence.schema.partitions import drop_event_partitions, ensure_event_partitions


class OperationRules(Steps):
    """Expire, purge, import, and deliver messages."""

    @precondition(Steps.has_registrations)
    @rule(mode=MODES, limit=st.integers(1, 3))
    def expire(self, mode: str, limit: int) -> None:
        """Run the sweep."""
        outcome, before, _ = self.perform(mode, lambda session: Retention(session).expire_due(limit))
        due = [row for row in before.registrations.values() if row["expires_at"] and row["expires_at"] <= before.now]
        assert min(limit, len(due)) == outcome

    @precondition(Steps.has_registrations)
    @rule(mode=MODES, age=SPANS, limit=st.integers(1, 3))
    def purge(self, mode: str, age: timedelta, limit: int) -> None:
        """Delete registrations that were closed, and tokens that ended, before a moment."""
        limit_of_age = self.world.now - age
        outcome, before, _ = self.perform(mode, lambda session: Retention(session).purge_closed(limit_of_age, limit))
        closed = [
            row
            for row in before.registrations.values()
            if row["status"] in (Status.EXPIRED, Status.CANCELLED) and row["closed_at"] < limit_of_age
        ]
        assert min(limit, len(closed)) == outcome
        self.forget_closed_submissions()
        outcome, before, _ = self.perform(mode, lambda session: Retention(session).purge_tokens(limit_of_age, limit))
        ended = [t for t in before.verification_tokens.values() if t["expires_at"] < limit_of_age]
        assert min(limit, len(ended)) == outcome
        self.perform(mode, lambda session: ensure_event_partitions(session, limit))
        # Always rolled back, because the event log would have gaps.
        self.perform("rolled back", lambda session: drop_event_partitions(session, datetime.now(UTC)))

    @rule(
        mode=MODES,
        emails=st.lists(st.sampled_from([*MAILBOXES, "new@example.org", "not a mailbox"]), min_size=1, max_size=3),
        status=st.sampled_from(["pending", "verified", "active"]),
        announce=st.booleans(),
    )
    def import_rows(self, mode: str, emails: list[str], status: str, announce: bool) -> None:  # noqa: FBT001 drawn
        """Import registrations from another system."""
        outcome, before, kept = self.perform(
            mode,
            lambda session: bulk_import(session, [ImportRow(email, status) for email in emails], announce=announce),
        )
        assert isinstance(outcome, ImportReport)
        keys = [normalise_email(email).key for email in emails if "@" in email]
        # The unique index also contains lapsed registrations that the sweep has not changed yet.
        held = {row["email_key"] for row in before.registrations.values() if row["status"] in ("verified", "active")}
        expected = len(keys) if status == "pending" else len(set(keys) - held)
        assert (expected, len(keys) - expected, len(emails) - len(keys)) == (
            outcome.inserted,
            outcome.duplicates,
            outcome.rejected,
        )
        if kept and not announce:
            new = set(self.world.registrations) - set(before.registrations)
            self.acknowledged |= {
                row["id"] for row in self.world.registration_events.values() if row["registration_id"] in new
            }

    @precondition(Steps.has_registrations)
    @rule(
        mode=MODES,
        which=POSITIONS,
        action=st.sampled_from(["claim", "ack", "retry", "bury", "revive", "claim", "release"]),
        span=SPANS,
    )
    def use_outbox(self, mode: str, which: int, action: str, span: timedelta) -> None:
        """Claim messages, or report the delivery of one that was claimed at any time."""
        if action == "claim" or not self.claimed:
            self.claim(mode, which + 1, span)
        else:
            self.report_delivery(mode, which, action, span)

    def claim(self, mode: str, limit: int, lease: timedelta) -> None:
        """Claim messages."""
        outcome, before, kept = self.perform(mode, lambda session: OutboxRepository(session).claim(limit, lease))
        assert isinstance(outcome, tuple)
        due = {m["event_id"] for m in before.outbox.values() if not m["dead_at"] and m["available_at"] <= before.now}
        assert {message.event_id for message in outcome} <= due
        assert min(limit, len(due)) == len(outcome)
        if kept:
            self.claimed |= {message.event_id: message for message in outcome}

    def report_delivery(self, mode: str, which: int, action: str, delay: timedelta) -> None:
        """Report the result of a delivery, which counts only while the lease lasts."""
        message = sorted(self.claimed.values(), key=lambda m: m.event_id)[which % len(self.claimed)]
        calls: dict[str, Callable[[OutboxRepository], int]] = {
            "ack": lambda outbox: outbox.ack([message]),
            "retry": lambda outbox: outbox.retry(message, "smtp:421", delay),
            "bury": lambda outbox: outbox.bury(message, "smtp:550"),
            "release": lambda outbox: outbox.release([message]),
            "revive": lambda outbox: outbox.revive([message.event_id]),
        }
        outcome, before, kept = self.perform(mode, lambda session: calls[action](OutboxRepository(session)))
        row = before.outbox.get(message.event_id)
        claim = (message.attempts, message.available_at, None)
        is_current = row is not None and claim == (row["attempts"], row["available_at"], row["dead_at"])
        revivable = row is not None and row["dead_at"] is not None
        assert {"ack": row is not None, "revive": revivable}.get(action, is_current) == outcome
        if kept and action == "ack":
            self.acknowledged.add(message.event_id)
