"""What a function needs to use the database: its environment, the permissions, and the way there."""

from collections.abc import Iterator, Mapping
from typing import Any

from aws_cdk import Fn
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from registration_infra.budget import RESERVED, RESERVES, connections_of
from registration_infra.config import EnvironmentConfig, ExistingDatabase, InfraConfigError
from registration_infra.constructs.network import HTTPS, vpc_that_is_there
from registration_infra.constructs.secrets import allow_secret

PARAMETERS = (
    "host",
    "port",
    "name",
    "secret_arn",
    "sslmode",
    "key_arn",
    "security_group_id",
    "endpoint_security_group_id",
    "vpc_id",
    "subnet_ids",
)
"""The parameters that the database's stack writes, below `/registration/ENVIRONMENT/database/`."""

# RDS Proxy has certificates of Amazon Trust Services, which Lambda's own bundle knows.
_PUBLIC_CERTIFICATES = "/etc/pki/tls/certs/ca-bundle.crt"


class DatabaseAccess(Construct):
    """The database as the stack of an application sees it.

    It reads the parameters of the database's stack when it is deployed, so that neither stack holds up the other; where
    the database is there already, it is the file that says where.

    Attributes:
        environment: The name of the environment.
        vpc: Where functions must be.
        subnets: Their subnets.
        key_arn: The key of the database, where there is one of its own.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: EnvironmentConfig) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self.environment = config.name
        self._claims: dict[str, tuple[int, int]] = {}
        values = self._provisioned() if config.existing is None else self._existing(config.existing)
        self._variables: Mapping[str, str] = values["variables"]
        self._secret_arn: str = values["secret_arn"]
        self.key_arn: str | None = values["key_arn"]
        self._port = ec2.Port.tcp(config.existing.port if config.existing else 5432)
        self._security_group = ec2.SecurityGroup.from_security_group_id(
            self, "SecurityGroup", values["security_group_id"]
        )
        endpoint = values["endpoint_security_group_id"]
        self._endpoint = endpoint and ec2.SecurityGroup.from_security_group_id(self, "EndpointSecurityGroup", endpoint)
        self.vpc = vpc_that_is_there(self, config.network, values["vpc_id"], values["subnet_ids"])
        self.subnets = self.vpc.isolated_subnets

    def allow(self, function: lambda_.Function) -> None:
        """Open the way from the group of *function* to the database and to Secrets Manager, and to nothing else."""
        function.connections.allow_to(self._security_group, self._port, "The database")
        if self._endpoint:
            function.connections.allow_to(self._endpoint, HTTPS, "Secrets Manager")
        else:
            function.connections.allow_to_any_ipv4(HTTPS, "Secrets Manager, whose endpoint the file does not name")

    def environment_for(self, function: lambda_.Function, *, connections: int = 1) -> Mapping[str, str]:
        """Let *function* use the database: set its environment, let it read the secret, open the way.

        Args:
            function: In `vpc`, with a reserved concurrency.
            connections: What each of its environments holds at once; more than 1 only with APP_DATABASE_POOL_SIZE.

        Returns:
            What was set.

        Raises:
            InfraConfigError: All functions together may take more connections than the database allows.
        """
        self._claim(function, connections)
        for name, value in self._variables.items():
            function.add_environment(name, value)
        allow_secret(function, self._secret_arn, self.key_arn)
        self.allow(function)
        return self._variables

    def _claim(self, function: lambda_.Function, connections: int) -> None:
        aurora = self._config.aurora
        if aurora is None or aurora.proxy:  # the limit is not known, or is the proxy's to keep
            return
        resource = function.node.default_child
        assert isinstance(resource, lambda_.CfnFunction)
        concurrency = resource.reserved_concurrent_executions
        source, name = f"the environment {self._config.name}", function.node.path
        if concurrency is None:
            raise InfraConfigError(
                source,
                [f"{name} has no reserved concurrency: expected one, as it decides how many connections it takes"],
            )
        self._claims[name] = (int(concurrency), connections)
        claims = dict(self._all_claims())
        needed = sum(connections_of(*claim) for claim in claims.values()) + RESERVED
        if needed > aurora.max_connections:
            parts = [f"{name} {number} x {each}" for name, (number, each) in claims.items()]
            parts += [f"{what} {number}" for what, number in RESERVES.items()]
            problem = (
                f"its functions may take {' + '.join(parts)} = {needed} connections: expected "
                f"{aurora.max_connections} or less, as {aurora.max_capacity:g} ACU allow no more"
            )
            raise InfraConfigError(source, [problem])

    def _all_claims(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for construct in self.node.root.node.find_all():
            if isinstance(construct, DatabaseAccess) and construct.environment == self.environment:
                yield from construct._claims.items()  # noqa: SLF001 of this class

    def _provisioned(self) -> dict[str, Any]:
        assert self._config.aurora is not None
        values: dict[str, Any] = {
            name: ssm.StringParameter.value_for_string_parameter(self, parameter_name(self._config, name))
            for name in PARAMETERS
        }
        environment = variables(
            self._config.name, {name: values[name] for name in ("host", "port", "name", "secret_arn", "sslmode")}
        )
        if self._config.aurora.proxy:
            environment |= {"APP_DATABASE_POOL": "proxy", "APP_DATABASE_SSL_ROOT_CERT": _PUBLIC_CERTIFICATES}
        subnets = Fn.split(",", values["subnet_ids"])
        zones = len(self._config.network.availability_zones)
        return values | {
            "variables": environment,
            "subnet_ids": [Fn.select(number, subnets) for number in range(zones)],
        }

    def _existing(self, existing: ExistingDatabase) -> dict[str, Any]:
        network = self._config.network
        is_rds = existing.host.endswith((".rds.amazonaws.com", ".rds.amazonaws.com.cn"))
        environment = variables(
            self._config.name,
            {
                "host": existing.host,
                "port": str(existing.port),
                "name": existing.name,
                "secret_arn": existing.secret_arn,
                # Only for these hosts the package has the certificate.
                "sslmode": "verify-full" if is_rds else "require",
            },
        )
        return {
            "variables": environment,
            "secret_arn": existing.secret_arn,
            "key_arn": existing.secret_key_arn,
            "security_group_id": existing.security_group_id,
            "endpoint_security_group_id": network.secrets_endpoint_security_group_id,
            "vpc_id": network.vpc_id,
            "subnet_ids": [*(network.subnet_ids or ())],
        }


def parameter_name(config: EnvironmentConfig, name: str) -> str:
    """Return the full name of one of `PARAMETERS`."""
    return f"/{config.path}/database/{name}"


def variables(environment: str, values: Mapping[str, str]) -> dict[str, str]:
    """Return what the package reads from the environment; *values* by the end of their names, in small letters."""
    return {"APP_ENVIRONMENT": environment} | {f"APP_DATABASE_{name.upper()}": value for name, value in values.items()}
