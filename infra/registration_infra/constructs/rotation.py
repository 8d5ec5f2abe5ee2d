"""The rotation of the secret of the administrator, and of that of the application if it has one."""

from collections.abc import Mapping, Sequence

from aws_cdk import Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct, IDependable

from registration_infra.constructs.context import DatabaseContext
from registration_infra.constructs.function import PythonFunction
from registration_infra.constructs.key import key_use
from registration_infra.constructs.network import HTTPS, POSTGRESQL, allow_connections, closed_security_group
from registration_infra.constructs.secrets import allow_secret
from registration_infra.layer import ROTATE_FUNCTION
from registration_infra.parameters import environment_variables

# A paused cluster takes up to 30 s to resume.
_TIMEOUT = Duration.seconds(60)
_MEMORY_MIB = 256
_ACTIONS = ("DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage")


class Rotation(Construct):
    """Rotates the secrets of the cluster and of the application, if it has one, each with a function of its own.

    The functions are ours, because those of AWS send the password to the server in clear text, where the monitoring
    login can read it. The deployment starts no rotation, because `bootstrap` creates the login of the application only
    afterwards. Secrets Manager tests the functions as soon as the schedules exist, and the test logs in to the
    database; therefore the schedules wait for the instances, the endpoint and the security group rules.

    Args:
        scope: The parent construct.
        construct_id: The id within *scope*.
        context: The environment, the key and the network.
        layer: The layer with the package.
        address: The `host`, `port`, `name` and `sslmode` of the cluster.
        cluster: The cluster.
        cluster_security_group: The security group of the cluster.
        cluster_secret: The secret of the administrator.
        application_secret: The secret of the application; `None` if it logs in with IAM.

    Attributes:
        security_group: The security group of the rotation functions.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        context: DatabaseContext,
        layer: lambda_.ILayerVersion,
        address: Mapping[str, str],
        cluster: rds.DatabaseCluster,
        cluster_security_group: ec2.ISecurityGroup,
        cluster_secret: secretsmanager.ISecret,
        application_secret: secretsmanager.ISecret | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self._context, self._layer = context, layer
        self._variables = environment_variables(context.config.name, address)
        network = context.network
        self.security_group = closed_security_group(self, "SecurityGroup", network.vpc, "Rotation of secrets")
        allow_connections(self.security_group, cluster_security_group, POSTGRESQL, "Rotation to the database")
        allow_connections(self.security_group, network.endpoint_security_group, HTTPS, "Rotation to Secrets Manager")
        self._requirements: Sequence[IDependable] = [
            *(cluster, cluster_security_group, self.security_group, network.endpoint_security_group),
            *([network.endpoint] if network.endpoint else []),
        ]
        self._rotate("Cluster", cluster_secret, None)
        if application_secret is not None:
            admin = cluster_secret if context.aurora.rotation == "alternating" else None
            self._rotate("Application", application_secret, admin)

    def _rotate(self, name: str, secret: secretsmanager.ISecret, admin: secretsmanager.ISecret | None) -> None:
        function = self._function(name)
        for variable, value in (self._variables | {"APP_DATABASE_SECRET_ARN": secret.secret_arn}).items():
            function.add_environment(variable, value)
        self._allow_rotation(function, secret)
        if admin is not None:
            function.add_environment("ROTATION_ADMIN_SECRET_ARN", admin.secret_arn)
            allow_secret(function, admin.secret_arn, None)
        secret.deny_account_root_delete()
        self._schedule(name, secret, function)

    def _function(self, name: str) -> lambda_.Function:
        config, network = self._context.config, self._context.network
        return PythonFunction(
            self,
            name,
            name=f"{config.prefix}-rotate-{name.lower()}",
            description=f"Rotates the secret {config.path}/{name.lower()}",
            config=config,
            vpc=network.vpc,
            subnets=network.database_subnets,
            key=self._context.key,
            code=ROTATE_FUNCTION,
            handler="handler.handle",
            layer=self._layer,
            timeout=_TIMEOUT,
            memory_mib=_MEMORY_MIB,
            reserved_concurrency=1,
            security_group=self.security_group,
        ).function

    def _allow_rotation(self, function: lambda_.Function, secret: secretsmanager.ISecret) -> None:
        actions = [f"secretsmanager:{action}" for action in _ACTIONS]
        function.add_to_role_policy(iam.PolicyStatement(actions=actions, resources=[secret.secret_arn]))
        key = self._context.key.key_arn
        use = key_use(key, ["kms:Decrypt", "kms:GenerateDataKey"], service="secretsmanager")
        function.add_to_role_policy(use)

    def _schedule(self, name: str, secret: secretsmanager.ISecret, function: lambda_.Function) -> None:
        permission = lambda_.CfnPermission(
            self,
            f"{name}Permission",
            action="lambda:InvokeFunction",
            function_name=function.function_arn,
            principal="secretsmanager.amazonaws.com",
            # Otherwise a secret of another account could use the function.
            source_account=self._context.config.account,
        )
        schedule = secretsmanager.CfnRotationSchedule(
            self,
            f"{name}Schedule",
            secret_id=secret.secret_arn,
            rotation_lambda_arn=function.function_arn,
            rotation_rules=secretsmanager.CfnRotationSchedule.RotationRulesProperty(
                schedule_expression=f"rate({self._context.aurora.rotation_days} days)"
            ),
            rotate_immediately_on_update=False,
        )
        schedule.node.add_dependency(permission, *self._requirements)
