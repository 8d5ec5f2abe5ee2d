"""`ApplicationConfig`: the table [application]."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from registration_infra.budget import MAX_CONNECTIONS_PER_ENVIRONMENT
from registration_infra.config.table import Expected, Table

# Those that the package accepts.
_TLS_GROUPS: Final = ("P-256", "P-384", "P-521", "X25519", "X448")


def _known_groups(value: str) -> str:
    groups = value.split(":") if value else []
    if not set(groups) <= set(_TLS_GROUPS) or len(set(groups)) < len(groups):
        raise ValueError("an unknown group, or one that is in the list twice")
    return value


_TlsGroups = Annotated[
    str,
    AfterValidator(_known_groups),
    Expected(f'different ones of {", ".join(_TLS_GROUPS)} with colons between them, such as P-256:X25519, or ""'),
]


class ApplicationConfig(Table):
    """How the functions of the services start, and how they connect to the database."""

    reserved_concurrency: int = Field(
        default=50, ge=1, le=1000, description="How many environments of the function may run at the same time."
    )
    requests_per_second: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="How many requests the HTTP API passes to the function in a second, also in a burst. "
        "It answers the others with 429.",
    )
    connections: int = Field(
        default=1,
        ge=1,
        le=MAX_CONNECTIONS_PER_ENVIRONMENT,
        description="How many connections each environment holds: 1, unless it sets `APP_DATABASE_POOL_SIZE`. "
        "2 if it also reads from readers, because without a reader these sessions reach the writer.",
    )
    secret_source: Literal["secrets-manager", "extension"] = Field(
        default="secrets-manager",
        description="Whether the functions read their secret from Secrets Manager, or from AWS's Parameters and "
        "Secrets Lambda Extension, a layer that saves them the AWS SDK at a cold start. "
        '"extension" requires a login with a secret, and `application.snap_start = false`.',
    )
    tls_groups: _TlsGroups = Field(
        default="",
        description="The groups for the TLS key exchange that the functions offer to the database. "
        "If the server does not accept the first one, the handshake takes one more round trip. "
        "If it is empty, the groups are those of libpq.",
    )
    ssl_negotiation: Literal["postgres", "direct"] = Field(
        default="postgres",
        description="Whether a connection begins with PostgreSQL's request for TLS, or directly with TLS, which takes "
        'one round trip less. "direct" requires PostgreSQL 17 or later, and no RDS Proxy.',
    )
    snap_start: bool = Field(
        default=False,
        description="Whether the functions start from a snapshot (SnapStart). Callers must invoke their alias `live`. "
        "AWS charges for the snapshots and for each restore.",
    )

    @property
    def uses_extension(self) -> bool:
        """Whether the functions read their secret from AWS's extension."""
        return self.secret_source == "extension"  # noqa: S105 the name of a source
