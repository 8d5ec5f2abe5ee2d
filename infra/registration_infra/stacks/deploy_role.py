"""The stack of the policies and the role that deploy an environment."""

from aws_cdk import BootstraplessSynthesizer, CfnOutput, Environment, Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from registration_infra.config import EnvironmentConfig
from registration_infra.deploy_policies import EXECUTION_POLICIES, boundary_name, document, execution_policy_name

_SESSION_SECONDS = 3600


class DeployRoleStack(Stack):
    """The policies that limit CloudFormation, the boundary of all roles, and the role of GitHub's workflows.

    An administrator deploys it, because neither the role nor CloudFormation may change the policies. It needs no
    `cdk bootstrap`, which uses the policies.

    Args:
        scope: The app.
        config: The environment.
    """

    def __init__(self, scope: Construct, *, config: EnvironmentConfig) -> None:
        super().__init__(
            scope,
            f"{config.prefix}-deploy-role",
            description=f"Permissions of the deployments of {config.prefix}",
            env=Environment(account=config.account, region=config.region),
            synthesizer=BootstraplessSynthesizer(),
            termination_protection=True,
        )
        self._policy("Boundary", boundary_name(config), "boundary_policy", config)
        for policy in EXECUTION_POLICIES:
            identifier = "".join(word.capitalize() for word in policy.split("-"))
            file = f"execution_policy_{policy.replace('-', '_')}"
            self._policy(f"Execution{identifier}", execution_policy_name(config, policy), file, config)
        if config.github_repository is not None:
            self._role(config)

    def _policy(self, construct_id: str, name: str, file: str, config: EnvironmentConfig) -> None:
        iam.CfnManagedPolicy(self, construct_id, managed_policy_name=name, policy_document=document(file, config))

    def _role(self, config: EnvironmentConfig) -> None:
        policy = iam.CfnRole.PolicyProperty(
            policy_name="deploy", policy_document=document("permissions_policy", config)
        )
        role = iam.CfnRole(
            self,
            "Role",
            # Not `registration-…`, because CloudFormation may change the roles of these names.
            role_name=f"deploy-{config.prefix}",
            description=f"Workflows of {config.github_repository} that deploy {config.name}",
            assume_role_policy_document=document("trust_policy", config),
            policies=[policy],
            max_session_duration=_SESSION_SECONDS,
        )
        CfnOutput(self, "RoleArn", value=role.attr_arn, description="The variable AWS_ROLE_ARN of the workflows")
