"""`ExistingDatabase`: the table [existing]."""

from typing import Annotated

from pydantic import AfterValidator, Field

from registration_infra.config.key_types import KeyArn, SecretArn, SecurityGroupId
from registration_infra.config.table import Expected, Table

# NAMEDATALEN - 1: PostgreSQL cuts longer identifiers.
_MAX_NAME_BYTES = 63


def _database_name(value: str) -> str:
    # NUL ends a string of the protocol; a lone surrogate has no encoding, which `encode` reports.
    if not value or "\0" in value or len(value.encode()) > _MAX_NAME_BYTES:
        raise ValueError("no name of a database")
    return value


_Host = Annotated[str, Field(pattern="^[A-Za-z0-9_.:-]+$"), Expected("one host name or IP address")]
_Name = Annotated[
    str,
    AfterValidator(_database_name),
    Expected(f"the name of the database, 1 to {_MAX_NAME_BYTES} bytes"),
]


class ExistingDatabase(Table):
    """A database that is provisioned, backed up and protected elsewhere."""

    host: _Host = Field(description="The endpoint of the cluster.")
    port: int = Field(ge=1, le=65_535, description="The TCP port.")
    name: _Name = Field(description="The name of the database.")
    secret_arn: SecretArn = Field(description="The secret with `username` and `password`.")
    secret_key_arn: KeyArn | None = Field(
        default=None, description="The key that encrypts the secret, unless it is AWS's own."
    )
    security_group_id: SecurityGroupId = Field(
        description="The security group of the cluster. The application is allowed to connect to it."
    )
