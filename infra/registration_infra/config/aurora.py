"""`AuroraConfig`: the table [aurora]."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from registration_infra.budget import max_connections
from registration_infra.config.key_types import Days, Seconds
from registration_infra.config.reserved_names import is_reserved_for_new_database
from registration_infra.config.table import Expected, Table

_MAX_CAPACITY_ACU = 256


def _not_reserved(name: str) -> str:
    if is_reserved_for_new_database(name):
        raise ValueError("RDS cannot create a database with this name")
    return name


_Capacity = Annotated[
    float,
    Field(le=_MAX_CAPACITY_ACU, multiple_of=0.5),
    Expected("{ge} to {le} ACU in steps of {multiple_of}"),
]
_DatabaseName = Annotated[
    str,
    Field(pattern="^[A-Za-z][A-Za-z0-9_]{0,62}$"),
    AfterValidator(_not_reserved),
    Expected(
        "a letter, then up to 62 letters, digits or underscores, and no reserved word such as db, postgres or user"
    ),
]
_EngineVersion = Annotated[
    str,
    Field(pattern=r"^1[5-8]\.(0|[1-9][0-9]?)$"),
    Expected("MAJOR.MINOR of Aurora PostgreSQL 15 to 18, such as 18.4"),
]
_Sentence = Annotated[str, Field(pattern=r"\S"), Expected("a sentence in quotes")]
_SlowQueryMilliseconds = Annotated[int, Expected("milliseconds, 0 to {le}, or {ge} for never")]


class AuroraConfig(Table):
    """An Aurora Serverless v2 cluster to provision.

    The limits are those of AWS. Sources: in the Amazon RDS API Reference, `ServerlessV2ScalingConfiguration` for the
    capacities and the pause, `CreateDBCluster` for the retention period and `CreateDBInstance` for the name. The
    smallest maximum of 1 ACU is in the Aurora User Guide,
    https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-serverless-v2.setting-capacity.html.
    """

    database_name: _DatabaseName = Field(description="The database that the cluster is created with.")
    deletion_protection: bool = Field(description="Whether AWS refuses to delete the cluster. Must be true in prod.")
    force_ssl: bool = Field(description="Whether the server refuses connections without TLS. Must be true in prod.")
    sslmode: Literal["verify-full", "require"] = Field(
        default="verify-full",
        description='Whether the functions verify the certificate of the server. "require" encrypts without verifying; '
        "it is for regions whose root certificate the package does not contain.",
    )
    engine_version: _EngineVersion = Field(default="18.4", description="The version of Aurora PostgreSQL.")
    extended_support: bool = Field(
        default=False,
        description="Whether AWS keeps a major version after the end of its standard support, for a fee per ACU. "
        "If false, AWS upgrades it then.",
    )
    min_capacity: _Capacity = Field(
        default=0.5, ge=0, description="The smallest capacity of an instance. If it is 0, an idle cluster pauses."
    )
    max_capacity: _Capacity = Field(
        default=1, ge=1, description="The largest capacity of an instance. 1 ACU is about 2 GiB of memory."
    )
    auto_pause_seconds: Seconds | None = Field(
        default=None,
        ge=300,
        le=86_400,
        description="The idle time after which an instance pauses. Required if `aurora.min_capacity` is 0.",
    )
    readers: int = Field(
        default=0,
        ge=0,
        le=15,
        description="Instances beside the writer, spread over the zones. "
        "A failover takes half a minute with a reader, and minutes without one.",
    )
    removal: Literal["snapshot", "destroy"] = Field(
        default="snapshot",
        description="The fate of the data if the stack is deleted: a final snapshot, or (not in prod) its deletion.",
    )
    backup_retention_days: Days = Field(
        default=1,
        ge=1,
        le=35,
        description="The retention period for a restore to a point in time. "
        "In prod 7 or more, unless `aurora.retention_reason` is set.",
    )
    retention_reason: _Sentence | None = Field(
        default=None, description="The reason why prod keeps backups for less than 7 days."
    )
    authentication: Literal["secret", "iam"] = Field(
        default="secret",
        description="Whether the services log in with a secret that rotates, or with IAM and without a password. "
        "The administrator keeps its secret.",
    )
    rotation: Literal["alternating", "single"] = Field(
        default="alternating",
        description="Whether a rotation of the services' secret alternates between two users, or changes the password "
        'of a single user. Without effect if `aurora.authentication` is "iam".',
    )
    rotation_days: Days = Field(default=30, ge=1, le=999, description="The age at which passwords are rotated.")
    proxy: bool = Field(
        default=False,
        description="Whether the application connects through RDS Proxy. "
        'Requires `aurora.min_capacity` above 0, and `aurora.rotation = "single"` or `aurora.authentication = "iam"`.',
    )
    slow_query_ms: _SlowQueryMilliseconds = Field(
        default=1000,
        ge=-1,
        le=60_000,
        description="Slower statements are logged, without their values.",
    )
    performance_insights: bool = Field(
        default=False,
        description="Whether Performance Insights keeps a week of data. It can hold the capacity above 0.5 ACU.",
    )

    @property
    def uses_iam(self) -> bool:
        """Whether the services log in with IAM."""
        return self.authentication == "iam"

    @property
    def pauses(self) -> bool:
        """Whether an idle cluster pauses."""
        return self.min_capacity == 0

    @property
    def major_version(self) -> str:
        """The major version of PostgreSQL."""
        return self.engine_version.partition(".")[0]

    @property
    def max_connections(self) -> int:
        """The smallest number of connections that an instance allows; see `budget.max_connections`."""
        return max_connections(self.min_capacity, self.max_capacity)
