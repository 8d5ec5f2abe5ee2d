"""The infrastructure of the registration backend: typed and checked environment files, and the stacks made from them.

The stacks are not imported here, so that reading a file does not take the CDK.
"""

from registration_infra.config import (
    BACKUP_TAG,
    ENVIRONMENTS,
    AlarmsConfig,
    ApplicationConfig,
    AuroraConfig,
    BackupConfig,
    DatadogConfig,
    EnvironmentConfig,
    ExistingDatabase,
    InfraConfigError,
    NetworkConfig,
    load,
    parse,
    production_gaps,
)

__all__ = [
    "BACKUP_TAG",
    "ENVIRONMENTS",
    "AlarmsConfig",
    "ApplicationConfig",
    "AuroraConfig",
    "BackupConfig",
    "DatadogConfig",
    "EnvironmentConfig",
    "ExistingDatabase",
    "InfraConfigError",
    "NetworkConfig",
    "load",
    "parse",
    "production_gaps",
]
