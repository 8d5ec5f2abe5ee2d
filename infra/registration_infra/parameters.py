"""Names that the stacks share: the parameters of the database stack, and the variables that the package reads."""

from collections.abc import Mapping

from registration_infra.config import EnvironmentConfig

CONNECTION_PARAMETERS = ("host", "port", "name", "secret_arn", "sslmode")
"""The parameters that a service reads as `APP_DATABASE_*` variables."""

PARAMETERS = (
    *CONNECTION_PARAMETERS,
    "key_arn",
    "security_group_id",
    "endpoint_security_group_id",
    "vpc_id",
    "subnet_ids",
)
"""The parameters that the database stack writes below `/registration/ENVIRONMENT/database/`."""


def parameter_name(config: EnvironmentConfig, name: str) -> str:
    """Return the full name of one of `PARAMETERS`."""
    return f"/{config.path}/database/{name}"


def variable_name(parameter: str) -> str:
    """Return the environment variable that holds *parameter*, one of `CONNECTION_PARAMETERS`."""
    return f"APP_DATABASE_{parameter.upper()}"


def environment_variables(environment: str, values: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of a function.

    Args:
        environment: The name of the environment.
        values: The values of `CONNECTION_PARAMETERS`, or of some of them, by parameter name.
    """
    return {"APP_ENVIRONMENT": environment} | {variable_name(name): value for name, value in values.items()}
