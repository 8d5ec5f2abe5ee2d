"""`environments/*.toml` → `EnvironmentConfig`, with every problem of a file reported in one error."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from registration_infra.budget import max_connections
from registration_infra.rules import TOP, problems_of

BACKUP_TAG = ("backup", "enabled")
"""The key and value of the tag by which a central backup plan selects every cluster; no file can change it."""


class InfraConfigError(ValueError):
    """An environment is configured wrongly; `problems` lists everything that is wrong with *source*."""

    def __init__(self, source: str, problems: Iterable[str]) -> None:
        self.source, self.problems = source, tuple(problems)
        super().__init__(self.source, self.problems)

    def __str__(self) -> str:
        return f"{self.source} is wrong:" + "".join(f"\n  - {problem}" for problem in self.problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Where the database and its functions are.

    Args:
        availability_zones: Two or more, named, so that no account is asked for them.
        cidr: The addresses of a VPC that is made.
        nat_gateways: More than 0 gives the functions a way to the internet; the database never has one.
        vpc_id: A VPC that is there already, in place of one that is made.
        subnet_ids: Its subnets, one a zone.
        secrets_endpoint_security_group_id: The group of the endpoint for Secrets Manager that this VPC has already.
    """

    availability_zones: tuple[str, ...]
    cidr: str = "10.0.0.0/16"
    nat_gateways: int = 0
    vpc_id: str | None = None
    subnet_ids: tuple[str, ...] | None = None
    secrets_endpoint_security_group_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuroraConfig:
    """An Aurora Serverless v2 cluster that is to be provisioned.

    Args:
        database_name: The database that the cluster is created with.
        deletion_protection: Whether AWS refuses to delete the cluster.
        force_ssl: Whether the server refuses connections without TLS.
        engine_version: Of Aurora PostgreSQL.
        min_capacity: The least capacity of an instance, in ACU; 0 pauses it.
        max_capacity: The greatest, in ACU; 1 ACU is about 2 GiB of memory.
        auto_pause_seconds: How long an instance is idle before it pauses; given exactly where *min_capacity* is 0.
        readers: Instances beside the writer, spread over the zones, to which it fails over.
        removal: What becomes of the data when the stack is deleted: a final snapshot, or its end.
        backup_retention_days: How far back the cluster can be restored to a point in time.
        retention_reason: Why production keeps backups for less than 7 days.
        rotation: Whether the application's login alternates between two users, or changes the password of one.
        rotation_days: How old a password becomes.
        proxy: Whether the application goes through RDS Proxy.
        slow_query_ms: How long a statement takes that is logged; -1 logs none.
        performance_insights: Whether Performance Insights keeps a week; it can hold the capacity above 0.5 ACU.
    """

    database_name: str
    deletion_protection: bool
    force_ssl: bool
    engine_version: str = "16.13"
    min_capacity: float = 0.5
    max_capacity: float = 1
    auto_pause_seconds: int | None = None
    readers: int = 0
    removal: Literal["snapshot", "destroy"] = "snapshot"
    backup_retention_days: int = 1
    retention_reason: str | None = None
    rotation: Literal["alternating", "single"] = "alternating"
    rotation_days: int = 30
    proxy: bool = False
    slow_query_ms: int = 1000
    performance_insights: bool = False

    @property
    def major_version(self) -> str:
        """The major version of PostgreSQL."""
        return self.engine_version.partition(".")[0]

    @property
    def max_connections(self) -> int:
        """The connections that an instance allows at least; see `budget.max_connections`."""
        return max_connections(self.min_capacity, self.max_capacity)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingDatabase:
    """A database that somebody else provisions, backs up and protects.

    Args:
        host: The cluster's endpoint.
        port: TCP port.
        name: The database's name.
        secret_arn: The secret that holds `username` and `password`.
        secret_key_arn: The key that the secret is encrypted with, where it is not AWS's own.
        security_group_id: The group of the cluster, which the application is let into.
    """

    host: str
    port: int
    name: str
    secret_arn: str
    security_group_id: str
    secret_key_arn: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupConfig:
    """Backups beside the cluster's own.

    Args:
        central_account: The account that may copy the cluster's encrypted snapshots.
        own_plan: Whether this stack has a plan of AWS Backup, where no central account has one.
        own_plan_retention_days: How long the plan keeps a day's backup.
        copy_to_vault_arn: The vault, in another region or account, that each of them is copied to.
    """

    central_account: str | None = None
    own_plan: bool = False
    own_plan_retention_days: int = 35
    copy_to_vault_arn: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationConfig:
    """How much of the database the application may take.

    Args:
        reserved_concurrency: Environments of its function that may run at once.
        connections: How many connections each of them holds; 1, unless it sets APP_DATABASE_POOL_SIZE.
    """

    reserved_concurrency: int = 50
    connections: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmsConfig:
    """Who hears of alarms.

    Args:
        email: A mailbox, which must confirm; others subscribe to the topic.
    """

    email: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatadogConfig:
    """What Datadog sees.

    Args:
        site: Where the organisation is, such as `datadoghq.eu`.
        api_key_secret_arn: The secret that holds the API key.
        python_layer_version: Of the layer Datadog-Python for the functions' runtime.
        extension_layer_version: Of the layer Datadog-Extension.
        database_monitoring: Whether a login for the agent is made.
    """

    site: str
    api_key_secret_arn: str
    python_layer_version: int = 120
    extension_layer_version: int = 90
    database_monitoring: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentConfig:
    """One environment; checked when made, never changed.

    Args:
        name: One of `dev`, `staging`, `prod`.
        account: The AWS account, 12 digits.
        region: The AWS region.
        network: Where it is.
        aurora: The cluster to provision, or
        existing: the database that is there already.
        log_retention_days: How long logs are kept.
        backup: Backups beside the cluster's own.
        application: How much of the database the application may take.
        alarms: Who hears of alarms.
        datadog: What Datadog sees, where it is used.

    Raises:
        InfraConfigError: with every problem that was found.
    """

    name: str
    account: str
    region: str
    network: NetworkConfig
    aurora: AuroraConfig | None = None
    existing: ExistingDatabase | None = None
    log_retention_days: int = 90
    backup: BackupConfig = field(default_factory=BackupConfig)
    application: ApplicationConfig = field(default_factory=ApplicationConfig)
    alarms: AlarmsConfig = field(default_factory=AlarmsConfig)
    datadog: DatadogConfig | None = None

    def __post_init__(self) -> None:
        source, values = f"the environment {self.name}", _given(self)
        tables = {table: (values[table], kind) for table, kind in _KINDS.items() if table in values}
        wrong = [
            f"{table} is of type {type(made).__name__}: expected {kind.__name__}"
            for table, (made, kind) in tables.items()
            if not isinstance(made, kind)
        ]
        if wrong:
            raise InfraConfigError(source, wrong)
        top = {key: values[key] for key in TOP if key in values}
        given = {table: _given(made) for table, (made, _) in tables.items()}
        _refuse(source, self.name, {**top, **given, "provision_aurora": self.provision_aurora})

    @property
    def provision_aurora(self) -> bool:
        """Whether the cluster is to be provisioned."""
        return self.aurora is not None

    @property
    def keeps_nothing(self) -> bool:
        """Whether data, keys and logs end with the stack."""
        return self.aurora is not None and self.aurora.removal == "destroy"

    @property
    def prefix(self) -> str:
        """What the names of the environment's resources begin with."""
        return f"registration-{self.name}"

    @property
    def path(self) -> str:
        """What the names of its secrets begin with; with a slash before it, those of its parameters."""
        return f"registration/{self.name}"


_KINDS: Mapping[str, type] = {
    "network": NetworkConfig,
    "aurora": AuroraConfig,
    "existing": ExistingDatabase,
    "backup": BackupConfig,
    "application": ApplicationConfig,
    "alarms": AlarmsConfig,
    "datadog": DatadogConfig,
}


def load(path: Path) -> EnvironmentConfig:
    """Read the environment that the file at *path* describes and is named after.

    Raises:
        InfraConfigError: with every problem of the file, each naming its key.
    """
    try:
        values = tomllib.loads(_text(path))
    except OSError as error:
        raise InfraConfigError(str(path), [f"it cannot be read: {error.strerror}"]) from error
    except (ValueError, RecursionError) as error:
        raise InfraConfigError(str(path), [f"it cannot be read as TOML: {error}"]) from error
    return parse(path.stem, values, source=str(path))


def parse(name: str, values: Mapping[str, Any], *, source: str) -> EnvironmentConfig:
    """Return the environment *name* as *values* describe it, which *source* holds.

    Raises:
        InfraConfigError: with every problem, each naming its key.
    """
    _refuse(source, name, values)
    tables = {table: kind(**_frozen(values[table])) for table, kind in _KINDS.items() if table in values}
    top = {key: values[key] for key in TOP if key in values and key != "provision_aurora"}
    return EnvironmentConfig(name=name, **top, **tables)


def _text(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte order mark, and is expected in UTF-8 without one")
    return text


def _refuse(source: str, name: str, values: Mapping[str, Any]) -> None:
    found = list(problems_of(name, values, defaults={table: _defaults(kind) for table, kind in _KINDS.items()}))
    if found:
        raise InfraConfigError(source, found)


def _defaults(kind: type) -> dict[str, Any]:
    return {each.name: each.default for each in fields(kind) if each.default is not MISSING}


def _frozen(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def _given(made: Any) -> dict[str, Any]:
    # None means that nothing was given only where it is the default; elsewhere it is a value, and a wrong one.
    values = {each.name: (getattr(made, each.name), each.default) for each in fields(made)}
    return {key: value for key, (value, default) in values.items() if value is not None or default is not None}
