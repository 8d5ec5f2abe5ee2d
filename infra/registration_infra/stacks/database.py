"""The database of an environment, with everything that keeps it."""

from collections.abc import Mapping

from aws_cdk import CfnOutput, Environment, Stack
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from registration_infra.config import EnvironmentConfig
from registration_infra.constructs.alarms import Alarms
from registration_infra.constructs.aurora import Aurora
from registration_infra.constructs.backup import Backup
from registration_infra.constructs.database_access import PARAMETERS, parameter_name
from registration_infra.constructs.key import DatabaseKey
from registration_infra.constructs.migrations import Migrations
from registration_infra.constructs.network import Network
from registration_infra.constructs.proxy import Proxy
from registration_infra.constructs.secrets import ADMIN, APPLICATION, MONITORING, DatabaseSecret, Rotation
from registration_infra.layer import package_layer

_SSLMODE = "verify-full"
_PORT = "5432"
# What a service reads as APP_DATABASE_*.
_VARIABLES = ("host", "port", "name", "secret_arn", "sslmode")


class DatabaseStack(Stack):
    """Network, key, secrets, cluster, migrations, backups and alarms; the outputs are what the package reads."""

    def __init__(self, scope: Construct, *, config: EnvironmentConfig, built: bool) -> None:
        super().__init__(
            scope,
            f"{config.prefix}-database",
            description=f"The database {config.prefix}: Aurora Serverless v2 (PostgreSQL)",
            env=Environment(account=config.account, region=config.region),
            termination_protection=config.aurora is not None and config.aurora.deletion_protection,
        )
        assert config.aurora is not None
        # Otherwise the CDK asks the account which zones there are, though the file names all that are used.
        zones = f"availability-zones:account={config.account}:region={config.region}"
        self.node.set_context(zones, [*config.network.availability_zones])
        key = DatabaseKey(self, "Key", config=config).key
        network = Network(self, "Network", config=config, key=key)
        keep = not config.keeps_nothing

        admin = DatabaseSecret(
            self, "ClusterSecret", name=f"{config.path}/cluster", username=ADMIN, key=key, keep=keep
        ).secret
        aurora = Aurora(self, "Aurora", config=config, network=network, key=key, secret=admin)
        cluster, cluster_secret = aurora.cluster, aurora.cluster.secret
        assert cluster_secret is not None
        application_secret = DatabaseSecret(
            self,
            "ApplicationSecret",
            name=f"{config.path}/application",
            username=APPLICATION,
            key=key,
            keep=keep,
            master=cluster_secret,
        ).secret.attach(cluster)
        secrets = {
            "APP_DATABASE_SECRET_ARN": cluster_secret,
            "APP_DATABASE_APPLICATION_SECRET_ARN": application_secret,
        }
        if config.datadog and config.datadog.database_monitoring:
            secrets["APP_DATABASE_MONITORING_SECRET_ARN"] = DatabaseSecret(
                self, "MonitoringSecret", name=f"{config.path}/monitoring", username=MONITORING, key=key, keep=keep
            ).secret.attach(cluster)
        Rotation(
            self,
            "Rotation",
            config=config,
            network=network,
            key=key,
            cluster_security_group=aurora.security_group,
            cluster_secret=cluster_secret,
            application_secret=application_secret,
        )

        address = {
            "host": cluster.cluster_endpoint.hostname,
            "port": _PORT,
            "name": config.aurora.database_name,
            "sslmode": _SSLMODE,
        }
        migrations = Migrations(
            self,
            "Migrations",
            config=config,
            network=network,
            key=key,
            layer=package_layer(self, "Package", built=built),
            address=address,
            database_security_group=aurora.security_group,
            secrets=secrets,
        )
        # A function that is called before there is an instance would find nobody.
        migrations.node.add_dependency(cluster)
        if config.backup.own_plan:
            Backup(self, "Backup", config=config, key=key)
        Alarms(
            self,
            "Alarms",
            config=config,
            key=key,
            cluster=cluster,
            secrets=[cluster_secret, application_secret],
            migrate=migrations.function,
        )

        host, security_group = address["host"], aurora.security_group
        if config.aurora.proxy:
            proxy = Proxy(
                self,
                "Proxy",
                config=config,
                network=network,
                key=key,
                cluster=cluster,
                secret=application_secret,
            )
            host, security_group = proxy.proxy.endpoint, proxy.security_group
        self._publish(
            config,
            address
            | {
                "host": host,
                "secret_arn": application_secret.secret_arn,
                "key_arn": key.key_arn,
                "security_group_id": security_group.security_group_id,
                "endpoint_security_group_id": network.endpoint_security_group.security_group_id,
                "vpc_id": network.vpc.vpc_id,
                "subnet_ids": ",".join(subnet.subnet_id for subnet in network.function_subnets),
            },
        )
        CfnOutput(self, "MigrateFunctionName", value=migrations.function.function_name)

    def _publish(self, config: EnvironmentConfig, values: Mapping[str, str]) -> None:
        assert {*PARAMETERS} == values.keys()
        for name, value in values.items():
            words = "".join(word.capitalize() for word in name.split("_"))
            ssm.StringParameter(
                self, f"Parameter{words}", parameter_name=parameter_name(config, name), string_value=value
            )
            if name in _VARIABLES:
                CfnOutput(self, f"AppDatabase{words}", value=value, description=f"APP_DATABASE_{name.upper()}")
