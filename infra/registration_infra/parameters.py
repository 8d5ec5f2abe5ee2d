"""Names that the stacks share: the parameters of the database stack, and the variables that the package reads."""

from collections.abc import Mapping

from registration_infra.config import ApplicationConfig, AuroraConfig, EnvironmentConfig

IDLE_SESSION_TIMEOUT_SECONDS = "60"
"""The `APP_DATABASE_IDLE_SESSION_TIMEOUT` of functions on a cluster that pauses.

An open session keeps a cluster awake, also that of a frozen function. A minute is long enough for a function in use,
and a fifth of the shortest idle time after which Aurora pauses a cluster.
"""

_OF_THE_SERVICES = ("secret_source", "tls_groups", "ssl_negotiation")
_OF_EVERY_CLUSTER = ("key_arn", "security_group_id", "endpoint_security_group_id", "vpc_id", "subnet_ids")


def connection_parameters(aurora: AuroraConfig) -> tuple[str, ...]:
    """Return the parameters that a service reads as `APP_DATABASE_*` variables.

    Args:
        aurora: The configuration of the cluster.
    """
    login = ("auth", "user") if aurora.uses_iam else ("secret_arn",)
    reader = ("reader_host",) if aurora.readers else ()
    pause = ("idle_session_timeout",) if aurora.pauses else ()
    return ("host", *reader, "port", "name", *login, "sslmode", *pause)


def published_parameters(aurora: AuroraConfig) -> tuple[str, ...]:
    """Return the parameters that the database stack writes below `/registration/ENVIRONMENT/database/`.

    Args:
        aurora: The configuration of the cluster.
    """
    permission = ("resource_id",) if aurora.uses_iam else ()
    return (*connection_parameters(aurora), *permission, *_OF_EVERY_CLUSTER)


def parameter_name(config: EnvironmentConfig, name: str) -> str:
    """Return the full name of one of `published_parameters`."""
    return f"/{config.path}/database/{name}"


def variable_name(parameter: str) -> str:
    """Return the environment variable that holds *parameter*, such as one of `connection_parameters`."""
    return f"APP_DATABASE_{parameter.upper()}"


def environment_variables(environment: str, values: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of a function.

    Args:
        environment: The name of the environment.
        values: The values of `connection_parameters`, or of some of them, by parameter name.
    """
    return {"APP_ENVIRONMENT": environment} | {variable_name(name): value for name, value in values.items()}


def application_variables(application: ApplicationConfig) -> dict[str, str]:
    """Return the environment variables of the functions of the services, for the settings that are not the defaults.

    The functions that rotate and migrate have none of them: few connections save nothing, and the administrator must
    be able to connect if the server rejects a setting.

    Args:
        application: The configuration of the services.
    """
    values, defaults = dict(application), dict(ApplicationConfig())
    return {variable_name(name): values[name] for name in _OF_THE_SERVICES if values[name] != defaults[name]}
