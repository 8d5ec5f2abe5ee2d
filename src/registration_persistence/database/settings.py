"""`DatabaseSettings`: where the database is and how to connect to it, from `APP_DATABASE_*` or from code."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registration_persistence.database.certificates import root_certificate_for
from registration_persistence.database.credential_rules import Auth, SecretSource
from registration_persistence.database.environment_rules import Environment, unknown_variables
from registration_persistence.database.secret_arn import SECRET_ARN, quoted
from registration_persistence.database.settings_limits import MAX_IDENTIFIER_BYTES
from registration_persistence.database.settings_rules import (
    BOOTSTRAP_VARIABLES,
    TIMEOUTS,
    VARIABLES,
    WHOLE_NUMBERS,
    PoolMode,
    bootstrap_problems,
    expected_number,
    problems_of,
)
from registration_persistence.database.tls_rules import (
    VERIFYING,
    RequireAuth,
    SslMode,
    SslNegotiation,
    require_auth_of,
    sslmode_of,
)
from registration_persistence.durations import Duration, in_seconds
from registration_persistence.errors import ConfigurationError

# The function that parses each setting that is not text.
_PARSERS: Mapping[str, Callable[[str], int | float]] = {
    **dict.fromkeys(WHOLE_NUMBERS, int),
    **dict.fromkeys(TIMEOUTS, float),
}

_MAX_NUMBER_CHARACTERS = 10_000
_APPLICATION_NAME = "registration_persistence"

# The default of a field that always has a value once the settings are created.
_DEPENDS_ON_OTHERS: Any = None

_KNOWN_VARIABLES = (*VARIABLES.values(), *BOOTSTRAP_VARIABLES)


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
        host: The cluster's endpoint: a host name of at most 253 characters or an IP address; in `test` and
            `local` also a Unix socket.
        reader_host: The cluster's reader endpoint, for read-only sessions, by the same rules as *host*; it has the
            same port, database, credentials and TLS. Defaults to `None`: read-only sessions use *host*.
        port: TCP port, 1 to 65535. Defaults to 5432.
        name: The name of the database, 1 to 63 bytes.
        auth: `secret`, or `iam` to log in with tokens of IAM, which need *user*, an endpoint of RDS as the *host*, and
            the AWS credentials of this process. Defaults to `secret`.
        secret_arn: ARN of the secret that holds `username` and `password`, at most 2048 characters. Region and
            partition are taken from it. Defaults to `None`, which is valid only with *user* and *password* or with IAM.
        secret_source: `secrets-manager`, or `extension` to read the secret from the AWS Parameters and Secrets Lambda
            Extension, which makes a cold start faster. Defaults to `secrets-manager`.
        environment: `prod`, `staging`, `dev`, `test` or `local`. Defaults to `prod`. `test` and `local` are refused for
            an endpoint of RDS, and on AWS Lambda unless the host is this machine.
        sslmode: libpq's `sslmode`; at least `require` outside `test` and `local`. Defaults to `verify-full` if
            *ssl_root_cert* is set or a root certificate is shipped for *host*, otherwise to `require`.
        ssl_root_cert: Path of the PEM file that the server's certificate is verified against, at most 1024 characters.
            Defaults to the file shipped for the host.
        require_auth: The weakest way in which the server may ask for the password: `scram-sha-256`, `md5` or
            `password` (in clear text; outside `test` and `local` only from a verified server). Defaults to
            `scram-sha-256`, with IAM to `password`, which is the only value then. In `test` and `local` the server may
            also ask for no password.
        ssl_negotiation: `postgres`, or `direct` to begin with TLS at once, which saves one round trip; needs PostgreSQL
            17 and an *sslmode* of at least `require`. Defaults to `postgres`.
        tls_groups: The groups that libpq offers in the TLS handshake, the first one with a key: one or more of `P-256`,
            `P-384`, `P-521`, `X25519` and `X448`, separated by colons. They apply to every connection of libpq in this
            process, and need `psycopg[binary]`. Defaults to empty text, for the groups of OpenSSL.
        pool: `lambda` keeps one connection, `service` keeps up to *pool_size*, `proxy` keeps none. Defaults to
            `service`, in `from_env` to `lambda` on AWS Lambda.
        pool_size: Maximum number of connections in `service` mode, 1 to 5000. Defaults to 5.
        user: User name, 1 to 63 bytes, with IAM, and in `test` and `local` with *password* instead of *secret_arn*.
            Defaults to `None`.
        password: Password, at most 8192 characters, only in `test` and `local`, instead of *secret_arn*. Defaults to
            `None`.
        connect_timeout: Time for all attempts to connect together, 2 s or more. Defaults to 10 s. Inside a `deadline`
            it limits each attempt, and the deadline limits all of them. Outside one, `Database.run` repeats failed work
            for this long.
        statement_timeout: Time for one statement, 0 or more; 0 means no limit. Defaults to 15 s, half of API Gateway's
            29 s, so that a request can still be answered.
        lock_timeout: Time that a statement waits for a lock, 0 or more; 0 means no limit. Defaults to 5 s.
        idle_in_transaction_timeout: Time after which the server ends a session that a frozen or killed process left
            inside a transaction, with its locks, 0 or more; 0 means no limit. Defaults to 30 s.
        idle_session_timeout: Time after which the server ends a session that is idle outside a transaction, for
            example that of a frozen process, 0 or more; the next checkout then opens another one. It also applies
            between the statements of an open session in autocommit. Defaults to 0: the limit that the role, the
            database or the server has, which is none unless it was set there.
        application_name: Name of the connection in `pg_stat_activity`, 1 to 63 bytes. Defaults to
            `registration_persistence`, in `from_env` to the name and version of the Lambda function.

    Raises:
        ConfigurationError: At least one setting is wrong; all problems are reported together.
    """

    host: str
    name: str
    reader_host: str | None = None
    port: int = 5432
    auth: Auth = "secret"
    secret_arn: str | None = None
    secret_source: SecretSource = "secrets-manager"  # noqa: S105 it is no secret
    environment: Environment = "prod"
    sslmode: SslMode = _DEPENDS_ON_OTHERS
    ssl_root_cert: str | None = None
    require_auth: RequireAuth = _DEPENDS_ON_OTHERS
    ssl_negotiation: SslNegotiation = "postgres"
    tls_groups: str = ""
    pool: PoolMode = "service"
    pool_size: int = 5
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    connect_timeout: _Timeout = _Timeout(10.0)
    statement_timeout: _Timeout = _Timeout(15.0)
    lock_timeout: _Timeout = _Timeout(5.0)
    idle_in_transaction_timeout: _Timeout = _Timeout(30.0)
    idle_session_timeout: _Timeout = _Timeout(0.0)
    application_name: str = _APPLICATION_NAME

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in (*VARIABLES, "application_name")}
        problems = list(problems_of(values, os.environ))
        if problems:
            del values
            raise ConfigurationError(problems)
        object.__setattr__(self, "sslmode", sslmode_of(values))
        object.__setattr__(self, "require_auth", require_auth_of(values))
        for name in TIMEOUTS:
            object.__setattr__(self, name, in_seconds(getattr(self, name)))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "DatabaseSettings":
        """Read the settings from the variables `APP_DATABASE_*` and `APP_ENVIRONMENT`.

        Args:
            environ: The variables; an empty one counts as not set. Defaults to the environment of this process.

        Raises:
            ConfigurationError: At least one variable is wrong, or starts with `APP_DATABASE_` and is unknown. All
                problems are reported together, each with the name of its variable, and none with a password.
        """
        values, problems = _parsed(environ)
        problems += [
            *problems_of(values, environ),
            *bootstrap_problems(environ),
            *unknown_variables(environ, _KNOWN_VARIABLES),
        ]
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
        if self.ssl_root_cert:
            return Path(self.ssl_root_cert)
        # Without a check of the name, a certificate that Amazon issued to another customer would be accepted.
        with_gateway = self.auth == "iam" and self.sslmode == "verify-full"
        return root_certificate_for(self.host, with_gateway=with_gateway)

    def of_readers(self) -> "DatabaseSettings | None":
        """Return these settings with the reader endpoint as the host; `None` if there is none."""
        return replace(self, host=self.reader_host, reader_host=None) if self.reader_host else None


def _parsed(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings in *environ*, and a problem for each one that cannot be parsed."""
    values: dict[str, Any] = {"pool": "lambda" if environ.get("AWS_LAMBDA_FUNCTION_NAME") else "service"}
    problems = []
    for name, variable in VARIABLES.items():
        text = environ.get(variable, "")
        try:
            if text:
                values[name] = _number(name, text) if name in _PARSERS else text
        except ValueError:
            problems.append(f"{variable} is {quoted(text)}: expected {expected_number(name)}")
    return values, problems


def _number(name: str, text: str) -> int | float:
    # Python also takes `5_432` and the digits of other scripts.
    if len(text) > _MAX_NUMBER_CHARACTERS or "_" in text or not text.isascii():
        raise ValueError(text)
    return _PARSERS[name](text)


def _application_name(environ: Mapping[str, str]) -> str:
    """Return the name and version of the Lambda function; without one, the name of this package."""
    function = environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if not function:
        return _APPLICATION_NAME
    version = ":" + (environ.get("AWS_LAMBDA_FUNCTION_VERSION") or "$LATEST")[:MAX_IDENTIFIER_BYTES]
    name = function[: max(MAX_IDENTIFIER_BYTES - len(version), 0)] + version
    # PostgreSQL replaces other characters, too.
    return "".join(character if " " <= character <= "~" else "?" for character in name[:MAX_IDENTIFIER_BYTES])
