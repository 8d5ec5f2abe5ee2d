"""A function in the VPC that may do nothing until it is told to."""

from collections.abc import Sequence
from pathlib import Path

from aws_cdk import Aws, Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from registration_infra.config import EnvironmentConfig
from registration_infra.constructs.logs import encrypted_log_group
from registration_infra.constructs.network import closed_security_group
from registration_infra.layer import ARCHITECTURE, RUNTIME

_CODE_LEFT_OUT = ["__pycache__", "*.pyc"]
# What the Lambda service does in the function's name, and what the function itself must not.
_INTERFACES = (
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
)


class VpcFunction(Construct):
    """A Python function with a role, a log group and a security group of its own.

    The role allows its log group, and the network interfaces that Lambda makes in its name. The code itself is denied
    these: https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html, "Best practice for VPC permissions".

    Attributes:
        function: The function.
        security_group: Its group; nothing gets in, and nothing out until it is told to.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        description: str,
        config: EnvironmentConfig,
        vpc: ec2.IVpc,
        subnets: Sequence[ec2.ISubnet],
        key: kms.IKey | None,
        code: Path,
        handler: str,
        layer: lambda_.ILayerVersion,
        timeout: Duration,
        memory_mib: int,
        reserved_concurrency: int,
    ) -> None:
        super().__init__(scope, construct_id)
        self.security_group = closed_security_group(self, "SecurityGroup", vpc, f"The function {name}")
        logs = encrypted_log_group(self, "Logs", name=f"/aws/lambda/{name}", config=config, key=key)
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"The function {name}",
        )
        logs.grant_write(role)
        arn = f"arn:{Aws.PARTITION}:lambda:{Aws.REGION}:{Aws.ACCOUNT_ID}:function:{name}"
        role.add_to_policy(iam.PolicyStatement(sid="InterfacesForLambda", actions=[*_INTERFACES], resources=["*"]))
        role.add_to_policy(
            iam.PolicyStatement(
                sid="NoInterfacesForTheCode",
                effect=iam.Effect.DENY,
                actions=[*_INTERFACES],
                resources=["*"],
                conditions={"ArnEquals": {"lambda:SourceFunctionArn": arn}},
            )
        )
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=name,
            description=description,
            runtime=RUNTIME,
            architecture=ARCHITECTURE,
            code=lambda_.Code.from_asset(str(code), exclude=_CODE_LEFT_OUT),
            handler=handler,
            layers=[layer],
            role=role,
            vpc=vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=[*subnets]),
            security_groups=[self.security_group],
            log_group=logs,
            # So that the fields of the package's events, `event` and `cause`, are fields in the log too.
            logging_format=lambda_.LoggingFormat.JSON,
            application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
            timeout=timeout,
            memory_size=memory_mib,
            reserved_concurrent_executions=reserved_concurrency,
        )
