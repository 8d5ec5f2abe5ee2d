"""The infrastructure of the registration backend: today, its typed and checked environment files."""

from registration_infra.config import (
    BACKUP_TAG,
    AuroraConfig,
    EnvironmentConfig,
    ExistingDatabase,
    InfraConfigError,
    load,
)
from registration_infra.rules import ENVIRONMENTS

__all__ = [
    "BACKUP_TAG",
    "ENVIRONMENTS",
    "AuroraConfig",
    "EnvironmentConfig",
    "ExistingDatabase",
    "InfraConfigError",
    "load",
]
