"""`environments/*.toml` → `EnvironmentConfig`, with every problem of a file reported in one error."""

import tomllib
from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from registration_infra.rules import (
    EXISTING,
    cluster_problems,
    environment_problems,
    file_problems,
    table_problems,
)

BACKUP_TAG = ("backup", "enabled")
"""The key and value of the tag by which a central backup plan selects every cluster; no file can change it."""

_MAX_CONNECTIONS = {32: 5000, 16: 3360, 8: 1669, 4: 823, 1: 189}
_MAX_CONNECTIONS_FROM_HALF = 2000


class InfraConfigError(ValueError):
    """An environment is configured wrongly; `problems` lists everything that is wrong with *source*."""

    def __init__(self, source: str, problems: Iterable[str]) -> None:
        self.source, self.problems = source, tuple(problems)
        super().__init__(self.source, self.problems)

    def __str__(self) -> str:
        return f"{self.source} is wrong:" + "".join(f"\n  - {problem}" for problem in self.problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuroraConfig:
    """An Aurora Serverless v2 cluster that is to be provisioned; checked when made, never changed.

    Args:
        database_name: The database that the cluster is created with.
        deletion_protection: Whether AWS refuses to delete the cluster.
        force_ssl: Whether the server refuses connections without TLS.
        min_capacity: The least capacity of an instance, in ACU; 0 pauses it.
        max_capacity: The greatest, in ACU; 1 ACU is about 2 GiB of memory.
        auto_pause_seconds: How long an instance is idle before it pauses; given exactly where *min_capacity* is 0.
        backup_retention_days: How far back the cluster can be restored to a point in time.
        retention_reason: Why production keeps backups for less than 7 days.

    Raises:
        InfraConfigError: with every problem that was found.
    """

    database_name: str
    deletion_protection: bool
    force_ssl: bool
    min_capacity: float = 0.5
    max_capacity: float = 1
    auto_pause_seconds: int | None = None
    backup_retention_days: int = 1
    retention_reason: str | None = None

    def __post_init__(self) -> None:
        _refuse("AuroraConfig", cluster_problems(asdict(self)))

    @property
    def max_connections(self) -> int:
        """The connections that an instance allows at least by default, whatever its capacity is at the moment.

        AWS derives them from *max_capacity* and lists some. Its formula counts memory that it does not publish, so
        between two capacities that are listed the lower one is taken. A minimum of 0 or 0.5 ACU caps them at 2000. A
        change of the capacity shows after the instance is rebooted.

        Source: "Maximum connections for Aurora Serverless v2" in the Aurora User Guide,
        https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-serverless-v2.setting-capacity.html
        """
        listed = next(figure for capacity, figure in _MAX_CONNECTIONS.items() if capacity <= self.max_capacity)
        return listed if self.min_capacity >= 1 else min(listed, _MAX_CONNECTIONS_FROM_HALF)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingDatabase:
    """A database that somebody else provisions, backs up and protects; checked when made, never changed.

    Args:
        host: The cluster's endpoint.
        port: TCP port.
        name: The database's name.
        secret_arn: The secret that holds `username` and `password`.

    Raises:
        InfraConfigError: with every problem that was found.
    """

    host: str
    port: int
    name: str
    secret_arn: str

    def __post_init__(self) -> None:
        _refuse("ExistingDatabase", table_problems(EXISTING, asdict(self)))

    @property
    def environment_variables(self) -> dict[str, str]:
        """What a function needs in its environment to find the database."""
        return {f"APP_DATABASE_{key.upper()}": str(value) for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class EnvironmentConfig:
    """One environment and its database; checked when made, never changed.

    Args:
        name: One of `dev`, `staging`, `prod`.
        database: The cluster to provision, or the database that is there already.

    Raises:
        InfraConfigError: with every problem that was found.
    """

    name: str
    database: AuroraConfig | ExistingDatabase

    def __post_init__(self) -> None:
        cluster = asdict(self.database) if isinstance(self.database, AuroraConfig) else {}
        _refuse("EnvironmentConfig", environment_problems(self.name, cluster))

    @property
    def provision_aurora(self) -> bool:
        """Whether the cluster is to be provisioned."""
        return isinstance(self.database, AuroraConfig)


def load(path: Path) -> EnvironmentConfig:
    """Read the environment that the file at *path* describes and is named after.

    Raises:
        InfraConfigError: with every problem of the file, each naming its key.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InfraConfigError(str(path), [f"it cannot be read as TOML: {error}"]) from error
    _refuse(str(path), file_problems(path.stem, values, defaults=_defaults(AuroraConfig)))
    if values.pop("provision_aurora"):
        return EnvironmentConfig(path.stem, AuroraConfig(**values))
    return EnvironmentConfig(path.stem, ExistingDatabase(**values["existing"]))


def _refuse(source: str, problems: Iterable[str]) -> None:
    found = list(problems)
    if found:
        raise InfraConfigError(source, found)


def _defaults(kind: type[AuroraConfig]) -> dict[str, Any]:
    return {field.name: field.default for field in fields(kind) if field.default is not MISSING}
