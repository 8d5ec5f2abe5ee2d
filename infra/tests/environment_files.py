"""Files of environments for tests: as dotted keys with their values in TOML, and the results of reading them."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from registration_infra import EnvironmentConfig, InfraConfigError, parse

SHIPPED = Path(__file__).parents[1] / "environments"
SOURCE = "somewhere/dev.toml"
SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:registration-AbCdEf"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/0e1e2b3c-0000-4000-8000-000000000000"
VAULT = "arn:aws:backup:eu-west-1:999999999999:backup-vault:central"
ZONES = '["eu-central-1a", "eu-central-1b"]'
SUBNETS = '["subnet-12345678", "subnet-87654321"]'

# One environment of each kind, as keys with their values in TOML.
_EVERY: Mapping[str, str | None] = {
    "account": '"123456789012"',
    "region": '"eu-central-1"',
    "network.availability_zones": ZONES,
}
CLUSTER: Mapping[str, str | None] = {
    "provision_aurora": "true",
    **_EVERY,
    "aurora.database_name": '"registrations"',
    "aurora.deletion_protection": "true",
    "aurora.force_ssl": "true",
}
EXISTING_VPC: Mapping[str, str | None] = {
    "network.vpc_id": '"vpc-12345678"',
    "network.subnet_ids": SUBNETS,
    "network.secrets_endpoint_security_group_id": '"sg-87654321"',
}
EXISTING: Mapping[str, str | None] = {
    "provision_aurora": "false",
    **_EVERY,
    **EXISTING_VPC,
    "existing.host": '"db.example.org"',
    "existing.sslmode": '"require"',
    "existing.port": "5432",
    "existing.name": '"registrations"',
    "existing.secret_arn": f'"{SECRET}"',
    "existing.security_group_id": '"sg-12345678"',
}
IAM: Mapping[str, str | None] = {
    "provision_aurora": "false",
    "account": '"123456789012"',
    "region": '"eu-central-1"',
    "existing.host": '"d.cluster-abc.eu-central-1.rds.amazonaws.com"',
    "existing.name": '"registrations"',
    "existing.auth": '"iam"',
    "existing.user": '"registration_iam"',
    "existing.resource_id": '"cluster-ABCDEFGHIJKL01234"',
}
# Keys that others need.
DATADOG: Mapping[str, str | None] = {
    "network.nat_gateways": "1",
    "datadog.site": '"datadoghq.eu"',
    "datadog.api_key_secret_arn": f'"{SECRET}"',
}
PAUSE: Mapping[str, str | None] = {"aurora.min_capacity": "0", "aurora.auto_pause_seconds": "300"}
WEEK: Mapping[str, str | None] = {"aurora.backup_retention_days": "7"}
PROXY: Mapping[str, str | None] = {"aurora.proxy": "true", "aurora.rotation": '"single"'}


def document(*layers: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the content of a file with these dotted keys and values in TOML; the value `None` removes a key."""
    values: dict[str, Any] = {}
    for dotted, written in {key: value for layer in layers for key, value in layer.items()}.items():
        if written is not None:
            *tables, key = dotted.split(".")
            into = values
            for table in tables:
                into = into.setdefault(table, {})
            into[key] = tomllib.loads(f"value = {written}")["value"]
    return values


def problems(*layers: Mapping[str, str | None], environment: str = "dev") -> tuple[str, ...]:
    """Return the problems of the environment with these keys; see `problems_of`."""
    return problems_of(document(*layers), environment=environment)


def problems_of(values: Mapping[str, Any], *, environment: str = "dev") -> tuple[str, ...]:
    """Return the problems of *values*; assert that the error shows its source and each problem once, on one line."""
    with pytest.raises(InfraConfigError) as refused:
        parse(environment, values, source=SOURCE)
    error = refused.value
    assert error.source == SOURCE
    assert str(error).splitlines() == [f"{SOURCE} is wrong:", *(f"  - {problem}" for problem in error.problems)]
    assert len(set(error.problems)) == len(error.problems)
    return error.problems


def accepted(*layers: Mapping[str, str | None], environment: str = "dev") -> EnvironmentConfig:
    """Return the environment with these keys."""
    return parse(environment, document(*layers), source=SOURCE)


def value_of(config: EnvironmentConfig, key: str) -> Any:
    """Return the value of a dotted key of *config*."""
    value: Any = config
    for each in key.split("."):
        value = getattr(value, each)
    return value


def changed(config: EnvironmentConfig, **changes: Any) -> EnvironmentConfig:
    """Return a copy of *config* with *changes*, which is checked like an environment of a file."""
    return EnvironmentConfig.model_validate({**dict(config), **changes})
