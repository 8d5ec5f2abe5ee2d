"""What tests say in their signatures."""

from collections.abc import Callable
from typing import Any, Protocol

from registration_persistence import Consent, Registered

TERMS = Consent("terms", "2026-01")

Rows = Callable[[str], list[dict[str, Any]]]


class SignUp(Protocol):
    """Registers somebody in a transaction of its own."""

    def __call__(self, email: str = ..., **arguments: Any) -> Registered:
        """Register *email*."""
