"""The persistence layer of a registration backend on Aurora Serverless v2 (PostgreSQL) and Lambda.

The names here are those that nearly every service imports. These modules are public, too:

- `errors`: every exception that the package raises.
- `outcomes`: every value that a business operation returns, and the unions of them.
- `models`: the tables as ORM classes.
- `schema`: migrations, roles, grants and partitions.
- `telemetry`: spans and metrics for OpenTelemetry, Datadog and Prometheus.
- `database`: `DatabaseEvent`, `Operation` and `Health`, for annotations; `forget_db`, for tests that have their own
  environment.
- `testing` and `sandbox`: PostgreSQL, Secrets Manager and faults for the test suites of services.

All other modules are private.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from registration_persistence.database import (
    Credentials,
    CredentialSource,
    Database,
    DatabaseSettings,
    LambdaContext,
    StaticCredentials,
    async_session_scope,
    deadline,
    get_async_db,
    get_db,
    get_engine,
    session_scope,
)
from registration_persistence.errors import RegistrationPersistenceError

if TYPE_CHECKING:
    from registration_persistence.database.async_database import AsyncDatabase
    from registration_persistence.domain.codes import Peppers
    from registration_persistence.domain.records import Consent, ImportRow, Registration
    from registration_persistence.domain.status import Status
    from registration_persistence.outbox_worker import OutboxWorker
    from registration_persistence.outbox_worker.async_worker import AsyncOutboxWorker
    from registration_persistence.repositories.bulk_import import bulk_import
    from registration_persistence.repositories.consents import ConsentRepository
    from registration_persistence.repositories.events import EventRepository
    from registration_persistence.repositories.outbox import OutboxRepository
    from registration_persistence.repositories.privacy import PrivacyRepository
    from registration_persistence.repositories.registrations import RegistrationRepository
    from registration_persistence.repositories.retention import Retention
    from registration_persistence.repositories.verification import VerificationRepository
else:
    _MODULES = {
        "AsyncDatabase": "database.async_database",
        "AsyncOutboxWorker": "outbox_worker.async_worker",
        "Consent": "domain.records",
        "ConsentRepository": "repositories.consents",
        "EventRepository": "repositories.events",
        "ImportRow": "domain.records",
        "OutboxRepository": "repositories.outbox",
        "OutboxWorker": "outbox_worker",
        "Peppers": "domain.codes",
        "PrivacyRepository": "repositories.privacy",
        "Registration": "domain.records",
        "RegistrationRepository": "repositories.registrations",
        "Retention": "repositories.retention",
        "Status": "domain.status",
        "VerificationRepository": "repositories.verification",
        "bulk_import": "repositories.bulk_import",
    }

    def __getattr__(name: str) -> object:
        """Import a name at its first use, because a cold start pays for each module."""
        if name == "outcomes":
            return import_module(f"{__name__}.outcomes")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "AsyncDatabase",
    "AsyncOutboxWorker",
    "Consent",
    "ConsentRepository",
    "CredentialSource",
    "Credentials",
    "Database",
    "DatabaseSettings",
    "EventRepository",
    "ImportRow",
    "LambdaContext",
    "OutboxRepository",
    "OutboxWorker",
    "Peppers",
    "PrivacyRepository",
    "Registration",
    "RegistrationPersistenceError",
    "RegistrationRepository",
    "Retention",
    "StaticCredentials",
    "Status",
    "VerificationRepository",
    "async_session_scope",
    "bulk_import",
    "deadline",
    "get_async_db",
    "get_db",
    "get_engine",
    "session_scope",
]
