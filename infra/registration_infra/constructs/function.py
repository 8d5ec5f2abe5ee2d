"""A Lambda function, without any permission until one is granted."""

from collections.abc import Sequence
from pathlib import Path

from aws_cdk import Aws, Duration, SymlinkFollowMode
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from registration_infra.config import EnvironmentConfig
from registration_infra.constructs.logs import encrypted_log_group
from registration_infra.constructs.network import closed_security_group
from registration_infra.layer import ARCHITECTURE, RUNTIME

_EXCLUDED_FILES = ["__pycache__", "*.pyc", "*.md"]
# The Lambda service performs these with the role of the function; the function itself must not.
_NETWORK_INTERFACE_ACTIONS = (
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
)


class PythonFunction(Construct):
    """A Python function with its own role and log group, and in a VPC its own security group.

    The role may write to the log group. In a VPC, it also allows the network interfaces that Lambda creates on its
    behalf, and denies them to the code itself: https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html,
    "Best practice for VPC permissions".

    Attributes:
        function: The function.
        security_group: The security group of the function: the given one, or one that allows no traffic until a rule is
            added; `None` without a VPC.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        description: str,
        config: EnvironmentConfig,
        vpc: ec2.IVpc | None,
        subnets: Sequence[ec2.ISubnet],
        key: kms.IKey | None,
        code: Path,
        handler: str,
        layer: lambda_.ILayerVersion,
        timeout: Duration,
        memory_mib: int,
        reserved_concurrency: int,
        security_group: ec2.SecurityGroup | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        self.security_group = security_group
        if vpc is not None and security_group is None:
            self.security_group = closed_security_group(self, "SecurityGroup", vpc, f"Function {name}")
        logs = encrypted_log_group(self, "Logs", name=f"/aws/lambda/{name}", config=config, key=key)
        role = self._role(name)
        logs.grant_write(role)
        if vpc is not None:
            _allow_network_interfaces(role, name)
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=name,
            description=description,
            runtime=RUNTIME,
            architecture=ARCHITECTURE,
            code=lambda_.Code.from_asset(str(code), exclude=_EXCLUDED_FILES, follow_symlinks=SymlinkFollowMode.ALWAYS),
            handler=handler,
            layers=[layer],
            role=role,
            vpc=vpc,
            vpc_subnets=None if vpc is None else ec2.SubnetSelection(subnets=[*subnets]),
            security_groups=None if self.security_group is None else [self.security_group],
            log_group=logs,
            # In JSON, the fields of the package's events (`event`, `cause`) are fields of the log event too.
            logging_format=lambda_.LoggingFormat.JSON,
            application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
            timeout=timeout,
            memory_size=memory_mib,
            reserved_concurrent_executions=reserved_concurrency,
        )

    def _role(self, name: str) -> iam.Role:
        return iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"Function {name}",
        )


def _allow_network_interfaces(role: iam.Role, function_name: str) -> None:
    arn = f"arn:{Aws.PARTITION}:lambda:{Aws.REGION}:{Aws.ACCOUNT_ID}:function:{function_name}"
    # The ARN of a published version has its number at the end.
    arns = [arn, f"{arn}:*"]
    actions = [*_NETWORK_INTERFACE_ACTIONS]
    role.add_to_policy(iam.PolicyStatement(sid="InterfacesForLambda", actions=actions, resources=["*"]))
    role.add_to_policy(
        iam.PolicyStatement(
            sid="NoInterfacesForTheCode",
            effect=iam.Effect.DENY,
            actions=actions,
            resources=["*"],
            conditions={"ArnLike": {"lambda:SourceFunctionArn": arns}},
        )
    )
