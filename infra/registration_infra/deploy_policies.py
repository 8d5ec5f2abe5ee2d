"""The policies of deployments, which are JSON files in `deploy_role/`, and their names."""

import json
from pathlib import Path
from string import Template
from typing import Any, Final

from registration_infra.config import EnvironmentConfig
from registration_infra.config.partitions import partition_of

FOLDER: Final = Path(__file__).parents[1] / "deploy_role"
# IAM limits a managed policy to 6,144 characters, hence several.
EXECUTION_POLICIES: Final = (
    *("application", "database", "keys-and-alarms", "network", "restore-testing", "roles-and-functions"),
)
"""The ends of the names of the policies that limit CloudFormation."""

QUALIFIER: Final = "hnb659fds"
"""The part of the names of the CDK's roles and bucket that `cdk bootstrap` chooses by default."""


def boundary_name(config: EnvironmentConfig) -> str:
    """Return the name of the permissions boundary of all roles of *config*."""
    return f"{config.prefix}-boundary"


def execution_policy_name(config: EnvironmentConfig, policy: str) -> str:
    """Return the name of one of `EXECUTION_POLICIES`."""
    return f"{config.prefix}-execution-{policy}"


def execution_policy_arns(config: EnvironmentConfig) -> list[str]:
    """Return the ARNs of the policies that limit CloudFormation."""
    start = f"arn:{partition_of(config.region)}:iam::{config.account}:policy/"
    return [f"{start}{execution_policy_name(config, policy)}" for policy in EXECUTION_POLICIES]


def document(name: str, config: EnvironmentConfig) -> dict[str, Any]:
    """Return the policy in the file *name* of `deploy_role/`, with the values of *config* for its placeholders.

    Raises:
        KeyError: The file has a placeholder without a value.
    """
    values = {
        "Partition": partition_of(config.region),
        "Account": config.account,
        "Region": config.region,
        "Environment": config.name,
        "Qualifier": QUALIFIER,
    }
    if config.github_repository is not None:
        values["Repository"] = config.github_repository
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    policy = json.loads(Template(text).substitute(values))
    assert isinstance(policy, dict)
    return policy
