"""The tokens of verification links, and the hashes that are stored instead of them."""

import hashlib
import secrets

from registration_persistence.domain.text import plain_text
from registration_persistence.lazy_pattern import lazy_pattern

_TOKEN_BYTES = 32  # 256 random bits, as 43 characters that need no escaping in a URL
_TOKEN_CHARACTERS = 43
_TOKEN = lazy_pattern(r"[A-Za-z0-9_-]{43}")


def new_token() -> str:
    """Return a random token for the link of a verification mail."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def hash_token(token: str) -> bytes | None:
    """Return the SHA-256 of *token*, or `None` if *token* does not have the form of a token.

    A hash without a key is sufficient, because nobody can try 2^256 tokens.
    """
    given = plain_text(token, _TOKEN_CHARACTERS)
    if given is None or not _TOKEN.fullmatch(given):
        return None
    return hashlib.sha256(given.encode()).digest()
