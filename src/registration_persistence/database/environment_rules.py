"""The rules for `APP_ENVIRONMENT`: `test` and `local` are refused for a database on AWS."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any, Literal, TypeAlias, get_args

from registration_persistence.database.certificates import is_rds_host

Environment: TypeAlias = Literal["prod", "staging", "dev", "test", "local"]

_RELAXED: tuple[Environment, ...] = ("test", "local")

# AWS Lambda sets the first two for every function, and the third one for its own runtimes.
_LAMBDA_VARIABLES: Mapping[str, str] = {
    "AWS_LAMBDA_FUNCTION_NAME": "",
    "AWS_LAMBDA_RUNTIME_API": "",
    "AWS_EXECUTION_ENV": "AWS_Lambda_",
}


def is_relaxed(environment: object) -> bool:
    """Return whether a database may be reached without TLS, and with a password from the environment."""
    return environment in _RELAXED


def environment_problems(values: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """Yield each problem of the environment of *values*, as one sentence.

    Args:
        values: The settings by name.
        environ: The variables of the process, which show whether it is a Lambda function.
    """
    environment = values.get("environment", "prod")
    if environment not in get_args(Environment):
        yield f"APP_ENVIRONMENT is {environment!r}: expected one of {', '.join(get_args(Environment))}"
    if not is_relaxed(environment):
        return
    variables = {"host": "APP_DATABASE_HOST", "reader_host": "APP_DATABASE_READER_HOST"}
    hosts: dict[str, str] = {variables[name]: values[name] for name in variables if values.get(name)}
    for name, host in hosts.items():
        if is_rds_host(host):
            yield (
                f"APP_ENVIRONMENT is {environment!r} but {name} is {host!r}, an endpoint of Amazon RDS: "
                "set APP_ENVIRONMENT to dev, staging or prod"
            )
            return
    if (variable := _lambda_variable(environ)) and not all(map(_is_on_this_machine, hosts.values())):
        yield (
            f"APP_ENVIRONMENT is {environment!r} but {variable} is set, so this process is a Lambda function: "
            "set APP_ENVIRONMENT to dev, staging or prod, or in an emulator of Lambda set AWS_SAM_LOCAL to true"
        )


def _lambda_variable(environ: Mapping[str, str]) -> str | None:
    """Return the variable that shows that this process runs on AWS Lambda, and not in an emulator; or `None`."""
    if environ.get("AWS_SAM_LOCAL", "").lower() == "true":
        return None
    return next(
        (
            variable
            for variable, start in _LAMBDA_VARIABLES.items()
            if (text := environ.get(variable)) and text.startswith(start)
        ),
        None,
    )


def _is_on_this_machine(host: str) -> bool:
    if host.startswith(("/", "@")):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        name = host.lower().removesuffix(".")
        return name == "localhost" or name.endswith(".localhost")
