"""What tests say in their signatures."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from registration_persistence import Consent, Registered
from registration_persistence.local import LocalSecretsManager, PostgresAddress

TERMS = Consent("terms", "2026-01")

TABLES = ("registrations", "verification_tokens", "registration_consents", "registration_events", "outbox")

Rows = Callable[[str], list[dict[str, Any]]]


Change = Callable[[str], None]


def everything(rows: Rows) -> dict[str, list[dict[str, Any]]]:
    """All that is stored, by table."""
    return {table: rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES}


class SignUp(Protocol):
    """Registers somebody in a transaction of its own."""

    def __call__(self, email: str = ..., **arguments: Any) -> Registered:
        """Register *email*."""


@dataclass(frozen=True, slots=True)
class LambdaEnvironment:
    """A database whose login is in Secrets Manager, with the environment that a Lambda would find."""

    secrets_manager: LocalSecretsManager
    server: PostgresAddress
    arn: str
    username: str

    def store(self, value: dict[str, Any]) -> None:
        """Make *value* the secret's current version."""
        self.secrets_manager.put(self.arn, value)

    def rotate(self) -> None:
        """Give the login another password, and the secret too."""
        password = secrets.token_urlsafe(16)
        self.server.create_login(self.username, password)
        self.store({"username": self.username, "password": password})
