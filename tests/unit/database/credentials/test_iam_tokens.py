"""The age of a token: when it is used again, and when a new one is signed."""

import time

import pytest

from registration_persistence.database.credentials import iam_tokens
from registration_persistence.database.credentials.iam_tokens import IamTokens


class Clocks:
    """The two clocks of a process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monotonic, self.wall = 1000.0, 1_800_000_000.0
        monkeypatch.setattr(iam_tokens, "monotonic", lambda: self.monotonic)
        monkeypatch.setattr(time, "time", lambda: self.wall)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Clocks that the test moves."""
    return Clocks(monkeypatch)


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> IamTokens:
    """A source whose signatures are numbered."""
    source = IamTokens("app", host="h", port=5432, region="eu-west-1")
    numbers = iter(range(1000))
    monkeypatch.setattr(source._signer, "sign", lambda: f"token {next(numbers)}")
    return source


@pytest.mark.parametrize(
    ("monotonic", "wall", "is_new"),
    [
        pytest.param(839, 839, False, id="14 minutes"),
        pytest.param(841, 841, True, id="later"),
        pytest.param(1, 841, True, id="the monotonic clock stood still"),
        pytest.param(841, 1, True, id="the time of day stood still"),
        pytest.param(1, -5, True, id="the time of day was set back"),
    ],
)
def test_a_token_is_used_for_14_minutes(
    tokens: IamTokens, clocks: Clocks, monotonic: float, wall: float, *, is_new: bool
) -> None:
    """Both clocks count, because a frozen process may stop either."""
    first = tokens.current()
    clocks.monotonic += monotonic
    clocks.wall += wall

    assert (tokens.current() != first) is is_new


def test_each_host_has_a_token(tokens: IamTokens) -> None:
    """The source of another host is always the same object, and that of the own host is the source itself."""
    reader = tokens.for_host("reader")

    assert tokens.for_host("reader") is reader is not tokens
    assert tokens.for_host("h") is tokens
    assert "host='reader'" in repr(reader)


def test_a_rejected_token_is_renewed_once_for_each_login(tokens: IamTokens, clocks: Clocks) -> None:
    """A token that is older than the login is replaced; the new one is not, and the pauses grow up to 2 s."""
    old = tokens.current()
    clocks.monotonic += 10
    found = list(tokens.replacements(old, since=clocks.monotonic))
    assert [each.password for each in found] == ["token 1"]
    pauses = [tokens.seconds_until_retry()]
    assert 0.1 <= pauses[0] <= 0.2

    for _ in range(8):
        clocks.monotonic += tokens.seconds_until_retry()
        since = clocks.monotonic
        current = tokens.current()
        assert current not in found
        assert list(tokens.replacements(current, since=since)) == []
        pauses.append(tokens.seconds_until_retry())
    assert max(pauses) <= 2.0
    assert pauses[-1] >= 1.0

    tokens.on_accepted(tokens.current())
    assert tokens.seconds_until_retry() == 0


def test_threads_use_the_token_that_another_one_renewed(tokens: IamTokens, clocks: Clocks) -> None:
    """The second thread with the same rejected token signs nothing."""
    old = tokens.current()
    clocks.monotonic += 10
    first = next(tokens.replacements(old, since=clocks.monotonic))

    assert next(tokens.replacements(old, since=clocks.monotonic)) == first


def test_a_rejected_token_is_not_renewed_with_the_same_text(
    tokens: IamTokens, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tokens that are signed in one second are equal, so the login waits for the next attempt."""
    monkeypatch.setattr(tokens._signer, "sign", lambda: "the same")
    old = tokens.current()
    clocks.monotonic += 0.5

    assert list(tokens.replacements(old, since=clocks.monotonic)) == []
    assert tokens.seconds_until_retry() > 0
