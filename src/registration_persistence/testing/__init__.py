"""A migrated PostgreSQL, a Secrets Manager, and faults, for the test suites of services; install the extra `test`.

# conftest.py
pytest_plugins = ["registration_persistence.testing.plugin"]
"""

from registration_persistence.testing.environment import (
    FailOver,
    Fault,
    FillSlots,
    Freeze,
    RegistrationEnvironment,
    Restart,
    Rotate,
    SecretsManagerDown,
    StartLambda,
)
from registration_persistence.testing.round_trips import WireCounter
from registration_persistence.testing.servers import ServerMissing, missing, open_server

__all__ = [
    "FailOver",
    "Fault",
    "FillSlots",
    "Freeze",
    "RegistrationEnvironment",
    "Restart",
    "Rotate",
    "SecretsManagerDown",
    "ServerMissing",
    "StartLambda",
    "WireCounter",
    "missing",
    "open_server",
]
