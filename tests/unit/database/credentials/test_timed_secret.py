"""`TimedSecret`: when a secret from the Lambda extension is read again."""

from itertools import pairwise

import pytest

from registration_persistence.database.credentials import timed_secret
from registration_persistence.database.credentials.secret_value import Secret
from registration_persistence.database.credentials.source import Credentials
from registration_persistence.database.credentials.timed_secret import TimedSecret
from registration_persistence.errors import SecretUnavailable

SECRET = Secret(Credentials("app", "hunter2"), {})


class Reader:
    """Reads a secret, or fails; and a monotonic clock that the test sets."""

    def __init__(self) -> None:
        self.now, self.reads, self.fails = 1_000.0, 0, False

    def read(self) -> Secret:
        """Count the read."""
        self.reads += 1
        if self.fails:
            raise SecretUnavailable("down")
        return SECRET


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    """A reader whose clock is that of `TimedSecret`."""
    reader = Reader()
    monkeypatch.setattr(timed_secret, "monotonic", lambda: reader.now)
    return reader


@pytest.mark.parametrize("known", [None, SECRET])
def test_a_value_is_read_again_when_it_is_old(reader: Reader, known: Secret | None) -> None:
    """Not before half of the maximum age, and not after all of it."""
    secret = TimedSecret(reader.read, known=known, max_age=3600)
    secret.read_if_due()
    first = reader.reads
    assert first == (known is None)

    reader.now += 1799
    secret.read_if_due()
    assert reader.reads == first
    reader.now += 1802
    secret.read_if_due()
    assert reader.reads == first + 1


def test_a_failure_without_a_value_is_raised_and_repeated_after_a_quarter_of_a_second(reader: Reader) -> None:
    """In between, the same error is raised without a read."""
    secret = TimedSecret(reader.read, known=None, max_age=3600)
    reader.fails = True
    for passed in (0, 0.1, 0.14, 0.02, 0.25):
        reader.now += passed
        with pytest.raises(SecretUnavailable, match="down"):
            secret.read_if_due()
    assert reader.reads == 3

    reader.fails = False
    reader.now += 0.25
    secret.read_if_due()
    secret.read_if_due()
    assert reader.reads == 4


def test_a_failure_with_a_value_is_repeated_with_growing_pauses(reader: Reader) -> None:
    """The known value stays in use: nothing is raised, and the pauses are 1 s, 2 s, 4 s up to a minute."""
    secret = TimedSecret(reader.read, known=SECRET, max_age=3600)
    reader.fails = True
    reader.now += 3600
    read_at = []
    for _ in range(300):
        before = reader.reads
        secret.read_if_due()
        if reader.reads > before:
            read_at.append(reader.now)
        reader.now += 1

    pauses = [later - earlier for earlier, later in pairwise(read_at)]
    assert [1, 2, 4, 8, 16, 32, 60, 60, 60] == pauses
