"""The rules for `APP_DATABASE_*`: each problem is one sentence with the variable, its state and the expected value."""

import math
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from registration_persistence.database.certificates import root_certificate_for
from registration_persistence.durations import in_seconds

Environment: TypeAlias = Literal["prod", "staging", "dev", "test", "local"]

SslMode: TypeAlias = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

PoolMode: TypeAlias = Literal["lambda", "service", "proxy"]

# In these environments a database may be reached without TLS, and with a password from the environment.
_RELAXED: tuple[Environment, ...] = ("test", "local")

_ENCRYPTING: tuple[SslMode, ...] = ("require", "verify-ca", "verify-full")

VERIFYING: tuple[SslMode, ...] = ("verify-ca", "verify-full")
"""The modes that verify the server's certificate."""

SECRET_ARN = re.compile(
    r"arn:(?P<partition>aws|aws-cn|aws-us-gov):secretsmanager:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d):\d{12}:secret:[\w/+=.@-]+",
    re.ASCII,
)
"""The ARN of a secret, with the groups `partition` and `region`."""

MAX_IDENTIFIER_BYTES = 63
"""PostgreSQL truncates longer identifiers (`NAMEDATALEN - 1`)."""

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,254}}\Z){_LABEL}(?:\.{_LABEL})*\.?")

_MAX_PORT = 65535

# PostgreSQL stores a timeout as a signed 32-bit number of milliseconds.
_MIN_TIMEOUT_SECONDS, _MAX_TIMEOUT_SECONDS = 0.001, (2**31 - 1) / 1000

# psycopg raises a connect timeout below 2 s to 2 s, and takes 0 for no limit.
_MIN_CONNECT_TIMEOUT_SECONDS = 2

TIMEOUTS = ("connect_timeout", "statement_timeout", "lock_timeout", "idle_in_transaction_timeout")
"""The settings that are durations."""

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
"""The environment variable of each setting."""


def problems_of(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield each problem of *values*, as one sentence; a setting that is absent has its default."""
    environment = values.get("environment", "prod")
    if environment not in get_args(Environment):
        yield f"APP_ENVIRONMENT is {environment!r}: expected one of {', '.join(get_args(Environment))}"
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
        yield f"APP_DATABASE_HOST is {quoted(host)}: expected one host name or IP address"
    if not 1 <= port <= _MAX_PORT:
        yield f"APP_DATABASE_PORT is {port}: expected a whole number from 1 to {_MAX_PORT}"
    if not name:
        yield "APP_DATABASE_NAME is not set: expected the name of the database"
    elif not is_text(name):
        yield "APP_DATABASE_NAME holds NUL or is not UTF-8: expected the name of the database"
    elif len(name.encode()) > MAX_IDENTIFIER_BYTES:
        yield f"APP_DATABASE_NAME has {len(name.encode())} bytes: expected at most {MAX_IDENTIFIER_BYTES}"


def is_text(text: str) -> bool:
    """Return whether *text* is not empty and can be sent to the server: it has neither NUL nor lone surrogates."""
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
            "APP_DATABASE_USER and APP_DATABASE_PASSWORD are allowed only if APP_ENVIRONMENT is test or local: "
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
    if arn and (problem := arn_problem(arn, "APP_DATABASE_SECRET_ARN")):
        yield problem


def arn_problem(arn: str, name: str) -> str | None:
    """Return the problem of the ARN of a secret, as one sentence about *name*; `None` if there is none."""
    match = SECRET_ARN.fullmatch(arn)
    if match is None:
        return (
            f"{name} is {quoted(arn)}: "
            "expected arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME, in partition aws, aws-cn or aws-us-gov"
        )
    if match["partition"] != _partition_of(match["region"]):
        return (
            f"{name} names the partition {match['partition']} and the region {match['region']}: "
            f"expected {_partition_of(match['region'])}"
        )
    return None


def _partition_of(region: str) -> str:
    return {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(region.rsplit("-", 2)[0], "aws")


def _tls_problems(values: Mapping[str, Any], *, relaxed: bool) -> Iterator[str]:
    mode, certificate, host = values.get("sslmode", "require"), values.get("ssl_root_cert"), values.get("host")
    if mode not in get_args(SslMode):
        yield f"APP_DATABASE_SSLMODE is {mode!r}: expected one of {', '.join(get_args(SslMode))}"
    elif mode not in _ENCRYPTING and not relaxed:
        yield (
            f"APP_DATABASE_SSLMODE is {mode!r}, which can send data without TLS: expected {', '.join(_ENCRYPTING)}, "
            "unless APP_ENVIRONMENT is test or local"
        )
    if certificate and not _is_file(certificate):
        yield f"APP_DATABASE_SSL_ROOT_CERT is {certificate!r}, which is not a file: expected a PEM file"
    elif certificate and mode not in VERIFYING:
        yield f"APP_DATABASE_SSL_ROOT_CERT is set, but APP_DATABASE_SSLMODE is {mode!r}: expected verify-full"
    elif not certificate and mode in VERIFYING and host and root_certificate_for(host) is None:
        yield (
            f"APP_DATABASE_SSLMODE is {mode!r} but no certificate is shipped for the host {host!r}: "
            "set APP_DATABASE_SSL_ROOT_CERT to a PEM file"
        )


def _pool_problems(values: Mapping[str, Any]) -> Iterator[str]:
    pool, size = values.get("pool", "service"), values.get("pool_size", 5)
    if pool not in get_args(PoolMode):
        yield f"APP_DATABASE_POOL is {pool!r}: expected one of {', '.join(get_args(PoolMode))}"
    if size < 1:
        yield f"APP_DATABASE_POOL_SIZE is {size}: expected 1 or more"


def _timeout_problems(values: Mapping[str, Any]) -> Iterator[str]:
    for name in TIMEOUTS:
        variable, least = VARIABLES[name], _MIN_CONNECT_TIMEOUT_SECONDS if name == "connect_timeout" else 0
        try:
            seconds = in_seconds(values.get(name, least), name=variable)
        except (TypeError, ValueError) as error:
            yield str(error)
            continue
        if not (math.isfinite(seconds) and least <= seconds <= _MAX_TIMEOUT_SECONDS):
            yield f"{variable} is {seconds:g}: expected {least} to {_MAX_TIMEOUT_SECONDS:.3f} seconds"
        elif 0 < seconds < _MIN_TIMEOUT_SECONDS:
            yield f"{variable} is {seconds:g}: expected {_MIN_TIMEOUT_SECONDS:g} seconds or more, or 0 for no limit"


def quoted(text: str) -> str:
    """Return *text* in quotes for an error message, or a placeholder if it looks like a URL or a secret's value."""
    return "a value that is not shown, as it may hold a password" if re.search(r'@|://|[{"]', text) else repr(text)
