"""`config.toml_text`: values that are too long for a message."""

from environment_files import CLUSTER, EXISTING, problems
from key_values import ACCOUNT_WORDS, EXPECTED


def test_a_long_value_is_cut() -> None:
    """Of a value of more than 200 characters, the message shows the first 200."""
    (whole,) = problems(CLUSTER, {"account": f'"{"1" * 198}"'})
    assert whole == f'account is "{"1" * 198}": expected {ACCOUNT_WORDS}'

    (problem,) = problems(CLUSTER, {"account": f'"{"1" * 10_000}"'})

    assert problem == f'account is "{"1" * 199}…: expected {ACCOUNT_WORDS}'


def test_a_huge_number_is_not_written() -> None:
    """Of a number of more than 64 bits, the message shows the size, because Python may refuse to write the digits."""
    expected = EXPECTED["existing.port"]

    assert problems(EXISTING, {"existing.port": str(2**64 - 1)}) == (
        f"existing.port is 18446744073709551615: expected {expected}",
    )
    for huge in (str(2**64), str(-(2**64)), f"0x{'f' * 5000}"):
        assert problems(EXISTING, {"existing.port": huge}) == (
            f"existing.port is a number of more than 64 bits: expected {expected}",
        )
