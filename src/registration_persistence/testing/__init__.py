"""A migrated PostgreSQL, a Secrets Manager, and faults, for the test suites of services; install the extra `test`.

# conftest.py
pytest_plugins = ["registration_persistence.testing.plugin"]
"""

from registration_persistence.testing.environment import (
    FailOver,
    Fault,
    FillSlots,
    Freeze,
    Pause,
    RegistrationEnvironment,
    Restart,
    Rotate,
    SecretsManagerDown,
    StartLambda,
)
from registration_persistence.testing.missing import ServerMissing, skip_or_fail
from registration_persistence.testing.round_trips import RoundTripCounter
from registration_persistence.testing.servers import ServerKind, ServerKindSkipped, open_server
from registration_persistence.testing.template import MigrateService

__all__ = [
    "FailOver",
    "Fault",
    "FillSlots",
    "Freeze",
    "MigrateService",
    "Pause",
    "RegistrationEnvironment",
    "Restart",
    "Rotate",
    "RoundTripCounter",
    "SecretsManagerDown",
    "ServerKind",
    "ServerKindSkipped",
    "ServerMissing",
    "StartLambda",
    "open_server",
    "skip_or_fail",
]
