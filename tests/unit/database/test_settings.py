"""`DatabaseSettings` and the environment it is read from."""

import traceback
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registration_persistence import DatabaseSettings
from registration_persistence.database import certificates
from registration_persistence.database.settings_rules import TIMEOUTS as TIMEOUT_SETTINGS
from registration_persistence.database.settings_rules import VARIABLES
from registration_persistence.durations import Duration
from registration_persistence.errors import ConfigurationError

SHIPPED = Path(certificates.__file__).parent
PASSWORD = "hunter2-%-\\-'-\"-é"
ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:registrations-AbCdEf"
AURORA = "app.cluster-c1a2b3.eu-west-1.rds.amazonaws.com"

PRODUCTION = {"APP_DATABASE_HOST": AURORA, "APP_DATABASE_NAME": "registrations", "APP_DATABASE_SECRET_ARN": ARN}
TEST = {
    "APP_ENVIRONMENT": "test",
    "APP_DATABASE_HOST": "127.0.0.1",
    "APP_DATABASE_NAME": "registrations",
    "APP_DATABASE_USER": "ada",
    "APP_DATABASE_PASSWORD": PASSWORD,
}
LONGEST_TIMEOUT = 2_147_483.647


def outcome_of(environ: Mapping[str, str]) -> DatabaseSettings | ConfigurationError:
    """Return what *environ* gives, settings or an error; any other error is raised."""
    try:
        return DatabaseSettings.from_env(environ)
    except ConfigurationError as error:
        return error


def problems_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return what is wrong with *environ*; nothing where it gives settings."""
    outcome = outcome_of(environ)
    return outcome.problems if isinstance(outcome, ConfigurationError) else ()


def values_of(settings: DatabaseSettings) -> dict[str, object]:
    """Return every setting by name, the password included."""
    return {field.name: getattr(settings, field.name) for field in fields(settings)}


def test_three_variables_are_enough() -> None:
    """Host, name and secret give settings for production, with every default as documented."""
    assert {
        "host": AURORA,
        "name": "registrations",
        "port": 5432,
        "secret_arn": ARN,
        "environment": "prod",
        "sslmode": "require",
        "ssl_root_cert": None,
        "pool": "service",
        "pool_size": 5,
        "user": None,
        "password": None,
        "connect_timeout": 10.0,
        "statement_timeout": 15.0,
        "lock_timeout": 5.0,
        "idle_in_transaction_timeout": 30.0,
        "application_name": "registration_persistence",
    } == values_of(DatabaseSettings.from_env(PRODUCTION))


def test_the_environment_and_the_constructor_agree() -> None:
    """What is left out has the same default whichever way settings are made."""
    assert DatabaseSettings(host=AURORA, name="registrations", secret_arn=ARN) == DatabaseSettings.from_env(PRODUCTION)


def test_the_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument `from_env` reads the process's environment as it is now."""
    for variable in [*VARIABLES.values(), "AWS_LAMBDA_FUNCTION_NAME"]:
        monkeypatch.delenv(variable, raising=False)
    for variable, text in PRODUCTION.items():
        monkeypatch.setenv(variable, text)

    assert DatabaseSettings.from_env(PRODUCTION) == DatabaseSettings.from_env()


@pytest.mark.parametrize(
    ("variable", "text", "field", "expected"),
    [
        ("APP_DATABASE_HOST", "10.0.0.7", "host", "10.0.0.7"),
        ("APP_DATABASE_HOST", "fd00::7", "host", "fd00::7"),
        ("APP_DATABASE_HOST", "my_db-1.Internal", "host", "my_db-1.Internal"),
        ("APP_DATABASE_HOST", "db.example.", "host", "db.example."),
        ("APP_DATABASE_HOST", "d" * 63, "host", "d" * 63),
        ("APP_DATABASE_HOST", "/var/run/postgresql", "host", "/var/run/postgresql"),
        ("APP_DATABASE_HOST", "@abstract", "host", "@abstract"),
        ("APP_DATABASE_PORT", "1", "port", 1),
        ("APP_DATABASE_PORT", "6432", "port", 6432),
        ("APP_DATABASE_PORT", "65535", "port", 65535),
        ("APP_DATABASE_NAME", "Sign ups; é", "name", "Sign ups; é"),
        ("APP_DATABASE_NAME", "n" * 63, "name", "n" * 63),
        ("APP_DATABASE_USER", "eve", "user", "eve"),
        ("APP_DATABASE_PASSWORD", " spaces stay ", "password", " spaces stay "),
        ("APP_ENVIRONMENT", "local", "environment", "local"),
        ("APP_DATABASE_SSLMODE", "disable", "sslmode", "disable"),
        ("APP_DATABASE_SSLMODE", "allow", "sslmode", "allow"),
        ("APP_DATABASE_SSLMODE", "prefer", "sslmode", "prefer"),
        ("APP_DATABASE_POOL", "lambda", "pool", "lambda"),
        ("APP_DATABASE_POOL", "service", "pool", "service"),
        ("APP_DATABASE_POOL", "proxy", "pool", "proxy"),
        ("APP_DATABASE_POOL_SIZE", "1", "pool_size", 1),
        ("APP_DATABASE_POOL_SIZE", "40", "pool_size", 40),
        ("APP_DATABASE_CONNECT_TIMEOUT", "2", "connect_timeout", 2.0),
        ("APP_DATABASE_CONNECT_TIMEOUT", str(LONGEST_TIMEOUT), "connect_timeout", LONGEST_TIMEOUT),
        ("APP_DATABASE_STATEMENT_TIMEOUT", "0", "statement_timeout", 0.0),
        ("APP_DATABASE_STATEMENT_TIMEOUT", "0.001", "statement_timeout", 0.001),
        ("APP_DATABASE_STATEMENT_TIMEOUT", "0.25", "statement_timeout", 0.25),
        ("APP_DATABASE_STATEMENT_TIMEOUT", str(LONGEST_TIMEOUT), "statement_timeout", LONGEST_TIMEOUT),
        ("APP_DATABASE_LOCK_TIMEOUT", "0", "lock_timeout", 0.0),
        ("APP_DATABASE_LOCK_TIMEOUT", "1.5", "lock_timeout", 1.5),
        ("APP_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT", "0", "idle_in_transaction_timeout", 0.0),
        ("APP_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT", "60", "idle_in_transaction_timeout", 60.0),
    ],
)
def test_a_variable_reaches_its_setting(variable: str, text: str, field: str, expected: object) -> None:
    """Each variable sets one field, the limits included, and leaves all others alone."""
    plain = values_of(DatabaseSettings.from_env(TEST))

    assert plain | {field: expected} == values_of(DatabaseSettings.from_env(TEST | {variable: text}))


@pytest.mark.parametrize("environment", ["prod", "staging", "dev"])
@pytest.mark.parametrize("sslmode", ["require", "verify-ca", "verify-full"])
def test_outside_test_and_local_the_secret_and_tls_are_enough(environment: str, sslmode: str) -> None:
    """Every environment of a cloud takes a secret and each mode that encrypts."""
    settings = DatabaseSettings.from_env(PRODUCTION | {"APP_ENVIRONMENT": environment, "APP_DATABASE_SSLMODE": sslmode})

    assert (environment, sslmode, ARN) == (settings.environment, settings.sslmode, settings.secret_arn)


@pytest.mark.parametrize("environment", ["test", "local"])
def test_a_secret_is_also_allowed_in_test_and_local(environment: str) -> None:
    """`test` and `local` may read the secret as production does."""
    assert ARN == DatabaseSettings.from_env(PRODUCTION | {"APP_ENVIRONMENT": environment}).secret_arn


@pytest.mark.parametrize("variable", VARIABLES.values())
def test_an_empty_variable_is_one_that_is_not_set(variable: str) -> None:
    """An empty text gives the default, or the problem of a variable that is missing."""
    for environ in (PRODUCTION, TEST):
        without = {name: text for name, text in environ.items() if name != variable}
        emptied = environ | {variable: ""}

        assert problems_of(without) == problems_of(emptied)
        if not problems_of(without):
            assert DatabaseSettings.from_env(without) == DatabaseSettings.from_env(emptied)


NUMBERS = ["five", "5,0", "0x10", "5 s", "9" * 5000]
TIMEOUTS = ("CONNECT", "STATEMENT", "LOCK", "IDLE_IN_TRANSACTION")


@pytest.mark.parametrize(
    ("base", "changes", "expected"),
    [
        pytest.param(base, changes, expected, id=f"{expected[:60]} ({next(iter(changes.values()))[:20]!a})")
        for base, changes, expected in [
            (PRODUCTION, {"APP_ENVIRONMENT": "production"}, "APP_ENVIRONMENT is 'production': expected one of prod, "),
            (PRODUCTION, {"APP_ENVIRONMENT": "PROD"}, "APP_ENVIRONMENT is 'PROD': expected one of prod, staging, "),
            (TEST, {"APP_DATABASE_HOST": ""}, "APP_DATABASE_HOST is not set: expected the cluster's endpoint"),
            (TEST, {"APP_DATABASE_HOST": "a b"}, "APP_DATABASE_HOST is 'a b': expected one host name"),
            (TEST, {"APP_DATABASE_HOST": "a,b"}, "APP_DATABASE_HOST is 'a,b': expected one host name"),
            (TEST, {"APP_DATABASE_HOST": "a\n"}, "APP_DATABASE_HOST is 'a\\n': expected one host name"),
            (TEST, {"APP_DATABASE_HOST": "a/b"}, "APP_DATABASE_HOST is 'a/b': expected one host name"),
            (TEST, {"APP_DATABASE_HOST": "a.example:5432"}, "APP_DATABASE_HOST is 'a.example:5432': expected one host"),
            (TEST, {"APP_DATABASE_HOST": "-a.example"}, "APP_DATABASE_HOST is '-a.example': expected one host name"),
            (TEST, {"APP_DATABASE_HOST": "a..example"}, "APP_DATABASE_HOST is 'a..example': expected one host name"),
            (TEST, {"APP_DATABASE_HOST": "a" * 64}, f"APP_DATABASE_HOST is '{'a' * 64}': expected one host name"),
            (TEST, {"APP_DATABASE_HOST": "a." * 128}, f"APP_DATABASE_HOST is '{'a.' * 128}': expected one host name"),
            (PRODUCTION, {"APP_DATABASE_HOST": "/run"}, "APP_DATABASE_HOST is '/run', a Unix socket, where libpq uses"),
            (PRODUCTION, {"APP_DATABASE_HOST": "@run"}, "APP_DATABASE_HOST is '@run', a Unix socket, where libpq uses"),
            *(
                (TEST, {"APP_DATABASE_PORT": text}, f"APP_DATABASE_PORT is {text!r}: expected a whole")
                for text in NUMBERS
            ),
            (TEST, {"APP_DATABASE_PORT": "5432.0"}, "APP_DATABASE_PORT is '5432.0': expected a whole number"),
            (TEST, {"APP_DATABASE_PORT": "0"}, "APP_DATABASE_PORT is 0: expected a whole number from 1 to 65535"),
            (TEST, {"APP_DATABASE_PORT": "-1"}, "APP_DATABASE_PORT is -1: expected a whole number from 1 to 65535"),
            (
                TEST,
                {"APP_DATABASE_PORT": "65536"},
                "APP_DATABASE_PORT is 65536: expected a whole number from 1 to 65535",
            ),
            (TEST, {"APP_DATABASE_NAME": ""}, "APP_DATABASE_NAME is not set: expected the name of the database"),
            (TEST, {"APP_DATABASE_NAME": "n" * 64}, "APP_DATABASE_NAME has 64 bytes: expected at most 63"),
            (TEST, {"APP_DATABASE_NAME": "é" * 32}, "APP_DATABASE_NAME has 64 bytes: expected at most 63"),
            (TEST, {"APP_DATABASE_NAME": "a\0b"}, "APP_DATABASE_NAME holds NUL or is not UTF-8: expected the"),
            (TEST, {"APP_DATABASE_NAME": "\udcff"}, "APP_DATABASE_NAME holds NUL or is not UTF-8: expected the"),
            *(
                (
                    TEST,
                    {f"APP_DATABASE_{name}": text},
                    "APP_DATABASE_USER or _PASSWORD holds NUL or is not UTF-8: expec",
                )
                for name in ("USER", "PASSWORD")
                for text in ("a\0b", "a\udcff")
            ),
            (PRODUCTION, {"APP_DATABASE_SECRET_ARN": ""}, "APP_DATABASE_SECRET_ARN is not set: expected the ARN of a"),
            (PRODUCTION, {"APP_DATABASE_USER": "ada"}, "APP_DATABASE_USER and APP_DATABASE_PASSWORD are allowed only"),
            (
                PRODUCTION,
                {"APP_DATABASE_PASSWORD": PASSWORD},
                "APP_DATABASE_USER and APP_DATABASE_PASSWORD are allowed only if APP_ENVIRONMENT is test or local",
            ),
            (TEST, {"APP_DATABASE_SECRET_ARN": ARN}, "APP_DATABASE_SECRET_ARN and APP_DATABASE_USER or _PASSWORD are"),
            *(
                (
                    TEST | {missing: ""},
                    {"APP_DATABASE_SECRET_ARN": ARN},
                    "APP_DATABASE_SECRET_ARN and APP_DATABASE_USER or _PASSWORD are both set: expected one",
                )
                for missing in ("APP_DATABASE_USER", "APP_DATABASE_PASSWORD")
            ),
            (
                TEST | {"APP_DATABASE_SSLMODE": "verify-full"},
                {"APP_DATABASE_HOST": ""},
                "APP_DATABASE_HOST is not set: expected the cluster's endpoint",
            ),
            (TEST, {"APP_DATABASE_USER": ""}, "APP_DATABASE_USER is not set: expected user and password together"),
            (TEST, {"APP_DATABASE_PASSWORD": ""}, "APP_DATABASE_PASSWORD is not set: expected user and password"),
            (TEST, {"APP_DATABASE_SSLMODE": "REQUIRE"}, "APP_DATABASE_SSLMODE is 'REQUIRE': expected one of disable, "),
            *(
                (
                    PRODUCTION | {"APP_ENVIRONMENT": environment},
                    {"APP_DATABASE_SSLMODE": mode},
                    f"APP_DATABASE_SSLMODE is {mode!r}, which can send data without TLS: expected require, verify-ca, ",
                )
                for environment in ("", "prod", "staging", "dev")
                for mode in ("disable", "allow", "prefer")
            ),
            *(
                (
                    TEST,
                    {"APP_DATABASE_SSLMODE": mode},
                    f"APP_DATABASE_SSLMODE is {mode!r} but no certificate is shipped for the host '127.0.0.1': set",
                )
                for mode in ("verify-ca", "verify-full")
            ),
            (
                PRODUCTION | {"APP_DATABASE_SSLMODE": "verify-full"},
                {"APP_DATABASE_SSL_ROOT_CERT": "/no/such.pem"},
                "APP_DATABASE_SSL_ROOT_CERT is '/no/such.pem', which is not a file: expected a PEM file",
            ),
            (
                PRODUCTION | {"APP_DATABASE_SSLMODE": "verify-full"},
                {"APP_DATABASE_SSL_ROOT_CERT": str(SHIPPED)},
                "APP_DATABASE_SSL_ROOT_CERT is ",
            ),
            *(
                (
                    TEST | {"APP_DATABASE_SSLMODE": mode},
                    {"APP_DATABASE_SSL_ROOT_CERT": str(SHIPPED / "eu-west-1.pem")},
                    f"APP_DATABASE_SSL_ROOT_CERT is set, but APP_DATABASE_SSLMODE is {mode or 'require'!r}: expected",
                )
                for mode in ("", "disable", "allow", "prefer", "require")
            ),
            (TEST, {"APP_DATABASE_POOL": "Lambda"}, "APP_DATABASE_POOL is 'Lambda': expected one of lambda, service, "),
            *(
                (TEST, {"APP_DATABASE_POOL_SIZE": text}, f"APP_DATABASE_POOL_SIZE is {text!r}: expected a whole number")
                for text in NUMBERS
            ),
            (TEST, {"APP_DATABASE_POOL_SIZE": "0"}, "APP_DATABASE_POOL_SIZE is 0: expected 1 or more"),
            (
                TEST,
                {"APP_DATABASE_CONNECT_TIMEOUT": "1.9"},
                "APP_DATABASE_CONNECT_TIMEOUT is 1.9: expected 2 to 2147483.647 seconds",
            ),
            (TEST, {"APP_DATABASE_CONNECT_TIMEOUT": "0"}, "APP_DATABASE_CONNECT_TIMEOUT is 0: expected 2 to 2147483."),
            *(
                (TEST, {f"APP_DATABASE_{name}_TIMEOUT": text}, f"APP_DATABASE_{name}_TIMEOUT is {text!r}: expected a n")
                for name in TIMEOUTS
                for text in NUMBERS[:-1]
            ),
            *(
                (
                    TEST,
                    {f"APP_DATABASE_{name}_TIMEOUT": text},
                    f"APP_DATABASE_{name}_TIMEOUT is {shown}: expected {2 * (name == 'CONNECT')} to 2147483.647 sec",
                )
                for name in TIMEOUTS
                for text, shown in [
                    ("-0.1", "-0.1"),
                    ("inf", "inf"),
                    ("-inf", "-inf"),
                    ("2147483.648", "2.14748e+06"),
                    ("9" * 5000, "inf"),
                ]
            ),
            *(
                (
                    TEST,
                    {f"APP_DATABASE_{name}_TIMEOUT": "0.0009"},
                    f"APP_DATABASE_{name}_TIMEOUT is 0.0009: expected 0.001 seconds or more, or 0 for no limit",
                )
                for name in TIMEOUTS[1:]
            ),
            *(
                (TEST, {f"APP_DATABASE_{name}_TIMEOUT": "nan"}, f"APP_DATABASE_{name}_TIMEOUT is NaN: expected a timed")
                for name in TIMEOUTS
            ),
        ]
    ],
)
def test_one_wrong_variable_is_one_problem(base: dict[str, str], changes: dict[str, str], expected: str) -> None:
    """Each rule names its variable and what was expected, and finds fault with nothing else."""
    assert (expected,) == tuple(problem[: len(expected)] for problem in problems_of(base | changes))


def test_every_problem_is_reported_at_once() -> None:
    """One error lists what is wrong with every variable, whether it cannot be read or is not allowed."""
    with pytest.raises(ConfigurationError) as raised:
        DatabaseSettings.from_env(
            {
                "APP_ENVIRONMENT": "production",
                "APP_DATABASE_HOST": "a b",
                "APP_DATABASE_PORT": "0",
                "APP_DATABASE_NAME": "",
                "APP_DATABASE_SECRET_ARN": "registrations",
                "APP_DATABASE_USER": "ada",
                "APP_DATABASE_PASSWORD": PASSWORD,
                "APP_DATABASE_SSLMODE": "prefer",
                "APP_DATABASE_SSL_ROOT_CERT": "/no/such.pem",
                "APP_DATABASE_POOL": "big",
                "APP_DATABASE_POOL_SIZE": "many",
                "APP_DATABASE_CONNECT_TIMEOUT": "1",
                "APP_DATABASE_STATEMENT_TIMEOUT": "soon",
                "APP_DATABASE_LOCK_TIMEOUT": "-1",
                "APP_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT": "nan",
            }
        )

    error = raised.value
    assert sorted(set(VARIABLES.values()) - {"APP_DATABASE_PASSWORD"}) == sorted(
        problem.split()[0] for problem in error.problems
    )
    assert all(f"\n  - {problem}" in str(error) for problem in error.problems)
    assert not error.retryable


def test_the_constructor_checks_as_the_environment_does() -> None:
    """Settings made in code, or changed with `replace`, are held to the same rules."""
    settings = DatabaseSettings.from_env(PRODUCTION)

    with pytest.raises(ConfigurationError) as raised:
        replace(settings, sslmode="disable", port=0, connect_timeout=1)

    changes = {"APP_DATABASE_SSLMODE": "disable", "APP_DATABASE_PORT": "0", "APP_DATABASE_CONNECT_TIMEOUT": "1"}
    assert problems_of(PRODUCTION | changes) == raised.value.problems


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [(timedelta(seconds=2.5), 2.5), (timedelta(minutes=1), 60.0), (3, 3.0), (2.25, 2.25)],
    ids=repr,
)
@pytest.mark.parametrize("name", TIMEOUT_SETTINGS)
def test_a_timeout_is_a_duration_and_reads_as_seconds(name: str, duration: Duration, seconds: float) -> None:
    """A `timedelta` and a number are both accepted, and the setting is a float."""
    arguments: dict[str, Any] = {name: duration}

    settings = DatabaseSettings(host=AURORA, name="registrations", secret_arn=ARN, **arguments)

    assert (seconds, float) == (getattr(settings, name), type(getattr(settings, name)))
    assert settings == replace(settings)


def test_a_timeout_of_the_wrong_type_is_reported_with_all_other_problems() -> None:
    """A text, `None` and a truth value are problems like every other; a limit also applies to a `timedelta`."""
    arguments: dict[str, Any] = {
        "port": 0,
        "connect_timeout": timedelta(seconds=1),
        "statement_timeout": "15",
        "lock_timeout": None,
        "idle_in_transaction_timeout": True,
    }

    with pytest.raises(ConfigurationError) as raised:
        DatabaseSettings(host=AURORA, name="registrations", secret_arn=ARN, **arguments)

    assert (
        "APP_DATABASE_PORT is 0: expected a whole number from 1 to 65535",
        "APP_DATABASE_CONNECT_TIMEOUT is 1: expected 2 to 2147483.647 seconds",
        "APP_DATABASE_STATEMENT_TIMEOUT is a str: expected a timedelta or a number of seconds",
        "APP_DATABASE_LOCK_TIMEOUT is a NoneType: expected a timedelta or a number of seconds",
        "APP_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT is a bool: expected a timedelta or a number of seconds",
    ) == raised.value.problems


@pytest.mark.parametrize("environment", ["", "production", "Test", "tests", "qa"])
def test_what_is_unknown_is_production(environment: str) -> None:
    """Without a known environment neither plaintext, nor a socket, nor a password is let through."""
    changes = {"APP_ENVIRONMENT": environment, "APP_DATABASE_SSLMODE": "disable", "APP_DATABASE_HOST": "/run"}

    problems = "\n".join(problems_of(TEST | changes))

    assert "APP_DATABASE_SSLMODE is 'disable', which can send data without TLS" in problems
    assert "APP_DATABASE_HOST is '/run', a Unix socket" in problems
    assert "APP_DATABASE_USER and APP_DATABASE_PASSWORD are allowed only if" in problems


@pytest.mark.parametrize("environment", ["prod", "staging", "dev"])
def test_a_password_is_taken_in_test_and_local_only(environment: str) -> None:
    """A cloud's environment refuses user and password however the rest looks."""
    (problem,) = problems_of(TEST | {"APP_ENVIRONMENT": environment})

    assert problem.startswith("APP_DATABASE_USER and APP_DATABASE_PASSWORD are allowed only if APP_ENVIRONMENT is")


@pytest.mark.parametrize(
    ("sslmode", "host", "own", "expected"),
    [
        ("require", AURORA, None, None),
        ("verify-ca", AURORA, None, SHIPPED / "eu-west-1.pem"),
        ("verify-full", AURORA, None, SHIPPED / "eu-west-1.pem"),
        ("verify-full", "app.proxy-c1a2b3.eu-west-1.rds.amazonaws.com", None, SHIPPED / "rds-proxy.pem"),
        ("verify-full", AURORA, SHIPPED / "us-east-1.pem", SHIPPED / "us-east-1.pem"),
        ("verify-ca", "localhost", SHIPPED / "us-east-1.pem", SHIPPED / "us-east-1.pem"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_root_certificate_follows_mode_host_and_file(
    sslmode: str, host: str, own: Path | None, expected: Path | None
) -> None:
    """A mode that verifies uses the file that is named, or else the one shipped for the host."""
    settings = DatabaseSettings.from_env(
        PRODUCTION
        | {
            "APP_DATABASE_HOST": host,
            "APP_DATABASE_SSLMODE": sslmode,
            "APP_DATABASE_SSL_ROOT_CERT": "" if own is None else str(own),
        }
    )

    assert expected == settings.root_certificate


@pytest.mark.parametrize("path", ["x" * 300, "x\0", "\udcff"], ids=["long", "NUL", "surrogate"])
def test_a_path_that_cannot_be_one_is_a_problem_like_any_other(path: str) -> None:
    """A root certificate whose name the system refuses to look up is reported, not raised."""
    changes = {"APP_DATABASE_SSLMODE": "verify-full", "APP_DATABASE_SSL_ROOT_CERT": path}

    (problem,) = problems_of(PRODUCTION | changes)

    assert problem.startswith("APP_DATABASE_SSL_ROOT_CERT is ")


@pytest.mark.parametrize(
    ("arn", "region"),
    [
        (ARN, "eu-west-1"),
        ("arn:aws:secretsmanager:ap-southeast-4:123456789012:secret:a/b_c+d=e.f@g-AbCdEf", "ap-southeast-4"),
        ("arn:aws-cn:secretsmanager:cn-northwest-1:123456789012:secret:x", "cn-northwest-1"),
        ("arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:x", "us-gov-west-1"),
    ],
)
def test_the_region_is_the_secrets(arn: str, region: str) -> None:
    """In each partition the region is read from the ARN, whatever the host's region is."""
    assert region == DatabaseSettings.from_env(PRODUCTION | {"APP_DATABASE_SECRET_ARN": arn}).secret_region


def test_without_a_secret_there_is_no_region() -> None:
    """Asking for the region of a secret that is not set says which variable to set."""
    settings = DatabaseSettings.from_env(TEST)

    with pytest.raises(ConfigurationError, match="APP_DATABASE_SECRET_ARN is not set"):
        _ = settings.secret_region


@pytest.mark.parametrize(
    "arn",
    [
        "registrations",
        "arn:aws-iso:secretsmanager:us-iso-east-1:123456789012:secret:x",
        "arn:aws:ssm:eu-west-1:123456789012:parameter:x",
        "arn:aws:secretsmanager::123456789012:secret:x",
        "arn:aws:secretsmanager:eu-west:123456789012:secret:x",
        "arn:aws:secretsmanager:eu-west-1:12345678901:secret:x",
        "arn:aws:secretsmanager:eu-west-1:1234567890123:secret:x",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a b",
        f" {ARN}",
        f"{ARN}\n",
        "arn:aws:secretsmanager:eu-west-\N{FULLWIDTH DIGIT ONE}:123456789012:secret:x",
    ],
    ids=ascii,
)
def test_what_is_not_a_secrets_arn_is_refused(arn: str) -> None:
    """Another service, partition or form is a problem that says which form was expected."""
    (problem,) = problems_of(PRODUCTION | {"APP_DATABASE_SECRET_ARN": arn})

    assert problem.startswith("APP_DATABASE_SECRET_ARN is ")
    assert "expected arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME" in problem


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "service"),
        ({"AWS_LAMBDA_FUNCTION_NAME": ""}, "service"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "sign-up"}, "lambda"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "sign-up", "APP_DATABASE_POOL": ""}, "lambda"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "sign-up", "APP_DATABASE_POOL": "proxy"}, "proxy"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "sign-up", "APP_DATABASE_POOL": "service"}, "service"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else value,
)
def test_a_lambda_keeps_one_connection_unless_told_otherwise(environ: dict[str, str], expected: str) -> None:
    """The pool's default depends on whether this is a Lambda; what is set wins."""
    assert expected == DatabaseSettings.from_env(PRODUCTION | environ).pool


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("sign-up", "7", "sign-up:7"),
        ("sign-up", None, "sign-up:$LATEST"),
        ("sign-up", "", "sign-up:$LATEST"),
        ("f" * 61, "7", "f" * 61 + ":7"),
        ("f" * 62, "7", "f" * 61 + ":7"),
        ("f" * 64, "12345", "f" * 57 + ":12345"),
        ("f" * 64, "$LATEST", "f" * 55 + ":$LATEST"),
        ("", "7", "registration_persistence"),
    ],
)
def test_the_server_sees_which_function_is_connected(name: str, version: str | None, expected: str) -> None:
    """`application_name` is the function and its version, which stays whole within PostgreSQL's 63 bytes."""
    environ = {"AWS_LAMBDA_FUNCTION_NAME": name}
    if version is not None:
        environ["AWS_LAMBDA_FUNCTION_VERSION"] = version

    actual = DatabaseSettings.from_env(PRODUCTION | environ).application_name

    assert (expected, True) == (actual, len(actual.encode()) <= 63)


def test_settings_never_change() -> None:
    """No field can be set, and none added."""
    settings = DatabaseSettings.from_env(PRODUCTION)

    with pytest.raises(FrozenInstanceError):
        settings.host = "elsewhere"  # type: ignore[misc]  # the point
    with pytest.raises((AttributeError, TypeError)):
        settings.hostname = "elsewhere"  # type: ignore[attr-defined]  # the point

    assert (AURORA, False) == (settings.host, hasattr(settings, "__dict__"))


def test_settings_show_everything_but_the_password() -> None:
    """`repr` and `str` name host, database and user, and no password."""
    settings = DatabaseSettings.from_env(TEST | {"APP_DATABASE_PASSWORD": "hunter2"})

    for shown in (repr(settings), str(settings), f"{settings}", f"{[settings]}"):
        assert "host='127.0.0.1'" in shown
        assert "user='ada'" in shown
        assert "hunter2" not in shown
        assert "password" not in shown
    assert "hunter2" == settings.password


def test_an_error_of_the_environment_hides_the_password() -> None:
    """Neither the error's text nor a traceback with local variables shows a password that was refused."""
    with pytest.raises(ConfigurationError, match="APP_DATABASE_PASSWORD are allowed only") as raised:
        DatabaseSettings.from_env(TEST | {"APP_ENVIRONMENT": "prod"})

    report = traceback.TracebackException.from_exception(raised.value, capture_locals=True).format()
    assert "hunter2" not in "".join([str(raised.value), repr(raised.value), *raised.value.problems, *report])


def test_an_error_of_the_constructor_hides_the_password() -> None:
    """Settings made in code are refused without quoting the password."""
    with pytest.raises(ConfigurationError, match="APP_DATABASE_PASSWORD are allowed only") as raised:
        DatabaseSettings(host="h", name="n", user="ada", password="hunter2")

    assert "hunter2" not in "".join([str(raised.value), repr(raised.value), *raised.value.problems])


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("APP_DATABASE_SECRET_ARN", '{"username": "ada", "password": "hunter2"}'),
        ("APP_DATABASE_HOST", "postgresql://ada:hunter2@db.example/registrations"),
        ("APP_DATABASE_HOST", "ada:hunter2@db.example"),
    ],
    ids=["the secret instead of its ARN", "a URL instead of a host", "user and password before the host"],
)
def test_a_password_in_the_wrong_variable_is_not_shown(variable: str, text: str) -> None:
    """A secret's value where its ARN belongs, or a URL where the host belongs, is refused without being quoted."""
    (problem,) = problems_of(PRODUCTION | {variable: text})

    assert problem.startswith(f"{variable} is ")
    assert "hunter2" not in problem


ANY_TEXT = st.text(st.characters())
PLAUSIBLE = {
    "APP_DATABASE_HOST": st.sampled_from([AURORA, "127.0.0.1", "::1", "/run", "a b"]),
    "APP_DATABASE_PORT": st.integers(-1, 70_000).map(str),
    "APP_DATABASE_NAME": st.sampled_from(["registrations", "n" * 64]),
    "APP_DATABASE_SECRET_ARN": st.just(ARN),
    "APP_ENVIRONMENT": st.sampled_from(["prod", "staging", "dev", "test", "local"]),
    "APP_DATABASE_SSLMODE": st.sampled_from(["disable", "prefer", "require", "verify-ca", "verify-full"]),
    "APP_DATABASE_SSL_ROOT_CERT": st.sampled_from([str(SHIPPED), str(SHIPPED / "eu-west-1.pem"), "x" * 300]),
    "APP_DATABASE_POOL": st.sampled_from(["lambda", "service", "proxy"]),
    "APP_DATABASE_POOL_SIZE": st.integers(-1, 9).map(str),
    "APP_DATABASE_USER": st.just("ada"),
    "APP_DATABASE_CONNECT_TIMEOUT": st.floats().map(str),
    "APP_DATABASE_STATEMENT_TIMEOUT": st.floats().map(str),
    "APP_DATABASE_LOCK_TIMEOUT": st.floats().map(str),
    "APP_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT": st.floats().map(str),
    "AWS_LAMBDA_FUNCTION_NAME": st.just("sign-up"),
    "AWS_LAMBDA_FUNCTION_VERSION": st.just("7"),
}
ENVIRONMENTS = st.fixed_dictionaries(
    {},
    optional={variable: texts | ANY_TEXT for variable, texts in PLAUSIBLE.items()}
    | {"APP_DATABASE_PASSWORD": ANY_TEXT.map("hunter2{}".format)},
)


def test_the_property_covers_every_variable() -> None:
    """The test below draws a text for each variable that is read."""
    assert set(VARIABLES.values()) == {name for name in PLAUSIBLE if name.startswith("APP_")} | {
        "APP_DATABASE_PASSWORD"
    }


@given(base=st.sampled_from([{}, PRODUCTION, TEST]), environ=ENVIRONMENTS)
@example(base=TEST, environ={})
@example(base=PRODUCTION, environ={})
@example(base={}, environ=dict.fromkeys(VARIABLES.values(), "hunter"))
@hypothesis.settings(deadline=None, max_examples=300)
def test_any_environment_gives_settings_or_a_configuration_error(base: dict[str, str], environ: dict[str, str]) -> None:
    """Whatever texts the variables hold, nothing else is raised, and no password is shown."""
    outcome = outcome_of(base | environ)

    assert "hunter2" not in str(outcome) + repr(outcome)
    if isinstance(outcome, ConfigurationError):
        assert outcome.problems
        assert all("APP_" in problem for problem in outcome.problems)
    else:
        assert outcome == replace(outcome)
        assert outcome.environment in {"test", "local"} or outcome.sslmode not in {"disable", "allow", "prefer"}


@pytest.mark.parametrize(
    ("partition", "region", "expected"),
    [("aws", "cn-north-1", "aws-cn"), ("aws-cn", "eu-west-1", "aws"), ("aws", "us-gov-west-1", "aws-us-gov")],
)
def test_the_arns_partition_is_that_of_its_region(partition: str, region: str, expected: str) -> None:
    """An ARN that mixes the two was put together by hand, and is refused."""
    (problem,) = problems_of(
        PRODUCTION
        | {"APP_DATABASE_SECRET_ARN": f"arn:{partition}:secretsmanager:{region}:123456789012:secret:app-AbCdEf"}
    )

    assert problem.endswith(f"the region {region}: expected {expected}")
