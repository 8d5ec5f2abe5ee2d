"""Rules between the keys of [application] and those of the database."""

from collections.abc import Iterator
from typing import Final

from registration_infra.config.endpoints import is_rds_proxy
from registration_infra.config.toml_text import toml_text
from registration_infra.config.valid_values import Values

# The first major version of PostgreSQL that accepts TLS without a request in its own protocol.
_MIN_MAJOR_VERSION_FOR_DIRECT_TLS: Final = 17


def application_problems(environment: Values) -> Iterator[str]:
    """Yield the problems of the application, for the valid values of an environment."""
    application = environment.get("application", {})
    if application.get("secret_source") == "extension":
        yield from _extension_problems(environment, application)
    if application.get("ssl_negotiation") == "direct":
        yield from _direct_tls_problems(environment)


def _extension_problems(environment: Values, application: Values) -> Iterator[str]:
    start = 'application.secret_source is "extension": expected "secrets-manager" if'
    table, key = ("aurora", "authentication") if environment["provision_aurora"] else ("existing", "auth")
    if _table(environment, table).get(key) == "iam":
        yield f'{start} {table}.{key} is "iam", because a login with IAM reads no secret'
    if application.get("snap_start"):
        yield (
            f"{start} application.snap_start is true, because the snapshot contains the AWS SDK, and the extension "
            "could return the secret of the day of the snapshot"
        )


def _direct_tls_problems(environment: Values) -> Iterator[str]:
    start = 'application.ssl_negotiation is "direct": expected "postgres"'
    aurora, existing = _table(environment, "aurora"), _table(environment, "existing")
    # The version of an existing database is unknown.
    if not environment["provision_aurora"]:
        if existing.get("host") is not None and is_rds_proxy(existing["host"]):
            yield f"{start} if existing.host is an endpoint of RDS Proxy, which documents no direct TLS"
    elif aurora.get("proxy"):
        yield f"{start} if aurora.proxy is true, because RDS Proxy documents no direct TLS"
    elif (version := aurora.get("engine_version")) is not None and _major(version) < _MIN_MAJOR_VERSION_FOR_DIRECT_TLS:
        yield (
            f"{start} if aurora.engine_version is {toml_text(version)}, because PostgreSQL accepts direct TLS from "
            f"version {_MIN_MAJOR_VERSION_FOR_DIRECT_TLS} on"
        )


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def _table(environment: Values, name: str) -> Values:
    table: Values = environment.get(name) or {}
    return table
