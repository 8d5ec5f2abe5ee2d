"""`DatabaseSettings`: where the database is and how to connect to it, from `APP_DATABASE_*` or from code."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registration_persistence.database.certificates import root_certificate_for
from registration_persistence.database.settings_rules import (
    MAX_IDENTIFIER_BYTES,
    SECRET_ARN,
    TIMEOUTS,
    VARIABLES,
    VERIFYING,
    Environment,
    PoolMode,
    SslMode,
    problems_of,
    quoted,
)
from registration_persistence.durations import Duration, in_seconds
from registration_persistence.errors import ConfigurationError

# For each setting that is not text: the function that parses it, and the expected value for the error message.
_PARSERS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "port": (int, "a whole number from 1 to 65535"),
    "pool_size": (int, "a whole number"),
    **dict.fromkeys(TIMEOUTS, (float, "a number of seconds")),
}

_APPLICATION_NAME = "registration_persistence"


class _Timeout:
    """The type of a field that takes a `Duration` and reads as seconds.

    It only exists for type checkers: the dataclass keeps its default and puts a slot in its place.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __get__(self, instance: object, owner: type) -> float:
        return self._seconds

    if TYPE_CHECKING:

        def __set__(self, instance: object, duration: Duration) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """The address of the database and the rules for connecting to it; validated when created, immutable.

    A timeout is a `timedelta` or a number of seconds, at most 2,147,483.647 (24 days), and reads as seconds.

    Args:
        host: The cluster's endpoint: a host name or an IP address; in `test` and `local` also a Unix socket.
        port: TCP port, 1 to 65535. Defaults to 5432.
        name: The name of the database, 1 to 63 bytes.
        secret_arn: ARN of the secret that holds `username` and `password`. Region and partition are taken from it.
            Defaults to `None`, which is valid only with *user* and *password*.
        environment: `prod`, `staging`, `dev`, `test` or `local`. Defaults to `prod`.
        sslmode: libpq's `sslmode`; at least `require` outside `test` and `local`. Defaults to `require`.
        ssl_root_cert: Path of the PEM file that the server's certificate is verified against. Defaults to the file
            shipped for the host's region.
        pool: `lambda` keeps one connection, `service` keeps up to *pool_size*, `proxy` keeps none. Defaults to
            `service`, in `from_env` to `lambda` on AWS Lambda.
        pool_size: Maximum number of connections in `service` mode, 1 or more. Defaults to 5.
        user: User name, only in `test` and `local`, instead of *secret_arn*. Defaults to `None`.
        password: Password, only in `test` and `local`, instead of *secret_arn*. Defaults to `None`.
        connect_timeout: Time for all attempts to connect together, 2 s or more. Defaults to 10 s. Inside a `deadline`
            it limits each attempt, and the deadline limits all of them.
        statement_timeout: Time for one statement, 0 or more; 0 means no limit. Defaults to 15 s, half of API Gateway's
            29 s, so that a request can still be answered.
        lock_timeout: Time that a statement waits for a lock, 0 or more; 0 means no limit. Defaults to 5 s.
        idle_in_transaction_timeout: Time after which the server ends a session that a frozen or killed process left
            inside a transaction, with its locks, 0 or more; 0 means no limit. Defaults to 30 s.
        application_name: Name of the connection in `pg_stat_activity`. Defaults to `registration_persistence`, in
            `from_env` to the name and version of the Lambda function.

    Raises:
        ConfigurationError: At least one setting is wrong; all problems are reported together.
    """

    host: str
    name: str
    port: int = 5432
    secret_arn: str | None = None
    environment: Environment = "prod"
    sslmode: SslMode = "require"
    ssl_root_cert: str | None = None
    pool: PoolMode = "service"
    pool_size: int = 5
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    connect_timeout: _Timeout = _Timeout(10.0)
    statement_timeout: _Timeout = _Timeout(15.0)
    lock_timeout: _Timeout = _Timeout(5.0)
    idle_in_transaction_timeout: _Timeout = _Timeout(30.0)
    application_name: str = _APPLICATION_NAME

    def __post_init__(self) -> None:
        problems = list(problems_of({name: getattr(self, name) for name in VARIABLES}))
        if problems:
            raise ConfigurationError(problems)
        for name in TIMEOUTS:
            object.__setattr__(self, name, in_seconds(getattr(self, name)))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "DatabaseSettings":
        """Read the settings from the variables `APP_DATABASE_*` and `APP_ENVIRONMENT`.

        Args:
            environ: The variables; an empty one counts as not set. Defaults to the environment of this process.

        Raises:
            ConfigurationError: At least one variable is wrong. All problems are reported together, each with the name
                of its variable, and none with a password.
        """
        values, problems = _parsed(environ)
        problems += problems_of(values)
        if problems:
            del environ, values  # an error tracker sends the variables of each frame, and these hold the password
            raise ConfigurationError(problems)
        return cls(**values, application_name=_application_name(environ))

    @property
    def secret_region(self) -> str:
        """The AWS region in the secret's ARN.

        Raises:
            ConfigurationError: *secret_arn* is not set.
        """
        match = SECRET_ARN.fullmatch(self.secret_arn or "")
        if match is None:
            raise ConfigurationError([f"{VARIABLES['secret_arn']} is not set"])
        return match["region"]

    @property
    def root_certificate(self) -> Path | None:
        """The PEM file that the server's certificate is verified against; `None` if *sslmode* does not verify it."""
        if self.sslmode not in VERIFYING:
            return None
        return Path(self.ssl_root_cert) if self.ssl_root_cert else root_certificate_for(self.host)


def _parsed(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings in *environ*, and a problem for each one that cannot be parsed."""
    values: dict[str, Any] = {"pool": "lambda" if environ.get("AWS_LAMBDA_FUNCTION_NAME") else "service"}
    problems = []
    for name, variable in VARIABLES.items():
        text = environ.get(variable, "")
        parse, expected = _PARSERS.get(name, (str, ""))
        try:
            if text:
                values[name] = parse(text)
        except ValueError:
            problems.append(f"{variable} is {quoted(text)}: expected {expected}")
    return values, problems


def _application_name(environ: Mapping[str, str]) -> str:
    """Return the name and version of the Lambda function; without one, the name of this package."""
    function = environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if not function:
        return _APPLICATION_NAME
    version = ":" + (environ.get("AWS_LAMBDA_FUNCTION_VERSION") or "$LATEST")
    return function[: MAX_IDENTIFIER_BYTES - len(version)] + version
