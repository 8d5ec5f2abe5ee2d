"""`CircuitBreaker`: when it opens, closes, and how long it pauses."""

from uuid import UUID

from registration_persistence.outbox_worker.circuit_breaker import CircuitBreaker

MESSAGES = [UUID(int=number) for number in range(5)]


def test_different_messages_that_fail_in_a_row_open_it() -> None:
    """The third failure opens it, and a trial may begin after half a second to one second."""
    breaker = CircuitBreaker(3, 60)
    assert [False, False, True] == [breaker.on_failed(message) for message in MESSAGES[:3]]
    assert breaker.is_open
    assert 0.3 < breaker.seconds_until_trial <= 1


def test_one_message_does_not_open_it() -> None:
    """A message that fails again and again may be the cause itself."""
    breaker = CircuitBreaker(2, 60)
    assert not any(breaker.on_failed(MESSAGES[0]) for _ in range(20))
    assert not breaker.is_open
    assert breaker.seconds_until_trial == 0


def test_a_delivery_starts_the_count_again() -> None:
    """Two failures, a delivery and two failures are not three in a row."""
    breaker = CircuitBreaker(3, 60)
    for message in MESSAGES[:4]:
        breaker.on_failed(message)
        if message == MESSAGES[1]:
            assert not breaker.on_delivered()
    assert not breaker.is_open


def test_pauses_double_up_to_the_longest_one() -> None:
    """A delivery closes it, and the next pause is a short one again."""
    breaker = CircuitBreaker(1, 4)
    breaker.on_failed(MESSAGES[0])
    pauses = [breaker.pause() for _ in range(5)]
    assert all(longest / 2 <= pause <= longest for pause, longest in zip(pauses, [2, 4, 4, 4, 4], strict=True))
    assert breaker.on_delivered()
    assert breaker.seconds_until_trial == 0
    assert 0.5 <= breaker.pause() <= 1
