"""Tokens and the hashes that stand for them."""

import hashlib

import pytest

from registration_persistence.domain.tokens import hash_token, new_token


def test_tokens_are_random_and_fit_into_a_link() -> None:
    """A thousand tokens differ, and none needs escaping in a URL."""
    tokens = {new_token() for _ in range(1000)}

    assert len(tokens) == 1000
    assert {43} == {len(token) for token in tokens}
    assert all(token.isascii() and token.replace("-", "").replace("_", "").isalnum() for token in tokens)


def test_a_token_is_stored_as_its_sha_256() -> None:
    """The hash is the plain one, so that another program can compute it too."""
    token = new_token()

    assert hashlib.sha256(token.encode()).digest() == hash_token(token)


@pytest.mark.parametrize(
    "token", ["", "x" * 42, "x" * 44, "x" * 42 + "\n", "x" * 42 + "=", "\u0661" * 43, None, 7, b"x" * 43]
)
def test_what_is_no_token_has_no_hash(token: object) -> None:
    """Length, alphabet and type are checked before anything is hashed."""
    assert hash_token(token) is None  # type: ignore[arg-type]  # the point
