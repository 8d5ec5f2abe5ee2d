"""The schema of the database: migrations, roles, privileges, and the partitions of the event log."""

from registration_persistence.schema.alembic_commands import (
    check,
    current,
    downgrade,
    is_known,
    newest,
    upgrade,
    upgrade_sql,
)
from registration_persistence.schema.alembic_configuration import MigrationRefused, SchemaDiffers
from registration_persistence.schema.bootstrap import Bootstrapped, bootstrap, bootstrap_from_secrets
from registration_persistence.schema.bootstrap_checks import BootstrapRefused
from registration_persistence.schema.deployment_lock import (
    LOCK_STATEMENT,
    DeploymentInProgress,
    deployment,
    set_role_statement,
)
from registration_persistence.schema.grants import (
    GRANTS,
    MONITORING_ROLE,
    OWNER_ROLE,
    READ_WRITE_ROLE,
    VERSION_TABLE,
    apply_grants,
)
from registration_persistence.schema.ownership import exclude_ours, is_ours
from registration_persistence.schema.partitions import drop_event_partitions, ensure_event_partitions

__all__ = [
    "GRANTS",
    "LOCK_STATEMENT",
    "MONITORING_ROLE",
    "OWNER_ROLE",
    "READ_WRITE_ROLE",
    "VERSION_TABLE",
    "BootstrapRefused",
    "Bootstrapped",
    "DeploymentInProgress",
    "MigrationRefused",
    "SchemaDiffers",
    "apply_grants",
    "bootstrap",
    "bootstrap_from_secrets",
    "check",
    "current",
    "deployment",
    "downgrade",
    "drop_event_partitions",
    "ensure_event_partitions",
    "exclude_ours",
    "is_known",
    "is_ours",
    "newest",
    "set_role_statement",
    "upgrade",
    "upgrade_sql",
]
