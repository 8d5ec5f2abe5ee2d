"""The rules for `APP_DATABASE_*`: each problem is one sentence with the variable, its state and the expected value."""

import math
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any, Literal, TypeAlias, get_args

from registration_persistence.database.credential_rules import credential_problems
from registration_persistence.database.environment_rules import environment_problems, is_relaxed
from registration_persistence.database.secret_arn import quoted
from registration_persistence.database.settings_limits import (
    MAX_IDENTIFIER_BYTES,
    MAX_SHOWN_NUMBER,
    UNPRINTABLE,
    is_text,
    length_problems,
)
from registration_persistence.database.tls_rules import tls_problems
from registration_persistence.durations import in_seconds
from registration_persistence.lazy_pattern import lazy_pattern

PoolMode: TypeAlias = Literal["lambda", "service", "proxy"]

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = lazy_pattern(rf"(?=.{{1,254}}\Z){_LABEL}(?:\.{_LABEL})*\.?")

# Every server has these, and none of them is for the tables of a service.
_DATABASES_OF_THE_SERVER = ("template0", "template1", "rdsadmin")

_MAX_PORT = 65535

# The largest Aurora instance accepts this many connections from all its clients together.
_MAX_POOL_SIZE = 5000

# PostgreSQL stores a timeout as a signed 32-bit number of milliseconds.
_MIN_TIMEOUT_SECONDS, _MAX_TIMEOUT_SECONDS = 0.001, (2**31 - 1) / 1000

# psycopg raises a connect timeout below 2 s to 2 s, and takes 0 for no limit.
_MIN_CONNECT_TIMEOUT_SECONDS = 2

TIMEOUTS = (
    "connect_timeout",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_timeout",
    "idle_session_timeout",
)
"""The settings that are durations."""

WHOLE_NUMBERS: Mapping[str, int] = {"port": _MAX_PORT, "pool_size": _MAX_POOL_SIZE}
"""The settings that are whole numbers, 1 or more, with their largest values."""

_TEXTS = (
    "host",
    "reader_host",
    "name",
    "secret_arn",
    "ssl_root_cert",
    "user",
    "password",
    "tls_groups",
    "application_name",
)

VARIABLES: Mapping[str, str] = {
    "host": "APP_DATABASE_HOST",
    "reader_host": "APP_DATABASE_READER_HOST",
    "port": "APP_DATABASE_PORT",
    "name": "APP_DATABASE_NAME",
    "auth": "APP_DATABASE_AUTH",
    "secret_arn": "APP_DATABASE_SECRET_ARN",
    "secret_source": "APP_DATABASE_SECRET_SOURCE",
    "environment": "APP_ENVIRONMENT",
    "sslmode": "APP_DATABASE_SSLMODE",
    "ssl_root_cert": "APP_DATABASE_SSL_ROOT_CERT",
    "require_auth": "APP_DATABASE_REQUIRE_AUTH",
    "ssl_negotiation": "APP_DATABASE_SSL_NEGOTIATION",
    "tls_groups": "APP_DATABASE_TLS_GROUPS",
    "pool": "APP_DATABASE_POOL",
    "pool_size": "APP_DATABASE_POOL_SIZE",
    "user": "APP_DATABASE_USER",
    "password": "APP_DATABASE_PASSWORD",
    "connect_timeout": "APP_DATABASE_CONNECT_TIMEOUT",
    "statement_timeout": "APP_DATABASE_STATEMENT_TIMEOUT",
    "lock_timeout": "APP_DATABASE_LOCK_TIMEOUT",
    "idle_in_transaction_timeout": "APP_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT",
    "idle_session_timeout": "APP_DATABASE_IDLE_SESSION_TIMEOUT",
}
"""The environment variable of each setting."""

BOOTSTRAP_VARIABLES = (
    "APP_DATABASE_OWNER_ROLE",
    "APP_DATABASE_APPLICATION_SECRET_ARN",
    "APP_DATABASE_APPLICATION_USER",
    "APP_DATABASE_MONITORING_SECRET_ARN",
)
"""The variables that are no settings: only `migrate`, `partitions` and `bootstrap` read them."""


def problems_of(values: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """Yield each problem of *values*, as one sentence; a setting that is absent has its default.

    Args:
        values: The settings by name.
        environ: The variables of the process, which show whether it is a Lambda function.
    """
    wrong = dict(length_problems(values, VARIABLES)) | dict(_type_problems(values))
    yield from wrong.values()
    rest = {name: value for name, value in values.items() if _subject(name) not in wrong}
    yield from (problem for problem in _rule_problems(rest, environ) if problem.split()[0] not in wrong)


def bootstrap_problems(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a problem for each variable of `BOOTSTRAP_VARIABLES` that cannot be printed on one line."""
    yield from (f"{name} {UNPRINTABLE}" for name in BOOTSTRAP_VARIABLES if not environ.get(name, "").isprintable())


def expected_number(name: str) -> str:
    """Return the expected value of the setting *name*, a number, for an error message."""
    if name in WHOLE_NUMBERS:
        return f"a whole number from 1 to {WHOLE_NUMBERS[name]}"
    least = _MIN_CONNECT_TIMEOUT_SECONDS if name == "connect_timeout" else 0
    return f"a number of seconds from {least} to {_MAX_TIMEOUT_SECONDS:.3f}"


def _subject(name: str) -> str:
    """Return the subject of an error message about the setting *name*: its variable, if it has one."""
    return VARIABLES.get(name, name)


def _type_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield subject and problem of each value of a wrong type; settings made in code can have any type."""
    for name in WHOLE_NUMBERS:
        value, subject = values.get(name, 1), _subject(name)
        if isinstance(value, bool) or not isinstance(value, int):
            shown = f"{quoted(value)}, " if isinstance(value, str) else ""
            found = f"{shown}of the type {type(value).__name__}"
            yield subject, f"{subject} is {found}: expected {expected_number(name)}"
    for name in _TEXTS:
        if not isinstance(values.get(name, ""), str | None):  # it is not shown, as it may hold a password
            yield _subject(name), f"{_subject(name)} is of the type {type(values[name]).__name__}: expected text"


def _rule_problems(values: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    yield from environment_problems(values, environ)
    relaxed = is_relaxed(values.get("environment", "prod"))
    yield from (problems := list(_address_problems(values, relaxed=relaxed)))
    if any(problem.startswith(VARIABLES["reader_host"]) for problem in problems):
        values = {name: value for name, value in values.items() if name != "reader_host"}  # one problem is enough
    yield from credential_problems(values, relaxed=relaxed)
    yield from tls_problems(values, relaxed=relaxed)
    pool = values.get("pool", "service")
    if pool not in get_args(PoolMode):
        yield f"APP_DATABASE_POOL is {pool!r}: expected one of {', '.join(get_args(PoolMode))}"
    yield from _number_problems(values)
    yield from _timeout_problems(values)
    application_name = values.get("application_name", "name")
    if application_name is None or not is_text(application_name):
        yield "application_name is empty, holds NUL or is not UTF-8: expected text"
    elif not application_name.isprintable():
        yield f"application_name {UNPRINTABLE}"
    elif len(application_name.encode()) > MAX_IDENTIFIER_BYTES:
        yield f"application_name has {len(application_name.encode())} bytes: expected at most {MAX_IDENTIFIER_BYTES}"


def _address_problems(values: Mapping[str, Any], *, relaxed: bool) -> Iterator[str]:
    host, reader = values.get("host"), values.get("reader_host")
    if not host:
        yield "APP_DATABASE_HOST is not set: expected the cluster's endpoint"
    for name, address in {"host": host, "reader_host": reader}.items():
        if address and (problem := _host_problem(VARIABLES[name], address, relaxed=relaxed)):
            yield problem
    if host and reader and host.lower().removesuffix(".") == reader.lower().removesuffix("."):
        yield (
            f"APP_DATABASE_READER_HOST is {quoted(reader)}, which is APP_DATABASE_HOST: expected the reader endpoint, "
            "or unset it"
        )
    yield from _name_problems(values.get("name"))


def _host_problem(variable: str, host: str, *, relaxed: bool) -> str | None:
    if host.startswith(("/", "@")):
        if not relaxed:
            return f"{variable} is {host!r}, a Unix socket, where libpq uses no TLS: expected a host name"
        if not is_text(host):
            return f"{variable} is {host!r}: expected a path without NUL, in UTF-8"
        return None if host.isprintable() else f"{variable} {UNPRINTABLE}"
    if not _is_host(host):
        return f"{variable} is {quoted(host)}: expected one host name, of at most 253 characters, or IP address"
    return None


def _name_problems(name: str | None) -> Iterator[str]:
    if not name:
        yield "APP_DATABASE_NAME is not set: expected the name of the database"
    elif not is_text(name):
        yield "APP_DATABASE_NAME holds NUL or is not UTF-8: expected the name of the database"
    elif not name.isprintable():
        yield f"APP_DATABASE_NAME {UNPRINTABLE}"
    elif name in _DATABASES_OF_THE_SERVER:
        yield f"APP_DATABASE_NAME is {name!r}, which the server keeps for itself: expected the service's database"
    elif len(name.encode()) > MAX_IDENTIFIER_BYTES:
        yield f"APP_DATABASE_NAME has {len(name.encode())} bytes: expected at most {MAX_IDENTIFIER_BYTES}"


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return _HOST_NAME.fullmatch(text) is not None
    return True


def _number_problems(values: Mapping[str, Any]) -> Iterator[str]:
    for name, most in WHOLE_NUMBERS.items():
        number = values.get(name, 1)
        if not 1 <= number <= most:
            # Python does not convert a number of more than 4,300 digits to text.
            shown = number if abs(number) < MAX_SHOWN_NUMBER else f"a number of {number.bit_length()} bits"
            yield f"{VARIABLES[name]} is {shown}: expected {expected_number(name)}"


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
