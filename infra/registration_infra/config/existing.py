"""`ExistingDatabase`: the table [existing]."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from registration_infra.config.endpoints import is_host, is_rds_proxy
from registration_infra.config.key_types import KeyArn, SecretArn, SecurityGroupId
from registration_infra.config.reserved_names import UNUSABLE_DATABASES
from registration_infra.config.table import Expected, Table

# NAMEDATALEN - 1: PostgreSQL cuts longer identifiers.
_MAX_NAME_BYTES = 63
_RESERVED_STARTS = ("rds", "pg_")


def _database_name(value: str) -> str:
    # A log would show a line break as another line. NUL and lone surrogates cannot be printed either.
    if not value.isprintable() or not 0 < len(value.encode()) <= _MAX_NAME_BYTES or value in UNUSABLE_DATABASES:
        raise ValueError("no name of a database")
    return value


def _host(value: str) -> str:
    if not is_host(value):
        raise ValueError("no host name or IP address")
    return value


def _user(value: str) -> str:
    if not re.fullmatch("[a-z_][a-z0-9_]{0,62}", value) or value.startswith(_RESERVED_STARTS):
        raise ValueError("no name of a login")
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
_User = Annotated[
    str,
    AfterValidator(_user),
    Expected("the name of a login, 1 to 63 lower-case letters, digits or underscores, not starting with rds or pg_"),
]
_ResourceId = Annotated[
    str,
    Field(pattern="^(cluster|db|prx)-[A-Za-z0-9]{1,60}$"),
    Expected("the resource id of the cluster, instance or proxy: cluster-…, db-… or prx-…"),
]
_Path = Annotated[str, AfterValidator(_path), Expected("an absolute path in the function, such as /var/task/root.pem")]


class ExistingDatabase(Table):
    """A database that is provisioned, backed up and protected elsewhere."""

    host: _Host = Field(description="The endpoint of the cluster or of its RDS Proxy.")
    reader_host: _Host | None = Field(
        default=None, description="The reader endpoint, which read-only sessions use. Only for a cluster with readers."
    )
    port: int = Field(default=5432, ge=1, le=65_535, description="The TCP port.")
    name: _Name = Field(description="The name of the database.")
    auth: Literal["secret", "iam"] = Field(
        default="secret",
        description="Whether the functions log in with `existing.secret_arn`, or with IAM as `existing.user`. "
        "Only IAM reaches a cluster without a VPC, as the express configuration creates it; leave `[network]` out "
        "then.",
    )
    user: _User | None = Field(default=None, description='The login. Required if `existing.auth` is "iam".')
    resource_id: _ResourceId | None = Field(
        default=None,
        description="The resource id (`DbClusterResourceId`), which the permission to log in names. "
        'Required if `existing.auth` is "iam".',
    )
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
    secret_arn: SecretArn | None = Field(
        default=None,
        description='The secret with `username` and `password`. Required unless `existing.auth` is "iam".',
    )
    secret_key_arn: KeyArn | None = Field(
        default=None, description="The key that encrypts the secret, unless it is AWS's own."
    )
    security_group_id: SecurityGroupId | None = Field(
        default=None,
        description="The security group of the cluster. The application is allowed to connect to it. "
        "Required with `network.vpc_id`.",
    )

    @property
    def effective_sslmode(self) -> Literal["verify-full", "require"]:
        """`sslmode`, or "verify-full" if it is missing."""
        return self.sslmode or "verify-full"

    @property
    def is_proxy(self) -> bool:
        """Whether the host is an endpoint of RDS Proxy."""
        return is_rds_proxy(self.host)
