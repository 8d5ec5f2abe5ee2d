"""The statuses, the moves between them, and the types of events."""

from itertools import chain
from typing import get_args

from registration_persistence.domain.status import INITIAL_STATUSES, MOVES, CancelReason, CloseReason, EventType, Status


def test_every_move_has_a_type_of_event() -> None:
    """Moves and first events use the vocabulary of the event log, and no type is both."""
    assert set(MOVES) | set(INITIAL_STATUSES) <= set(get_args(EventType))
    assert set() == set(MOVES) & set(INITIAL_STATUSES)


def test_every_status_can_be_reached() -> None:
    """Each status is an initial one or the target of a move, and no move leads to its own source."""
    assert set(Status) == {move.target for move in MOVES.values()} | set(chain(*INITIAL_STATUSES.values()))
    assert [] == [event for event, move in MOVES.items() if move.target in move.sources]


def test_only_an_erased_registration_stays_as_it_is() -> None:
    """Every status is the source of a move, except `erased`."""
    assert set(Status) - {Status.ERASED} == set(chain(*(move.sources for move in MOVES.values())))


def test_a_cancellation_has_one_of_the_reasons_for_closing() -> None:
    """The other reasons are those of expiry and erasure."""
    assert {"ttl", "erasure"} == set(get_args(CloseReason)) - set(get_args(CancelReason))
