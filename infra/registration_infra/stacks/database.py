"""The stack of the database of one environment."""

from collections.abc import Mapping
from dataclasses import dataclass

from aws_cdk import CfnOutput, Environment, Stack
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from registration_infra.config import EnvironmentConfig
from registration_infra.constructs.alarms import Alarms
from registration_infra.constructs.aurora import Aurora
from registration_infra.constructs.backup import Backup
from registration_infra.constructs.context import DatabaseContext
from registration_infra.constructs.iam_login import IAM_LOGIN
from registration_infra.constructs.key import DatabaseKey
from registration_infra.constructs.migrations import Migrations
from registration_infra.constructs.network import Network
from registration_infra.constructs.proxy import Proxy
from registration_infra.constructs.removal import removal_policy
from registration_infra.constructs.rotation import Rotation
from registration_infra.constructs.secrets import ADMIN, APPLICATION, MONITORING, DatabaseSecret
from registration_infra.constructs.support_events import SupportEvents
from registration_infra.layer import package_layer
from registration_infra.parameters import (
    IDLE_SESSION_TIMEOUT_SECONDS,
    connection_parameters,
    parameter_name,
    published_parameters,
    variable_name,
)

_PORT = "5432"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Secrets:
    """The secrets of the database.

    `application` is `None` if the services log in with IAM, and `monitoring` without Datadog's Database Monitoring.
    """

    cluster: secretsmanager.ISecret
    application: secretsmanager.ISecret | None
    monitoring: secretsmanager.ISecret | None


class DatabaseStack(Stack):
    """Network, key, secrets, cluster, migrations, backups and alarms of the database.

    It publishes the settings that the package reads, as outputs and as SSM parameters.

    Args:
        scope: The app.
        config: The environment; must provision a cluster.
        require_layer: Whether the Lambda layer must have been built; see `package_layer`.
    """

    def __init__(self, scope: Construct, *, config: EnvironmentConfig, require_layer: bool) -> None:
        super().__init__(
            scope,
            f"{config.prefix}-database",
            description=f"Database {config.prefix}: Aurora Serverless v2 (PostgreSQL)",
            env=Environment(account=config.account, region=config.region),
            termination_protection=config.aurora is not None and config.aurora.deletion_protection,
        )
        self._avoid_zone_lookup(config)
        key = DatabaseKey(self, "Key", config=config).key
        self._context = DatabaseContext(config, key, Network(self, "Network", config=config, key=key))
        aurora = self._aurora()
        secrets = self._secrets(aurora)
        layer = package_layer(self, "Package", require_layer=require_layer)
        address = self._address(aurora)
        self._rotation(aurora, secrets, address, layer)
        migrate = self._migrations(aurora, secrets, address, layer)
        if config.backup.own_plan:
            Backup(self, "Backup", context=self._context)
        self._alarms(aurora, secrets, migrate)
        self._publish(aurora, address, secrets)
        CfnOutput(self, "MigrateFunctionName", value=migrate.function_name)

    def _avoid_zone_lookup(self, config: EnvironmentConfig) -> None:
        # Otherwise the CDK asks AWS for the availability zones, although the environment file names them.
        assert config.network is not None
        zones = f"availability-zones:account={config.account}:region={config.region}"
        self.node.set_context(zones, [*config.network.availability_zones])

    def _aurora(self) -> Aurora:
        admin = self._secret("ClusterSecret", "cluster", ADMIN)
        return Aurora(self, "Aurora", context=self._context, secret=admin)

    def _secrets(self, aurora: Aurora) -> _Secrets:
        master = aurora.cluster.secret
        assert master is not None
        application = None
        if not self._context.aurora.uses_iam:
            application = self._secret("ApplicationSecret", "application", APPLICATION, master).attach(aurora.cluster)
        monitoring = None
        datadog = self._context.config.datadog
        if datadog and datadog.database_monitoring:
            monitoring = self._secret("MonitoringSecret", "monitoring", MONITORING).attach(aurora.cluster)
        return _Secrets(cluster=master, application=application, monitoring=monitoring)

    def _secret(
        self, construct_id: str, name: str, username: str, master: secretsmanager.ISecret | None = None
    ) -> secretsmanager.ISecret:
        config = self._context.config
        return DatabaseSecret(
            self,
            construct_id,
            name=f"{config.path}/{name}",
            username=username,
            key=self._context.key,
            removal_policy=removal_policy(config),
            master=master,
        ).secret

    def _rotation(
        self, aurora: Aurora, secrets: _Secrets, address: Mapping[str, str], layer: lambda_.ILayerVersion
    ) -> None:
        Rotation(
            self,
            "Rotation",
            context=self._context,
            layer=layer,
            address=address,
            cluster=aurora.cluster,
            cluster_security_group=aurora.security_group,
            cluster_secret=secrets.cluster,
            application_secret=secrets.application,
        )

    def _address(self, aurora: Aurora) -> dict[str, str]:
        return {
            "host": aurora.cluster.cluster_endpoint.hostname,
            "port": _PORT,
            "name": self._context.aurora.database_name,
            "sslmode": self._context.aurora.sslmode,
        }

    def _migrations(
        self, aurora: Aurora, secrets: _Secrets, address: Mapping[str, str], layer: lambda_.ILayerVersion
    ) -> lambda_.Function:
        by_variable = {
            "APP_DATABASE_SECRET_ARN": secrets.cluster,
            "APP_DATABASE_APPLICATION_SECRET_ARN": secrets.application,
            "APP_DATABASE_MONITORING_SECRET_ARN": secrets.monitoring,
        }
        migrations = Migrations(
            self,
            "Migrations",
            context=self._context,
            layer=layer,
            address=address,
            database_security_group=aurora.security_group,
            secrets={variable: secret for variable, secret in by_variable.items() if secret is not None},
            iam_login=IAM_LOGIN if secrets.application is None else None,
        )
        # The function needs an instance, not only the cluster.
        migrations.node.add_dependency(aurora.cluster)
        return migrations.function

    def _alarms(self, aurora: Aurora, secrets: _Secrets, migrate: lambda_.Function) -> None:
        alarms = Alarms(
            self,
            "Alarms",
            context=self._context,
            cluster=aurora.cluster,
            secrets=[secret for secret in (secrets.cluster, secrets.application) if secret is not None],
            migrate=migrate,
        )
        SupportEvents(self, "SupportEvents", topic=alarms.topic, role=alarms.publisher)

    def _endpoint(self, aurora: Aurora, secrets: _Secrets) -> dict[str, str]:
        """Return the values that differ between the proxy and the cluster."""
        cluster = aurora.cluster
        if not self._context.aurora.proxy:
            return {
                "reader_host": cluster.cluster_read_endpoint.hostname,
                "security_group_id": aurora.security_group.security_group_id,
                "resource_id": cluster.cluster_resource_identifier,
            }
        proxy = Proxy(self, "Proxy", context=self._context, cluster=cluster, secret=secrets.application)
        return {
            "host": proxy.proxy.endpoint,
            **({} if proxy.reader_host is None else {"reader_host": proxy.reader_host}),
            # Its certificate can be verified in each region, see `DatabaseAccess`.
            "sslmode": "verify-full",
            "security_group_id": proxy.security_group.security_group_id,
            "resource_id": proxy.resource_id,
        }

    def _publish(self, aurora: Aurora, address: Mapping[str, str], secrets: _Secrets) -> None:
        network = self._context.network
        secret = {} if secrets.application is None else {"secret_arn": secrets.application.secret_arn}
        values = {
            **address,
            **self._endpoint(aurora, secrets),
            **secret,
            "auth": "iam",
            "user": IAM_LOGIN,
            "idle_session_timeout": IDLE_SESSION_TIMEOUT_SECONDS,
            "key_arn": self._context.key.key_arn,
            "endpoint_security_group_id": network.endpoint_security_group.security_group_id,
            "vpc_id": network.vpc.vpc_id,
            "subnet_ids": ",".join(subnet.subnet_id for subnet in network.function_subnets),
        }
        for name in published_parameters(self._context.aurora):
            self._publish_one(name, values[name])

    def _publish_one(self, name: str, value: str) -> None:
        camel_case = "".join(word.capitalize() for word in name.split("_"))
        parameter = parameter_name(self._context.config, name)
        ssm.StringParameter(self, f"Parameter{camel_case}", parameter_name=parameter, string_value=value)
        if name in connection_parameters(self._context.aurora):
            CfnOutput(self, f"AppDatabase{camel_case}", value=value, description=variable_name(name))
