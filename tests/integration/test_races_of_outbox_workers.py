"""Concurrent claims of outbox messages."""

from datetime import timedelta
from functools import partial

from races import in_sessions
from sqlalchemy.orm import Session
from support import Change, Rows

from registration_persistence import Database, OutboxRepository
from registration_persistence.outcomes import OutboxMessage
from registration_persistence.repositories.outbox import OutboxClaim, OutboxPosition

MESSAGES = """
INSERT INTO outbox (event_id, registration_id, type, payload)
SELECT gen_random_uuid(), gen_random_uuid(), 'registration.registered', '{{"seq": 1}}'
FROM generate_series(1, {number})
"""


def test_six_concurrent_claims(wide: Database, change: Change) -> None:
    """Six workers that claim until no message is left get each message once."""
    number = 360

    def work(session: Session) -> list[OutboxMessage]:
        claimed: list[OutboxMessage] = []
        while batch := OutboxRepository(session).claim(7):
            claimed += batch
        return claimed

    for _ in range(3):
        change(MESSAGES.format(number=number))

        outcomes = in_sessions(wide, *[work] * 6, autocommit=True)

        claimed = [message for outcome in outcomes if isinstance(outcome, list) for message in outcome]
        assert [1] * number == [message.attempts for message in claimed]
        assert number == len({message.event_id for message in claimed})
        with wide.session() as session:
            assert number == OutboxRepository(session).ack(claimed)


def test_late_acknowledgements_do_not_wait_for_each_other(wide: Database, change: Change, rows: Rows) -> None:
    """Two workers whose leases have ended delete their messages and claim those of the other, without a deadlock."""
    for _ in range(5):
        change(MESSAGES.format(number=400))
        with wide.session(autocommit=True) as session:
            batches = [OutboxRepository(session).claim(200) for _ in range(2)]
        change("UPDATE outbox SET available_at = now() - interval '1 s'")

        def work(delivered: tuple[OutboxMessage, ...], session: Session) -> OutboxClaim:
            return OutboxRepository(session).claim_from(OutboxPosition(), 400, delivered=delivered)

        outcomes = in_sessions(wide, *[partial(work, batch) for batch in batches], autocommit=True)

        left = {row["event_id"] for row in rows("SELECT event_id FROM outbox")}
        assert [] == [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert not left & {message.event_id for batch in batches for message in batch}


def test_a_message_is_claimed_again_after_its_lease(wide: Database, change: Change, rows: Rows) -> None:
    """A second worker claims the message, and late calls of the first change nothing."""
    change(MESSAGES.format(number=1))
    with wide.session(autocommit=True) as session:
        outbox = OutboxRepository(session)
        (first,) = outbox.claim()
        assert () == outbox.claim()
        change("UPDATE outbox SET available_at = now() - interval '1 s'")
        (second,) = outbox.claim()
        before = rows("SELECT * FROM outbox")

        assert (first.event_id, 1, 2) == (second.event_id, first.attempts, second.attempts)
        assert (False, False, 0) == (
            outbox.retry(first, "late", timedelta(0)),
            outbox.bury(first, "late"),
            outbox.release([first]),
        )
        assert before == rows("SELECT * FROM outbox")
        assert (1, 0, False) == (outbox.ack([first]), outbox.ack([second]), outbox.retry(second, "late", timedelta(0)))
    assert [] == rows("SELECT * FROM outbox")
