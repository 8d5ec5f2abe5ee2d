"""The rules for `APP_ENVIRONMENT`: `test` and `local` are refused for a database on AWS."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from ipaddress import ip_address
from typing import Any, Literal, TypeAlias, get_args

from registration_persistence.database.certificates import is_rds_host
from registration_persistence.database.settings_limits import MAX_QUOTED_CHARACTERS

Environment: TypeAlias = Literal["prod", "staging", "dev", "test", "local"]

_RELAXED: tuple[Environment, ...] = ("test", "local")

# AWS Lambda sets the first two for every function, and the third one for its own runtimes.
_LAMBDA_VARIABLES: Mapping[str, str] = {
    "AWS_LAMBDA_FUNCTION_NAME": "",
    "AWS_LAMBDA_RUNTIME_API": "",
    "AWS_EXECUTION_ENV": "AWS_Lambda_",
}

# A variable with this prefix is ours; a service may have other variables that start with `APP_`.
_PREFIX = "APP_DATABASE_"

_MAX_UNKNOWN_SHOWN = 10


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


def unknown_variables(environ: Mapping[str, str], known: Sequence[str]) -> list[str]:
    """Return a problem for each variable with our prefix that nothing reads, without its value.

    Args:
        environ: The variables of the process.
        known: The variables with our prefix that are read.
    """
    unknown = [
        name for name, text in environ.items() if text and name.upper().startswith(_PREFIX) and name not in known
    ]
    if not unknown:
        return []
    from difflib import SequenceMatcher  # it is needed in this case only

    def similarity(name: str, other: str) -> tuple[float, bool]:
        wrong, right = name.upper().removeprefix(_PREFIX), other.removeprefix(_PREFIX)
        return SequenceMatcher(None, wrong, right).ratio(), wrong.startswith(right)

    cut = {name[:MAX_QUOTED_CHARACTERS] for name in unknown}
    shown = {name: name if name.isprintable() else ascii(name) for name in sorted(cut)[:_MAX_UNKNOWN_SHOWN]}
    return [
        f"{shown[name]} is unknown: unset it; the most similar variable is {max(known, key=partial(similarity, name))}"
        for name in shown
    ]


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
