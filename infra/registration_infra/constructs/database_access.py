"""The access of a function to the database: environment variables, permissions and security group rules."""

from collections.abc import Iterator, Mapping, Sequence

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from registration_infra.budget import RESERVED, RESERVES, connections_of
from registration_infra.config import AuroraConfig, EnvironmentConfig, InfraConfigError
from registration_infra.constructs.database_values import (
    DatabaseNetwork,
    IamLogin,
    existing_database,
    provisioned_database,
    reads_secrets,
)
from registration_infra.constructs.iam_login import login_statement
from registration_infra.constructs.network import HTTPS, existing_vpc
from registration_infra.constructs.secrets import allow_secret
from registration_infra.constructs.secrets_extension import add_secrets_extension
from registration_infra.constructs.snap_start import start_from_snapshot
from registration_infra.parameters import application_variables


class DatabaseAccess(Construct):
    """The database, as the stack of an application uses it.

    The stack of the application reads the SSM parameters of the database stack when it is deployed, so that neither
    stack blocks changes of the other. For an existing database, the values come from the environment file.

    Attributes:
        environment: The name of the environment.
        vpc: The VPC that functions must be in; `None` if the database is reached without a VPC.
        subnets: The subnets of functions; empty without a VPC.
        key_arn: The ARN of the key of the database; `None` if an existing database uses the AWS-managed key.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: EnvironmentConfig) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self.environment = config.name
        self._connection_claims: dict[str, tuple[int, int]] = {}
        database = (
            provisioned_database(self, config)
            if config.existing is None
            else existing_database(config, config.existing)
        )
        self._variables = {**database.variables, **application_variables(config.application)}
        self._login, self._deployed_values = database.login, database.deployed_values
        self._aliases: dict[str, lambda_.Alias] = {}
        self.key_arn = database.key_arn
        self._port = ec2.Port.tcp(database.port)
        self.vpc: ec2.IVpc | None = None
        self.subnets: Sequence[ec2.ISubnet] = ()
        self._security_group: ec2.ISecurityGroup | None = None
        self._endpoint: ec2.ISecurityGroup | None = None
        if database.network is not None:
            self._use_network(database.network)

    def _use_network(self, network: DatabaseNetwork) -> None:
        imported = ec2.SecurityGroup.from_security_group_id
        self._security_group = imported(self, "SecurityGroup", network.security_group_id)
        if network.endpoint_security_group_id is not None:
            self._endpoint = imported(self, "EndpointSecurityGroup", network.endpoint_security_group_id)
        assert self._config.network is not None
        self.vpc = existing_vpc(self, self._config.network, network.vpc_id, network.subnet_ids)
        self.subnets = self.vpc.isolated_subnets

    def allow(self, function: lambda_.Function) -> None:
        """Allow connections from *function* to the database and to Secrets Manager, in the security groups only.

        Secrets Manager is left out if functions read no secret. Without a VPC, there are no security groups.
        """
        if self._security_group is None:
            return
        function.connections.allow_to(self._security_group, self._port, "The database")
        if not reads_secrets(self._config):
            return
        if self._endpoint:
            function.connections.allow_to(self._endpoint, HTTPS, "Secrets Manager")
        else:
            function.connections.allow_to_any_ipv4(HTTPS, "Secrets Manager (endpoint unknown)")

    def environment_for(self, function: lambda_.Function, *, connections: int = 1) -> Mapping[str, str]:
        """Give *function* access to the database: environment variables, the login, and security group rules.

        The keys of [application] decide whether it also gets the layer that serves its secret, and whether it starts
        from a snapshot; see `invocation_target`.

        Args:
            function: A function in `vpc`, with a reserved concurrency.
            connections: The number of connections that each execution environment of *function* may open. Defaults to
                1. A higher number also needs `APP_DATABASE_POOL_SIZE`.

        Returns:
            The environment variables that were set.

        Raises:
            InfraConfigError: All functions together may open more connections than the database allows; or a key of
                [application] asks for something that AWS does not offer in the region or for such a function.
        """
        aurora = self._config.aurora
        # Otherwise the limit is unknown, or the proxy enforces it.
        if aurora is not None and not aurora.proxy:
            self._claim_connections(aurora, function, connections)
        variables = dict(self._variables)
        if self._config.application.uses_extension:
            variables |= add_secrets_extension(function, region=self._config.region)
        for name, value in variables.items():
            function.add_environment(name, value)
        login = self._login
        if isinstance(login, IamLogin):
            function.add_to_role_policy(login_statement(login.resource_id, login.user, region=login.region))
        else:
            allow_secret(function, login.secret_arn, login.key_arn)
        self.allow(function)
        if self._config.application.snap_start:
            self._aliases[function.node.path] = start_from_snapshot(function, deployed_values=self._deployed_values)
        return variables

    def invocation_target(self, function: lambda_.Function) -> lambda_.IFunction:
        """Return the function that API Gateway, event sources and other callers must invoke.

        With `application.snap_start`, it is the alias of the newest version of *function*. Calls of *function* itself
        do not start from a snapshot.

        Args:
            function: A function that `environment_for` was called with.
        """
        return self._aliases.get(function.node.path, function)

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
