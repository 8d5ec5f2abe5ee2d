"""The keys of cookies and of codes, both derived from one secret of the service."""

import base64
import hmac
import logging
import os
import secrets
from functools import cache

from registration_persistence import Peppers

_MIN_SECRET_BYTES = 32

logger = logging.getLogger(__name__)


def is_local() -> bool:
    """Return whether this process runs on the machine of a developer, or in a test."""
    return os.environ.get("APP_ENVIRONMENT") in ("local", "test")


def cookie_key() -> bytes:
    """Return the key with which cookies are signed."""
    return hmac.digest(_secret(), b"cookies", "sha256")


def peppers() -> Peppers:
    """Return the keys that short codes are hashed with."""
    return Peppers({1: hmac.digest(_secret(), b"codes", "sha256")})


@cache
def _secret() -> bytes:
    """Return the value of SIGNUP_SECRET; in `local` and `test`, it may be missing, and is random then.

    Raises:
        ValueError: It is missing, or it is not the base64 form of 32 bytes or more.
    """
    encoded = os.environ.get("SIGNUP_SECRET")
    if encoded is None and is_local():
        logger.warning("SIGNUP_SECRET is not set: cookies and codes of this process end with it")
        return secrets.token_bytes(_MIN_SECRET_BYTES)
    try:
        secret = base64.b64decode(encoded or "", validate=True)
    except ValueError:
        secret = b""
    if len(secret) < _MIN_SECRET_BYTES:
        raise ValueError("SIGNUP_SECRET is missing or too short: expected 32 random bytes in base64")
    return secret
