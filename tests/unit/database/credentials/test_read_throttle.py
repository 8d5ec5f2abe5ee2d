"""`ReadThrottle`: which rejected logins lead to a call of Secrets Manager."""

import time

import pytest

from registration_persistence.database.credentials import read_throttle
from registration_persistence.database.credentials.read_throttle import ReadThrottle


class Clock:
    """A monotonic clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        """Return the time that the test set."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replaces the clock of the throttle, and removes the jitter of its pauses."""
    clock = Clock()
    monkeypatch.setattr(read_throttle, "monotonic", clock.monotonic)
    monkeypatch.setattr(read_throttle, "backoff", lambda attempts, first, longest: min(first * 2**attempts, longest))
    return clock


def test_a_version_that_is_newer_than_the_login_is_not_read_again(clock: Clock) -> None:
    """A login that began before the last read uses its result; a later one reads again."""
    throttle = ReadThrottle()
    throttle.on_read("AWSCURRENT", clock.now)

    assert not throttle.must_read("AWSCURRENT", since=clock.now)
    assert throttle.must_read("AWSPENDING", since=clock.now)
    clock.now += 10
    assert throttle.must_read("AWSCURRENT", since=clock.now)


def test_logins_that_begin_together_read_once(clock: Clock) -> None:
    """A read that was asked for up to 0.25 s before a login began is enough, even if it was not answered."""
    throttle = ReadThrottle()
    assert throttle.must_read("AWSCURRENT", since=clock.now)

    assert not throttle.must_read("AWSCURRENT", since=clock.now)
    assert not throttle.must_read("AWSCURRENT", since=clock.now + 0.25)
    assert throttle.must_read("AWSCURRENT", since=clock.now + 0.26)


def test_a_login_after_an_accepted_one_reads_at_once(clock: Clock) -> None:
    """The server accepted a version, so a rejection right after it is another rotation, not the same one."""
    throttle = ReadThrottle()
    assert throttle.must_read("AWSCURRENT", since=clock.now)
    throttle.on_read("AWSCURRENT", clock.now)
    throttle.on_accepted()

    assert not throttle.must_read("AWSCURRENT", since=clock.now), "the login began before the read"
    clock.now += 0.01
    assert throttle.must_read("AWSCURRENT", since=clock.now)


def test_at_most_four_versions_are_read_in_a_second(clock: Clock) -> None:
    """Also if a login is accepted after each read, for example by one of two servers with different passwords."""
    throttle = ReadThrottle()
    read_at = []
    for _ in range(300):
        if throttle.must_read("AWSCURRENT", since=clock.now):
            read_at.append(clock.now)
        throttle.on_accepted()
        clock.now += 0.01

    assert [4, 4, 4] == [sum(1000 + n <= at < 1001 + n - 1e-6 for at in read_at) for n in range(3)]
    assert all(later - earlier >= 1 for earlier, later in zip(read_at, read_at[4:], strict=False))


def test_pauses_grow_until_a_login_is_accepted(clock: Clock) -> None:
    """During a pause nothing is read, each pause is twice as long up to 2 s, and a success ends it."""
    throttle = ReadThrottle()
    lengths = []
    for _ in range(5):
        throttle.start_pause()
        throttle.start_pause()  # one is running
        lengths.append(round(throttle.seconds_left(), 6))
        assert not throttle.must_read("AWSCURRENT", since=clock.now + 100)
        clock.now += throttle.seconds_left()

    assert lengths == [0.2, 0.4, 0.8, 1.6, 2.0]
    throttle.start_pause()
    throttle.on_accepted()
    assert throttle.seconds_left() == 0
    throttle.start_pause()
    assert throttle.seconds_left() == pytest.approx(0.2)


def test_after_a_restore_no_time_counts(clock: Clock) -> None:
    """The clock of a restored process may be behind the recorded times; only the length of pauses is remembered."""
    throttle = ReadThrottle()
    throttle.on_read("AWSCURRENT", clock.now)
    assert throttle.must_read("AWSPENDING", since=clock.now)
    throttle.start_pause()

    throttle.forget_times()
    clock.now -= 900

    assert throttle.seconds_left() == 0
    assert throttle.must_read("AWSCURRENT", since=clock.now)
    assert throttle.must_read("AWSPENDING", since=clock.now)
    throttle.start_pause()
    assert throttle.seconds_left() == pytest.approx(0.4)


def test_without_a_fake_clock_the_pause_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pause is 0.1 to 0.2 s, and nothing waits for it yet."""
    throttle = ReadThrottle()
    monkeypatch.setattr(time, "sleep", pytest.fail)

    throttle.start_pause()

    assert 0 < throttle.seconds_left() <= 0.2
