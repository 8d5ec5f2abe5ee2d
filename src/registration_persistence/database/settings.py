"""`APP_DATABASE_*` → `DatabaseSettings`, with every problem reported in one error."""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from registration_persistence.database.certificates import root_certificate_for
from registration_persistence.errors import ConfigurationError

ENVIRONMENTS = ("prod", "staging", "dev", "test", "local")
POOLS = ("lambda", "service", "proxy")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

# Where a database may be reached without TLS, and with a password from the environment.
_RELAXED = ("test", "local")
_ENCRYPTING = SSL_MODES[SSL_MODES.index("require") :]
_VERIFYING = SSL_MODES[SSL_MODES.index("verify-ca") :]

_SECRET_ARN = re.compile(
    r"arn:(?P<partition>aws|aws-cn|aws-us-gov):secretsmanager:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d):\d{12}:secret:[\w/+=.@-]+",
    re.ASCII,
)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,254}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
# PostgreSQL keeps a timeout as a 32-bit number of milliseconds.
_LONGEST_TIMEOUT = (2**31 - 1) / 1000
_SHORTEST_TIMEOUT = 0.001
# NAMEDATALEN - 1: PostgreSQL cuts longer identifiers.
_LONGEST_NAME = 63
_LARGEST_PORT = 65535

VARIABLES: Mapping[str, str] = {
    "host": "APP_DATABASE_HOST",
    "port": "APP_DATABASE_PORT",
    "name": "APP_DATABASE_NAME",
    "secret_arn": "APP_DATABASE_SECRET_ARN",
    "environment": "APP_ENVIRONMENT",
    "sslmode": "APP_DATABASE_SSLMODE",
    "ssl_root_cert": "APP_DATABASE_SSL_ROOT_CERT",
    "pool": "APP_DATABASE_POOL",
    "pool_size": "APP_DATABASE_POOL_SIZE",
    "user": "APP_DATABASE_USER",
    "password": "APP_DATABASE_PASSWORD",
    "connect_timeout": "APP_DATABASE_CONNECT_TIMEOUT",
    "statement_timeout": "APP_DATABASE_STATEMENT_TIMEOUT",
    "lock_timeout": "APP_DATABASE_LOCK_TIMEOUT",
    "idle_in_transaction_timeout": "APP_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT",
}
"""Each setting and the environment variable it is read from."""

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
        connect_timeout: Seconds until an attempt to connect is given up.
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
        problems = list(_problems({name: getattr(self, name) for name in VARIABLES}))
        if problems:
            raise ConfigurationError(problems)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "DatabaseSettings":
        """Read the settings from *environ*; a variable that is empty counts as not set.

        Raises:
            ConfigurationError: with every problem, each naming its variable. No password is ever printed.
        """
        values, problems = _parsed(environ)
        problems += _problems(values)
        if problems:
            del environ, values  # an error tracker would send the password along
            raise ConfigurationError(problems)
        return cls(**values, application_name=_application_name(environ))

    @property
    def secret_region(self) -> str:
        """The AWS region that the secret's ARN names."""
        match = _SECRET_ARN.fullmatch(self.secret_arn or "")
        if match is None:
            raise ConfigurationError([f"{VARIABLES['secret_arn']} is not set"])
        return match["region"]

    @property
    def root_certificate(self) -> Path | None:
        """The file that the server's certificate is verified against; `None` where *sslmode* does not verify."""
        if self.sslmode not in _VERIFYING:
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
            problems.append(f"{variable} is {_quoted(text)}: expected {expected}")
    return values, problems


def _quoted(text: str) -> str:
    """Return *text* for an error message, unless it looks like a URL or a secret, which may hold a password."""
    return "not quoted, as it may hold a password" if re.search(r'@|://|[{"]', text) else repr(text)


def _application_name(environ: Mapping[str, str]) -> str:
    function = environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if not function:
        return "registration_persistence"
    version = ":" + (environ.get("AWS_LAMBDA_FUNCTION_VERSION") or "$LATEST")
    return function[: _LONGEST_NAME - len(version)] + version


def _problems(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with *values*; a setting that is absent has its default."""
    environment = values.get("environment", "prod")
    if environment not in ENVIRONMENTS:
        yield f"APP_ENVIRONMENT is {environment!r}: expected one of {', '.join(ENVIRONMENTS)}"
    relaxed = environment in _RELAXED
    yield from _address_problems(values, relaxed=relaxed)
    yield from _credential_problems(values, relaxed=relaxed)
    yield from _tls_problems(values, relaxed=relaxed)
    yield from _pool_problems(values)
    yield from _timeout_problems(values)


def _address_problems(values: Mapping[str, Any], *, relaxed: bool) -> Iterator[str]:
    host, port, name = values.get("host"), values.get("port", 5432), values.get("name")
    if not host:
        yield "APP_DATABASE_HOST is not set: expected the cluster's endpoint"
    elif host.startswith(("/", "@")):
        if not relaxed:
            yield f"APP_DATABASE_HOST is {host!r}, a Unix socket, where libpq uses no TLS: expected a host name"
    elif not _is_host(host):
        yield f"APP_DATABASE_HOST is {_quoted(host)}: expected one host name or IP address"
    if not 1 <= port <= _LARGEST_PORT:
        yield f"APP_DATABASE_PORT is {port}: expected 1 to {_LARGEST_PORT}"
    if not name:
        yield "APP_DATABASE_NAME is not set: expected the name of the database"
    elif not is_text(name) or len(name.encode()) > _LONGEST_NAME:
        yield f"APP_DATABASE_NAME is longer than {_LONGEST_NAME} octets or holds NUL: expected the name of the database"


def is_text(text: str) -> bool:
    """Tell whether *text* has something in it and reaches the server as it is, which NUL and lone surrogates do not."""
    try:
        return b"\0" not in text.encode() and text != ""
    except UnicodeEncodeError:
        return False


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return _HOST_NAME.fullmatch(text) is not None
    return True


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def _credential_problems(values: Mapping[str, Any], *, relaxed: bool) -> Iterator[str]:
    arn, user, password = values.get("secret_arn"), values.get("user"), values.get("password")
    if (user or password) and not relaxed:
        yield (
            "APP_DATABASE_USER and APP_DATABASE_PASSWORD are allowed only where APP_ENVIRONMENT is test or local: "
            "unset them and set APP_DATABASE_SECRET_ARN"
        )
    elif (user or password) and arn:
        yield "APP_DATABASE_SECRET_ARN and APP_DATABASE_USER or _PASSWORD are both set: expected one or the other"
    elif bool(user) != bool(password):
        yield f"APP_DATABASE_{'PASSWORD' if user else 'USER'} is not set: expected user and password together"
    elif user and password and not (is_text(user) and is_text(password)):
        yield "APP_DATABASE_USER or _PASSWORD holds NUL or is not UTF-8: expected text"
    elif not user and not arn:
        yield "APP_DATABASE_SECRET_ARN is not set: expected the ARN of a secret with username and password"
    if arn and not _SECRET_ARN.fullmatch(arn):
        yield (
            f"APP_DATABASE_SECRET_ARN is {_quoted(arn)}: "
            "expected arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME, in partition aws, aws-cn or aws-us-gov"
        )


def _tls_problems(values: Mapping[str, Any], *, relaxed: bool) -> Iterator[str]:
    mode, certificate, host = values.get("sslmode", "require"), values.get("ssl_root_cert"), values.get("host")
    if mode not in SSL_MODES:
        yield f"APP_DATABASE_SSLMODE is {mode!r}: expected one of {', '.join(SSL_MODES)}"
    elif mode not in _ENCRYPTING and not relaxed:
        yield (
            f"APP_DATABASE_SSLMODE is {mode!r}, which can send data without TLS: expected {', '.join(_ENCRYPTING)}, "
            "unless APP_ENVIRONMENT is test or local"
        )
    if certificate and not _is_file(certificate):
        yield f"APP_DATABASE_SSL_ROOT_CERT is {certificate!r}, which is not a file: expected a PEM file"
    elif certificate and mode not in _VERIFYING:
        yield f"APP_DATABASE_SSL_ROOT_CERT is set, but APP_DATABASE_SSLMODE is {mode!r}: expected verify-full"
    elif not certificate and mode in _VERIFYING and host and root_certificate_for(host) is None:
        yield (
            f"APP_DATABASE_SSLMODE is {mode!r} but no certificate is shipped for the host {host!r}: "
            "set APP_DATABASE_SSL_ROOT_CERT to a PEM file"
        )


def _pool_problems(values: Mapping[str, Any]) -> Iterator[str]:
    pool, size = values.get("pool", "service"), values.get("pool_size", 5)
    if pool not in POOLS:
        yield f"APP_DATABASE_POOL is {pool!r}: expected one of {', '.join(POOLS)}"
    if size < 1:
        yield f"APP_DATABASE_POOL_SIZE is {size}: expected 1 or more"


def _timeout_problems(values: Mapping[str, Any]) -> Iterator[str]:
    for name in ("connect_timeout", "statement_timeout", "lock_timeout", "idle_in_transaction_timeout"):
        # psycopg rounds a connect timeout under two seconds up, and takes 0 for no limit at all.
        least = 2 if name == "connect_timeout" else 0
        seconds = values.get(name, least)
        if not (math.isfinite(seconds) and least <= seconds <= _LONGEST_TIMEOUT):
            yield f"{VARIABLES[name]} is {seconds:g}: expected seconds, {least} or more"
        elif 0 < seconds < _SHORTEST_TIMEOUT:
            yield f"{VARIABLES[name]} is {seconds:g}: expected {_SHORTEST_TIMEOUT:g} s or more, or 0 for no limit"
