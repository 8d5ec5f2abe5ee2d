"""Making verification secrets, and the hashes that are stored in their place."""

import hashlib
import re
import secrets

# 256 random bits, as 43 characters that need no escaping in a URL.
_OCTETS = 32

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def new_token() -> str:
    """Return a secret that goes into the link of a verification mail."""
    return secrets.token_urlsafe(_OCTETS)


def hash_token(token: str) -> bytes | None:
    """Return the SHA-256 of *token*, or `None` where it has not the form of one that was ever given out.

    A plain hash is enough: nobody can try 2^256 secrets.
    """
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        return None
    return hashlib.sha256(token.encode()).digest()
