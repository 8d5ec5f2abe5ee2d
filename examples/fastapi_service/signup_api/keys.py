"""`Keys`: the keys of cookies and of codes, both derived from one secret of the service."""

import base64
import hmac
import logging
import os
import secrets
from dataclasses import dataclass, field

from registration_persistence import Peppers

_MIN_SECRET_BYTES = 32
_ENVIRONMENTS_WITHOUT_A_SECRET = ("local", "test")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of this service.

    Args:
        cookies: The key with which cookies are signed.
        peppers: The keys that short codes are hashed with.
    """

    cookies: bytes = field(repr=False)
    peppers: Peppers = field(repr=False)

    @classmethod
    def of_environment(cls) -> "Keys":
        """Return the keys of the variable SIGNUP_SECRET, or in `local` and `test` without one, random keys.

        Raises:
            ValueError: The variable is missing, or it is not the base64 form of 32 bytes or more.
        """
        encoded = os.environ.get("SIGNUP_SECRET")
        if encoded is None and is_local():
            logger.warning("SIGNUP_SECRET is not set: cookies and codes of this process end with it")
            return cls.of_secret(secrets.token_bytes(_MIN_SECRET_BYTES))
        try:
            secret = base64.b64decode(encoded or "", validate=True)
        except ValueError:
            secret = b""
        if len(secret) < _MIN_SECRET_BYTES:
            raise ValueError("SIGNUP_SECRET is missing or too short: expected 32 random bytes in base64")
        return cls.of_secret(secret)

    @classmethod
    def of_secret(cls, secret: bytes) -> "Keys":
        """Return the keys that are derived from *secret*."""
        return cls(
            cookies=hmac.digest(secret, b"cookies", "sha256"),
            peppers=Peppers({1: hmac.digest(secret, b"codes", "sha256")}),
        )


def is_local() -> bool:
    """Return whether this process runs on the machine of a developer, or in a test."""
    return os.environ.get("APP_ENVIRONMENT") in _ENVIRONMENTS_WITHOUT_A_SECRET
