"""The stack of the restore test of one environment."""

from aws_cdk import Aws, Duration, Environment, Fn, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from registration_infra.config import EnvironmentConfig
from registration_infra.constructs.function import PythonFunction
from registration_infra.constructs.migrations import OWNER_ROLE
from registration_infra.constructs.network import (
    HTTPS,
    POSTGRESQL,
    allow_connections,
    closed_security_group,
    existing_vpc,
)
from registration_infra.constructs.restore_plan import RestorePlan
from registration_infra.constructs.restore_workflow import RestoreWorkflow
from registration_infra.constructs.restored_clusters import RESTORED, rds_arn
from registration_infra.layer import MIGRATE_FUNCTION, package_layer
from registration_infra.parameters import environment_variables, parameter_name

_TIMEOUT = Duration.minutes(15)
_MEMORY_MIB = 512


class RestoreTestingStack(Stack):
    """Restores the newest backup every month, checks the copy, deletes it, and raises an alarm if that fails.

    The copy is in a security group that only the checking function reaches, and the function reaches no other database.

    Args:
        scope: The app.
        config: The environment; must provision a cluster and have its own backup plan.
        require_layer: Whether the Lambda layer must have been built; see `package_layer`.
    """

    def __init__(self, scope: Construct, *, config: EnvironmentConfig, require_layer: bool) -> None:
        super().__init__(
            scope,
            f"{config.prefix}-restore-testing",
            description=f"Restore test of the database {config.prefix}",
            env=Environment(account=config.account, region=config.region),
        )
        self._config = config
        self._key_arn = self._published("key_arn")
        self._vpc = self._network()
        restored = closed_security_group(self, "Restored", self._vpc, "Restored clusters of the restore test")
        check = self._function(package_layer(self, "Package", require_layer=require_layer))
        self._connect(check, restored)
        plan = RestorePlan(self, "Restore", config=config, key_arn=self._key_arn, security_group=restored).plan
        RestoreWorkflow(self, "Workflow", config=config, key_arn=self._key_arn, plan=plan, check=check.function)

    def _published(self, name: str) -> str:
        return ssm.StringParameter.value_for_string_parameter(self, parameter_name(self._config, name))

    def _network(self) -> ec2.IVpc:
        network = self._config.network
        assert network is not None
        subnet_ids = Fn.split(",", self._published("subnet_ids"))
        selected = [Fn.select(i, subnet_ids) for i in range(len(network.availability_zones))]
        return existing_vpc(self, network, self._published("vpc_id"), selected)

    def _function(self, layer: lambda_.ILayerVersion) -> PythonFunction:
        config = self._config
        assert config.aurora is not None
        check = PythonFunction(
            self,
            "Check",
            name=f"{config.prefix}-restore-test",
            description="Checks restored clusters",
            config=config,
            vpc=self._vpc,
            subnets=self._vpc.isolated_subnets,
            key=kms.Key.from_key_arn(self, "Key", self._key_arn),
            code=MIGRATE_FUNCTION,
            handler="restored.handle",
            layer=layer,
            timeout=_TIMEOUT,
            memory_mib=_MEMORY_MIB,
            reserved_concurrency=1,
        )
        values = {"port": "5432", "name": config.aurora.database_name, "sslmode": config.aurora.sslmode}
        for name, value in {
            **environment_variables(config.name, values),
            "APP_DATABASE_OWNER_ROLE": OWNER_ROLE,
            "RESTORED_HOST_START": RESTORED,
            "RESTORE_TEST_MIN_REGISTRATIONS": str(config.backup.restore_test_min_registrations),
        }.items():
            check.function.add_environment(name, value)
        check.function.add_to_role_policy(_secrets_of_restored_clusters())
        return check

    def _connect(self, check: PythonFunction, restored: ec2.ISecurityGroup) -> None:
        assert check.security_group is not None
        allow_connections(check.security_group, restored, POSTGRESQL, "Check to restored clusters")
        endpoint = ec2.SecurityGroup.from_security_group_id(
            self, "EndpointSecurityGroup", self._published("endpoint_security_group_id")
        )
        allow_connections(check.security_group, endpoint, HTTPS, "Check to Secrets Manager")


def _secrets_of_restored_clusters() -> iam.PolicyStatement:
    # RDS names the secret, encrypts it with the AWS-managed key, and deletes it together with the cluster.
    return iam.PolicyStatement(
        actions=["secretsmanager:GetSecretValue"],
        resources=[f"arn:{Aws.PARTITION}:secretsmanager:{Aws.REGION}:{Aws.ACCOUNT_ID}:secret:rds!cluster-*"],
        conditions={"ArnLike": {"aws:ResourceTag/aws:rds:primaryDBClusterArn": rds_arn("cluster", f"{RESTORED}*")}},
    )
