"""`environments/*.toml` as typed and checked models; `load` reports every problem of a file in one error."""

from registration_infra.config.alarms import AlarmsConfig
from registration_infra.config.application import ApplicationConfig
from registration_infra.config.aurora import AuroraConfig
from registration_infra.config.backup import BACKUP_TAG, BackupConfig
from registration_infra.config.datadog import DatadogConfig
from registration_infra.config.environment import ENVIRONMENTS, EnvironmentConfig
from registration_infra.config.errors import InfraConfigError
from registration_infra.config.existing import ExistingDatabase
from registration_infra.config.loading import load, parse
from registration_infra.config.network import MAX_ZONES, NetworkConfig
from registration_infra.config.production_gaps import production_gaps

__all__ = [
    "BACKUP_TAG",
    "ENVIRONMENTS",
    "MAX_ZONES",
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
