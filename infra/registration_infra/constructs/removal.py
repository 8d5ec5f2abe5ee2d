"""The removal policy of everything that is needed to read the data later: key, secrets, backups and logs."""

from aws_cdk import RemovalPolicy

from registration_infra.config import EnvironmentConfig


def removal_policy(config: EnvironmentConfig) -> RemovalPolicy:
    """Return whether a resource is deleted with the stack or kept.

    A kept resource is still deleted if the first deployment fails, because otherwise its name would be taken in the
    next attempt.
    """
    return RemovalPolicy.DESTROY if config.deletes_all_data else RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE
