"""Tokens and their hashes."""

import hashlib
from typing import Any

import pytest

from registration_persistence.domain.tokens import hash_token, new_token


def test_tokens_are_random_and_safe_in_urls() -> None:
    """A thousand tokens differ, and none needs escaping in a URL."""
    tokens = {new_token() for _ in range(1000)}

    assert len(tokens) == 1000
    assert {43} == {len(token) for token in tokens}
    assert all(token.isascii() and token.replace("-", "").replace("_", "").isalnum() for token in tokens)


def test_the_hash_of_a_token_is_sha_256() -> None:
    """The hash has no key, so that another program can compute it."""
    token = new_token()

    assert hashlib.sha256(token.encode()).digest() == hash_token(token)


@pytest.mark.parametrize(
    "token", ["", "x" * 42, "x" * 44, "x" * 42 + "\n", "x" * 42 + "=", "\u0661" * 43, None, 7, b"x" * 43]
)
def test_an_invalid_token_has_no_hash(token: Any) -> None:
    """Length, alphabet and type are checked before the hash is computed."""
    assert hash_token(token) is None
