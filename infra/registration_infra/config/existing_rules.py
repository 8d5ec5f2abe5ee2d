"""Rules across the keys of [existing], and between them and the network."""

from collections.abc import Iterator
from typing import Final

from registration_infra.config.endpoints import is_rds_proxy, is_rds_server
from registration_infra.config.existing import ExistingDatabase
from registration_infra.config.table import expected_value
from registration_infra.config.toml_text import toml_text
from registration_infra.config.valid_values import Values, is_left_out

_CUSTOM_ENDPOINT: Final = ".cluster-custom-"
_KEYS_OF_IAM: Final = ("user", "resource_id")
_KEYS_OF_SECRET: Final = ("secret_arn", "secret_key_arn")
# Keys without effect on an existing database; accepting them would give a false impression of safety.
_KEYS_FOR_PROVISIONED_CLUSTER: Final = (("backup", "central_account"), ("backup", "own_plan"), ("alarms", "email"))


def existing_problems(environment: Values) -> Iterator[str]:
    """Yield the problems of the existing database, for the valid values of an environment without a cluster."""
    for table, key in _KEYS_FOR_PROVISIONED_CLUSTER:
        value = environment.get(table, {}).get(key)
        if value:
            yield f"{table}.{key} is {toml_text(value)}: expected only if provision_aurora is true"
    existing = environment.get("existing")
    if existing is None:
        return
    if existing.get("reader_host") is not None and existing["reader_host"] == existing.get("host"):
        yield f"existing.reader_host is {toml_text(existing['reader_host'])}: expected another host than existing.host"
    if existing.get("auth") == "secret":
        yield from _secret_problems(existing)
    elif existing.get("auth") == "iam":
        yield from _iam_problems(existing)
        yield from _endpoint_problems(existing)
        yield from _security_group_problems(existing, environment.get("network"))


def _secret_problems(existing: Values) -> Iterator[str]:
    for key in ("secret_arn", "security_group_id"):
        if is_left_out(existing, key):
            yield f'existing.{key} is missing: expected {_expected(key)}, unless existing.auth is "iam"'
    for key in _KEYS_OF_IAM:
        if existing.get(key) is not None:
            yield f'existing.{key} is {toml_text(existing[key])}: expected only if existing.auth is "iam"'


def _iam_problems(existing: Values) -> Iterator[str]:
    for key in _KEYS_OF_IAM:
        if is_left_out(existing, key):
            yield f'existing.{key} is missing: expected {_expected(key)}, because existing.auth is "iam"'
    for key in _KEYS_OF_SECRET:
        if existing.get(key) is not None:
            yield (
                f'existing.{key} is set: expected only if existing.auth is "secret"; remove it, because a login with '
                "IAM has no password"
            )


def _endpoint_problems(existing: Values) -> Iterator[str]:
    host, resource_id = existing.get("host"), existing.get("resource_id")
    for key in ("host", "reader_host"):
        name = existing.get(key)
        if name is not None and (not is_rds_server(name) or _CUSTOM_ENDPOINT in name.lower()):
            yield (
                f"existing.{key} is {toml_text(name)}: expected an endpoint of the cluster, an instance or a "
                'proxy if existing.auth is "iam", because RDS accepts no token for an alias or a custom endpoint'
            )
    if host is not None and resource_id is not None and is_rds_proxy(host) != resource_id.startswith("prx-"):
        expected = (
            "prx-…, because existing.host is an endpoint"
            if is_rds_proxy(host)
            else "cluster-… or db-…, because existing.host is no endpoint"
        )
        yield f"existing.resource_id is {toml_text(resource_id)}: expected {expected} of RDS Proxy"


def _security_group_problems(existing: Values, network: Values | None) -> Iterator[str]:
    if network is None and existing.get("security_group_id") is not None:
        yield (
            f"existing.security_group_id is {toml_text(existing['security_group_id'])}: "
            "expected only together with network.vpc_id"
        )
    elif network is not None and network.get("vpc_id") is not None and is_left_out(existing, "security_group_id"):
        yield (
            f"existing.security_group_id is missing: expected {_expected('security_group_id')}, because "
            "network.vpc_id is set"
        )


def _expected(key: str) -> str:
    return expected_value(ExistingDatabase.model_fields[key])
