"""`APP_DATABASE_*` → `DatabaseSettings`, with every problem reported in one error."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registration_persistence.database.certificates import root_certificate_for
from registration_persistence.database.settings_rules import (
    LONGEST_NAME,
    SECRET_ARN,
    VARIABLES,
    VERIFYING,
    problems_of,
    quoted,
)
from registration_persistence.errors import ConfigurationError

_PARSERS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "port": (int, "a whole number"),
    "pool_size": (int, "a whole number"),
    "connect_timeout": (float, "a number of seconds"),
    "statement_timeout": (float, "a number of seconds"),
    "lock_timeout": (float, "a number of seconds"),
    "idle_in_transaction_timeout": (float, "a number of seconds"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where the database is and how it may be reached; checked when made, never changed.

    Args:
        host: The cluster's endpoint.
        port: TCP port.
        name: The database's name.
        secret_arn: The secret that holds `username` and `password`; its region and partition are taken from it.
        environment: One of `prod`, `staging`, `dev`, `test`, `local`. What is not said is production.
        sslmode: As in libpq; at least `require` outside `test` and `local`.
        ssl_root_cert: The file to verify the server against, in place of the one shipped for the host's region.
        pool: `lambda` keeps one connection, `service` keeps *pool_size*, `proxy` keeps none.
        pool_size: Connections in `service` mode.
        user: Only in `test` and `local`, in place of the secret.
        password: The same.
        connect_timeout: Seconds for all attempts to connect together; inside a `deadline`, for each of them.
        statement_timeout: Seconds that one statement may take; 0 is without limit. The default is half of API
            Gateway's 29 s, so that a request can still be answered.
        lock_timeout: Seconds that a statement may wait for a lock; 0 is without limit.
        idle_in_transaction_timeout: Seconds until the server ends a session that a frozen or killed process left
            inside a transaction, with its locks; 0 is never.
        application_name: What `pg_stat_activity` shows.

    Raises:
        ConfigurationError: with every problem that was found.
    """

    host: str
    name: str
    port: int = 5432
    secret_arn: str | None = None
    environment: str = "prod"
    sslmode: str = "require"
    ssl_root_cert: str | None = None
    pool: str = "service"
    pool_size: int = 5
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    connect_timeout: float = 10.0
    statement_timeout: float = 15.0
    lock_timeout: float = 5.0
    idle_in_transaction_timeout: float = 30.0
    application_name: str = "registration_persistence"

    def __post_init__(self) -> None:
        problems = list(problems_of({name: getattr(self, name) for name in VARIABLES}))
        if problems:
            raise ConfigurationError(problems)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "DatabaseSettings":
        """Read the settings from *environ*; a variable that is empty counts as not set.

        Raises:
            ConfigurationError: with every problem, each naming its variable. No password is ever printed.
        """
        values, problems = _parsed(environ)
        problems += problems_of(values)
        if problems:
            del environ, values  # an error tracker would send the password along
            raise ConfigurationError(problems)
        return cls(**values, application_name=_application_name(environ))

    @property
    def secret_region(self) -> str:
        """The AWS region that the secret's ARN names."""
        match = SECRET_ARN.fullmatch(self.secret_arn or "")
        if match is None:
            raise ConfigurationError([f"{VARIABLES['secret_arn']} is not set"])
        return match["region"]

    @property
    def root_certificate(self) -> Path | None:
        """The file that the server's certificate is verified against; `None` where *sslmode* does not verify."""
        if self.sslmode not in VERIFYING:
            return None
        return Path(self.ssl_root_cert) if self.ssl_root_cert else root_certificate_for(self.host)


def _parsed(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings that are in *environ*, and what could not be read."""
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
    function = environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if not function:
        return "registration_persistence"
    version = ":" + (environ.get("AWS_LAMBDA_FUNCTION_VERSION") or "$LATEST")
    return function[: LONGEST_NAME - len(version)] + version
