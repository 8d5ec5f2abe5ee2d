"""Access to Aurora: settings, credentials, connections and sessions, independent of registrations."""

from typing import TYPE_CHECKING

from registration_persistence.database.credentials.source import Credentials, CredentialSource, StaticCredentials
from registration_persistence.database.database import Database
from registration_persistence.database.deadlines import LambdaContext, deadline
from registration_persistence.database.events import DatabaseEvent
from registration_persistence.database.health import Health
from registration_persistence.database.process import (
    async_session_scope,
    forget_db,
    get_async_db,
    get_db,
    get_engine,
    session_scope,
)
from registration_persistence.database.settings import DatabaseSettings

if TYPE_CHECKING:
    from registration_persistence.database.operations import Operation
else:

    def __getattr__(name: str) -> object:
        """Import `Operation` at its first use, because few services observe operations."""
        if name != "Operation":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from registration_persistence.database.operations import Operation

        return Operation


__all__ = [
    "CredentialSource",
    "Credentials",
    "Database",
    "DatabaseEvent",
    "DatabaseSettings",
    "Health",
    "LambdaContext",
    "Operation",
    "StaticCredentials",
    "async_session_scope",
    "deadline",
    "forget_db",
    "get_async_db",
    "get_db",
    "get_engine",
    "session_scope",
]
