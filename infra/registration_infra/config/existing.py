"""`ExistingDatabase`: the table [existing]."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from registration_infra.config.endpoints import is_host, is_rds_proxy
from registration_infra.config.key_types import KeyArn, SecretArn, SecurityGroupId
from registration_infra.config.reserved_names import UNUSABLE_DATABASES
from registration_infra.config.table import Expected, Table

# NAMEDATALEN - 1: PostgreSQL cuts longer identifiers.
_MAX_NAME_BYTES = 63


def _database_name(value: str) -> str:
    # A log would show a line break as another line. NUL and lone surrogates cannot be printed either.
    if not value.isprintable() or not 0 < len(value.encode()) <= _MAX_NAME_BYTES or value in UNUSABLE_DATABASES:
        raise ValueError("no name of a database")
    return value


def _host(value: str) -> str:
    if not is_host(value):
        raise ValueError("no host name or IP address")
    return value


def _path(value: str) -> str:
    if not (value.startswith("/") and value.isprintable()):
        raise ValueError("no absolute path")
    return value


_Host = Annotated[str, AfterValidator(_host), Expected("one host name or IP address")]
_Name = Annotated[
    str,
    AfterValidator(_database_name),
    Expected(
        f"the name of the database, 1 to {_MAX_NAME_BYTES} bytes, and not {', '.join(sorted(UNUSABLE_DATABASES))}"
    ),
]
_Path = Annotated[str, AfterValidator(_path), Expected("an absolute path in the function, such as /var/task/root.pem")]


class ExistingDatabase(Table):
    """A database that is provisioned, backed up and protected elsewhere."""

    host: _Host = Field(description="The endpoint of the cluster or of its RDS Proxy.")
    port: int = Field(ge=1, le=65_535, description="The TCP port.")
    name: _Name = Field(description="The name of the database.")
    sslmode: Literal["verify-full", "require"] | None = Field(
        default=None,
        description="Whether the functions verify the certificate of the server, which they do if it is missing. "
        '"require" encrypts without verifying.',
    )
    ssl_root_cert: _Path | None = Field(
        default=None,
        description="The PEM file with the root certificates of the server, in the code or a layer of the functions. "
        'It is required for a host outside RDS, unless `sslmode` is "require".',
    )
    secret_arn: SecretArn = Field(description="The secret with `username` and `password`.")
    secret_key_arn: KeyArn | None = Field(
        default=None, description="The key that encrypts the secret, unless it is AWS's own."
    )
    security_group_id: SecurityGroupId = Field(
        description="The security group of the cluster. The application is allowed to connect to it."
    )

    @property
    def effective_sslmode(self) -> Literal["verify-full", "require"]:
        """`sslmode`, or "verify-full" if it is missing."""
        return self.sslmode or "verify-full"

    @property
    def is_proxy(self) -> bool:
        """Whether the host is an endpoint of RDS Proxy."""
        return is_rds_proxy(self.host)
