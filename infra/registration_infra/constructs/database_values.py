"""The values of the database for the functions that use it: of the provisioned cluster, or of an existing database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aws_cdk import Aws, Fn
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from registration_infra.config import EnvironmentConfig, ExistingDatabase
from registration_infra.config.endpoints import region_of_rds_server
from registration_infra.constructs.iam_login import IAM_LOGIN
from registration_infra.parameters import (
    IDLE_SESSION_TIMEOUT_SECONDS,
    connection_parameters,
    environment_variables,
    parameter_name,
    published_parameters,
)

# The certificates of RDS Proxy are issued by Amazon Trust Services, which the bundle of the Lambda image contains.
_LAMBDA_CA_BUNDLE = {"APP_DATABASE_SSL_ROOT_CERT": "/etc/pki/tls/certs/ca-bundle.crt"}
# RDS Proxy rejects the startup options that the other pools send.
_POOL_FOR_PROXY = {"APP_DATABASE_POOL": "proxy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretLogin:
    """The login with a secret.

    Attributes:
        secret_arn: The ARN of the secret.
        key_arn: The ARN of the key that encrypts the secret; `None` if the key is the AWS-managed one.
    """

    secret_arn: str
    key_arn: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IamLogin:
    """The login with IAM.

    Attributes:
        resource_id: The resource id of the cluster, the instance or the proxy.
        user: The login.
        region: The region of the database.
    """

    resource_id: str
    user: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseNetwork:
    """The network of the database.

    Attributes:
        vpc_id: The VPC.
        subnet_ids: The subnets of functions, one per availability zone.
        security_group_id: The security group of the cluster or the proxy.
        endpoint_security_group_id: The security group of the endpoint for Secrets Manager, if it is known.
    """

    vpc_id: str
    subnet_ids: Sequence[str]
    security_group_id: str
    endpoint_security_group_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseValues:
    """The values of the database, as tokens of SSM parameters or from the environment file.

    Attributes:
        variables: The environment variables of a function.
        login: The login of a function.
        key_arn: The ARN of the key of the database; `None` if there is none or it is the AWS-managed one.
        port: The TCP port.
        network: The network; `None` if the database is reached without a VPC.
        deployed_values: The values of the function that are known only when the stack is deployed, as one text of at
            most 256 characters; `None` if there are none.
    """

    variables: Mapping[str, str]
    login: SecretLogin | IamLogin
    key_arn: str | None
    port: int
    network: DatabaseNetwork | None
    deployed_values: str | None


def provisioned_database(scope: Construct, config: EnvironmentConfig) -> DatabaseValues:
    """Return the values of the cluster of *config*, from the SSM parameters of the database stack.

    Args:
        scope: The construct that the parameters belong to.
        config: The environment.
    """
    aurora, network = config.aurora, config.network
    assert aurora is not None
    assert network is not None
    # cfn-lint reports a parameter that is not used.
    unused = set() if reads_secrets(config) else {"endpoint_security_group_id"}
    values = {
        name: ssm.StringParameter.value_for_string_parameter(scope, parameter_name(config, name))
        for name in published_parameters(aurora)
        if name not in unused
    }
    variables = environment_variables(config.name, {name: values[name] for name in connection_parameters(aurora)})
    if aurora.proxy:
        variables |= _POOL_FOR_PROXY | _LAMBDA_CA_BUNDLE
    subnet_ids = Fn.split(",", values["subnet_ids"])
    login: SecretLogin | IamLogin = (
        IamLogin(resource_id=values["resource_id"], user=IAM_LOGIN, region=Aws.REGION)
        if aurora.uses_iam
        else SecretLogin(secret_arn=values["secret_arn"], key_arn=values["key_arn"])
    )
    return DatabaseValues(
        variables=variables,
        login=login,
        key_arn=values["key_arn"],
        port=5432,
        network=DatabaseNetwork(
            vpc_id=values["vpc_id"],
            subnet_ids=[Fn.select(i, subnet_ids) for i in range(len(network.availability_zones))],
            security_group_id=values["security_group_id"],
            endpoint_security_group_id=values.get("endpoint_security_group_id"),
        ),
        deployed_values=_deployed_values(values),
    )


def _deployed_values(values: Mapping[str, str]) -> str:
    # At most 226 characters: 74 of the host, 11 of the mode, 99 of four subnets, 39 of the name of the secret.
    # The other values change only together with these, or with the template.
    secret = [Fn.select(6, Fn.split(":", values["secret_arn"]))] if "secret_arn" in values else []
    return " ".join([values["host"], values["sslmode"], values["subnet_ids"], *secret])


def reads_secrets(config: EnvironmentConfig) -> bool:
    """Return whether functions read from Secrets Manager: their login, or the API key of Datadog's extension.

    Args:
        config: The environment.
    """
    if config.aurora is not None:
        with_iam = config.aurora.uses_iam
    else:
        with_iam = config.existing is not None and config.existing.auth == "iam"
    return not with_iam or config.datadog is not None


def existing_database(config: EnvironmentConfig, existing: ExistingDatabase) -> DatabaseValues:
    """Return the values of *existing*, from the environment file.

    Args:
        config: The environment.
        existing: Its database.
    """
    return DatabaseValues(
        variables=_variables_of(config, existing),
        login=_login_of(existing),
        key_arn=existing.secret_key_arn,
        port=existing.port,
        network=_network_of(config, existing),
        deployed_values=None,
    )


def _variables_of(config: EnvironmentConfig, existing: ExistingDatabase) -> dict[str, str]:
    values = {
        "host": existing.host,
        "reader_host": existing.reader_host,
        "port": str(existing.port),
        "name": existing.name,
        "secret_arn": existing.secret_arn,
        "auth": "iam" if existing.auth == "iam" else None,
        "user": existing.user,
        "sslmode": existing.effective_sslmode,
        "ssl_root_cert": existing.ssl_root_cert,
        # A cluster of the express configuration pauses, unless its minimum capacity has been raised.
        "idle_session_timeout": IDLE_SESSION_TIMEOUT_SECONDS if config.network is None else None,
    }
    variables = environment_variables(config.name, {name: value for name, value in values.items() if value is not None})
    if existing.is_proxy:
        variables |= _POOL_FOR_PROXY
    return variables


def _login_of(existing: ExistingDatabase) -> SecretLogin | IamLogin:
    if existing.auth == "secret":
        assert existing.secret_arn is not None
        return SecretLogin(secret_arn=existing.secret_arn, key_arn=existing.secret_key_arn)
    assert existing.resource_id is not None
    assert existing.user is not None
    found = region_of_rds_server(existing.host)
    region = Aws.REGION if found is None else found[0]
    return IamLogin(resource_id=existing.resource_id, user=existing.user, region=region)


def _network_of(config: EnvironmentConfig, existing: ExistingDatabase) -> DatabaseNetwork | None:
    network = config.network
    if network is None:
        return None
    assert network.vpc_id is not None
    assert existing.security_group_id is not None
    return DatabaseNetwork(
        vpc_id=network.vpc_id,
        subnet_ids=network.subnet_ids or (),
        security_group_id=existing.security_group_id,
        endpoint_security_group_id=network.secrets_endpoint_security_group_id,
    )
