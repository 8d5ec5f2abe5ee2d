"""The access of a function to the database: environment variables, permissions and security group rules."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aws_cdk import Fn
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from registration_infra.budget import RESERVED, RESERVES, connections_of
from registration_infra.config import AuroraConfig, EnvironmentConfig, ExistingDatabase, InfraConfigError
from registration_infra.constructs.network import HTTPS, existing_vpc
from registration_infra.constructs.secrets import allow_secret
from registration_infra.parameters import CONNECTION_PARAMETERS, PARAMETERS, environment_variables, parameter_name

# The certificates of RDS Proxy are issued by Amazon Trust Services, which the bundle of the Lambda image contains.
_LAMBDA_CA_BUNDLE = "/etc/pki/tls/certs/ca-bundle.crt"
# RDS Proxy rejects the startup options that the other pools send.
_POOL_FOR_PROXY = {"APP_DATABASE_POOL": "proxy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Database:
    """The values of the database, as tokens of SSM parameters or from the environment file.

    Attributes:
        variables: The environment variables of a function.
        secret_arn: The ARN of the application's secret.
        key_arn: The ARN of the key that encrypts the secret; `None` if the key is the AWS-managed one.
        port: The TCP port.
        security_group_id: The security group of the cluster or the proxy.
        endpoint_security_group_id: The security group of the endpoint for Secrets Manager, if it is known.
        vpc_id: The VPC.
        subnet_ids: The subnets of functions, one per availability zone.
    """

    variables: Mapping[str, str]
    secret_arn: str
    key_arn: str | None
    port: int
    security_group_id: str
    endpoint_security_group_id: str | None
    vpc_id: str
    subnet_ids: Sequence[str]


class DatabaseAccess(Construct):
    """The database, as the stack of an application uses it.

    The stack of the application reads the SSM parameters of the database stack when it is deployed, so that neither
    stack blocks changes of the other. For an existing database, the values come from the environment file.

    Attributes:
        environment: The name of the environment.
        vpc: The VPC that functions must be in.
        subnets: The subnets of functions.
        key_arn: The ARN of the key of the database; `None` if an existing database uses the AWS-managed key.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: EnvironmentConfig) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self.environment = config.name
        self._connection_claims: dict[str, tuple[int, int]] = {}
        database = self._provisioned() if config.existing is None else _existing(config, config.existing)
        self._variables = database.variables
        self._secret_arn = database.secret_arn
        self.key_arn = database.key_arn
        self._port = ec2.Port.tcp(database.port)
        self._security_group = ec2.SecurityGroup.from_security_group_id(
            self, "SecurityGroup", database.security_group_id
        )
        endpoint = database.endpoint_security_group_id
        self._endpoint = endpoint and ec2.SecurityGroup.from_security_group_id(self, "EndpointSecurityGroup", endpoint)
        self.vpc = existing_vpc(self, config.network, database.vpc_id, database.subnet_ids)
        self.subnets = self.vpc.isolated_subnets

    def allow(self, function: lambda_.Function) -> None:
        """Allow connections from *function* to the database and to Secrets Manager, in the security groups only."""
        function.connections.allow_to(self._security_group, self._port, "The database")
        if self._endpoint:
            function.connections.allow_to(self._endpoint, HTTPS, "Secrets Manager")
        else:
            function.connections.allow_to_any_ipv4(HTTPS, "Secrets Manager (endpoint unknown)")

    def environment_for(self, function: lambda_.Function, *, connections: int = 1) -> Mapping[str, str]:
        """Give *function* access to the database: environment variables, the secret, and security group rules.

        Args:
            function: A function in `vpc`, with a reserved concurrency.
            connections: The number of connections that each execution environment of *function* may open. Defaults to
                1. A higher number also needs `APP_DATABASE_POOL_SIZE`.

        Returns:
            The environment variables that were set.

        Raises:
            InfraConfigError: All functions together may open more connections than the database allows.
        """
        aurora = self._config.aurora
        # Otherwise the limit is unknown, or the proxy enforces it.
        if aurora is not None and not aurora.proxy:
            self._claim_connections(aurora, function, connections)
        for name, value in self._variables.items():
            function.add_environment(name, value)
        allow_secret(function, self._secret_arn, self.key_arn)
        self.allow(function)
        return self._variables

    def _claim_connections(self, aurora: AuroraConfig, function: lambda_.Function, connections: int) -> None:
        resource = function.node.default_child
        assert isinstance(resource, lambda_.CfnFunction)
        concurrency, name = resource.reserved_concurrent_executions, function.node.path
        if concurrency is None:
            raise self._error(
                f"{name} has no reserved concurrency: expected one, because it limits the number of connections"
            )
        self._connection_claims[name] = (int(concurrency), connections)
        if excess := _excess(aurora, dict(self._all_claims())):
            raise self._error(excess)

    def _error(self, problem: str) -> InfraConfigError:
        return InfraConfigError(f"the environment {self._config.name}", [problem])

    def _all_claims(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for construct in self.node.root.node.find_all():
            if isinstance(construct, DatabaseAccess) and construct.environment == self.environment:
                yield from construct._connection_claims.items()  # noqa: SLF001 an attribute of this class

    def _provisioned(self) -> _Database:
        aurora = self._config.aurora
        assert aurora is not None
        values = {
            name: ssm.StringParameter.value_for_string_parameter(self, parameter_name(self._config, name))
            for name in PARAMETERS
        }
        variables = environment_variables(self._config.name, {name: values[name] for name in CONNECTION_PARAMETERS})
        if aurora.proxy:
            variables |= _POOL_FOR_PROXY | {"APP_DATABASE_SSL_ROOT_CERT": _LAMBDA_CA_BUNDLE}
        subnet_ids = Fn.split(",", values["subnet_ids"])
        return _Database(
            variables=variables,
            secret_arn=values["secret_arn"],
            key_arn=values["key_arn"],
            port=5432,
            security_group_id=values["security_group_id"],
            endpoint_security_group_id=values["endpoint_security_group_id"],
            vpc_id=values["vpc_id"],
            subnet_ids=[Fn.select(i, subnet_ids) for i in range(len(self._config.network.availability_zones))],
        )


def _existing(config: EnvironmentConfig, existing: ExistingDatabase) -> _Database:
    assert config.network.vpc_id is not None
    values = {
        "host": existing.host,
        "port": str(existing.port),
        "name": existing.name,
        "secret_arn": existing.secret_arn,
        "sslmode": existing.effective_sslmode,
    }
    variables = environment_variables(config.name, values)
    if existing.ssl_root_cert:
        variables["APP_DATABASE_SSL_ROOT_CERT"] = existing.ssl_root_cert
    if existing.is_proxy:
        variables |= _POOL_FOR_PROXY
    return _Database(
        variables=variables,
        secret_arn=existing.secret_arn,
        key_arn=existing.secret_key_arn,
        port=existing.port,
        security_group_id=existing.security_group_id,
        endpoint_security_group_id=config.network.secrets_endpoint_security_group_id,
        vpc_id=config.network.vpc_id,
        subnet_ids=config.network.subnet_ids or (),
    )


def _excess(aurora: AuroraConfig, claims: Mapping[str, tuple[int, int]]) -> str | None:
    """Return why *claims*, (concurrency, connections) by function, exceed the connections, or `None` if they fit."""
    needed = sum(connections_of(*claim) for claim in claims.values()) + RESERVED
    if needed <= aurora.max_connections:
        return None
    parts = [f"{name} {concurrency} x {connections}" for name, (concurrency, connections) in claims.items()]
    parts += [f"{purpose} {number}" for purpose, number in RESERVES.items()]
    return (
        f"its functions may open {' + '.join(parts)} = {needed} connections: expected at most "
        f"{aurora.max_connections}, the limit at {aurora.max_capacity:g} ACU"
    )
