"""The rules for `APP_DATABASE_*`, and the problem that each of them reports."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from database_environments import ARN, AURORA, PASSWORD, PRODUCTION, SHIPPED, TEST, outcome_of, problems_of
from hypothesis import example, given
from hypothesis import strategies as st

from registration_persistence import DatabaseSettings
from registration_persistence.database import settings_rules
from registration_persistence.database.settings_rules import VARIABLES
from registration_persistence.errors import ConfigurationError

LONGEST_TIMEOUT = 2_147_483.647
NUMBERS = ["five", "5,0", "0x10", "5 s", "1_0", "\N{ARABIC-INDIC DIGIT FIVE}", "9" * 5000]
TIMEOUTS = ("CONNECT", "STATEMENT", "LOCK", "IDLE_IN_TRANSACTION", "IDLE_SESSION")


def cut_off(text: str) -> str:
    """Return *text* as a message quotes it: at most 100 characters."""
    return repr(text) if len(text) <= 100 else f"{text[:100]!r}..."


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
            (TEST, {"APP_DATABASE_HOST": "a." * 128}, f"APP_DATABASE_HOST is '{'a.' * 50}'...: expected one host"),
            (PRODUCTION, {"APP_DATABASE_HOST": "/run"}, "APP_DATABASE_HOST is '/run', a Unix socket, where libpq uses"),
            (PRODUCTION, {"APP_DATABASE_HOST": "@run"}, "APP_DATABASE_HOST is '@run', a Unix socket, where libpq uses"),
            (TEST, {"APP_DATABASE_READER_HOST": "a b"}, "APP_DATABASE_READER_HOST is 'a b': expected one host name"),
            (TEST, {"APP_DATABASE_READER_HOST": "127.0.0.1"}, "APP_DATABASE_READER_HOST is '127.0.0.1', which is APP_"),
            (PRODUCTION, {"APP_DATABASE_READER_HOST": f"{AURORA.upper()}."}, "APP_DATABASE_READER_HOST is 'APP.CLUST"),
            (PRODUCTION, {"APP_DATABASE_READER_HOST": "/run"}, "APP_DATABASE_READER_HOST is '/run', a Unix socket,"),
            (
                PRODUCTION,
                {"APP_DATABASE_READER_HOST": "db.example"},
                "APP_DATABASE_SSLMODE is 'verify-full' by default but no",
            ),
            (TEST, {"APP_DATABASE_READER_HOST": AURORA}, "APP_ENVIRONMENT is 'test' but APP_DATABASE_READER_HOST is "),
            *(
                (TEST, {"APP_DATABASE_PORT": text}, f"APP_DATABASE_PORT is {cut_off(text)}: expected a whole")
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
            (
                PRODUCTION,
                {"APP_DATABASE_SECRET_SOURCE": "lambda"},
                "APP_DATABASE_SECRET_SOURCE is 'lambda': expected one of secrets-manager, extension",
            ),
            (
                TEST,
                {"APP_DATABASE_SECRET_SOURCE": "extension"},
                "APP_DATABASE_SECRET_SOURCE is 'extension', but APP_DATABASE_USER and APP_DATABASE_PASSWORD are set ",
            ),
            (
                PRODUCTION | {"APP_DATABASE_SECRET_ARN": "", "APP_DATABASE_USER": "ada"},
                {"APP_DATABASE_AUTH": "iam", "APP_DATABASE_SECRET_SOURCE": "extension"},
                "APP_DATABASE_SECRET_SOURCE is 'extension', but APP_DATABASE_AUTH is 'iam', which needs no secret",
            ),
            (
                PRODUCTION,
                {"APP_DATABASE_SSL_NEGOTIATION": "fast"},
                "APP_DATABASE_SSL_NEGOTIATION is 'fast': expected one of postgres, direct",
            ),
            *(
                (
                    TEST | {"APP_DATABASE_SSL_NEGOTIATION": "direct"},
                    {"APP_DATABASE_SSLMODE": mode},
                    f"APP_DATABASE_SSL_NEGOTIATION is 'direct' but APP_DATABASE_SSLMODE is {mode!r}, which can send",
                )
                for mode in ("disable", "allow", "prefer")
            ),
            *(
                (
                    PRODUCTION,
                    {"APP_DATABASE_TLS_GROUPS": groups},
                    f"APP_DATABASE_TLS_GROUPS is {groups!r}: expected different ones of P-256",
                )
                for groups in ("prime256v1", "p-256", "P-256:", ":", "P-256,X25519", "P-256:P-256", "P-256\nX = y")
            ),
            (PRODUCTION, {"APP_DATABASE_USER": "ada"}, "APP_DATABASE_USER and APP_DATABASE_PASSWORD are allowed only"),
            (
                PRODUCTION,
                {"APP_DATABASE_PASSWORD": PASSWORD},
                "APP_DATABASE_USER and APP_DATABASE_PASSWORD are allowed only if APP_ENVIRONMENT is test or local",
            ),
            (
                PRODUCTION,
                {"APP_DATABASE_SECRET_ARN": ARN, "APP_DATABASE_USER": "ada"},
                "APP_DATABASE_USER and APP_DATABASE_PASSWORD are allowed only if APP_ENVIRONMENT is test or local: uns",
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
                    f"APP_DATABASE_SSL_ROOT_CERT is set, but APP_DATABASE_SSLMODE is {mode!r}: expected",
                )
                for mode in ("disable", "allow", "prefer", "require")
            ),
            *(
                (
                    PRODUCTION,
                    {"APP_DATABASE_REQUIRE_AUTH": text},
                    f"APP_DATABASE_REQUIRE_AUTH is {text!r}: expected one of",
                )
                for text in ("none", "SCRAM-SHA-256", "!password", "scram-sha-256,none", "gss")
            ),
            *(
                (
                    PRODUCTION | {"APP_ENVIRONMENT": environment, **address},
                    {"APP_DATABASE_REQUIRE_AUTH": "password"},
                    "APP_DATABASE_REQUIRE_AUTH is 'password' but APP_DATABASE_SSLMODE is 'require', so any server that",
                )
                for environment in ("prod", "staging", "dev")
                for address in ({"APP_DATABASE_HOST": "db.example"}, {"APP_DATABASE_SSLMODE": "require"})
            ),
            *(
                (
                    TEST,
                    {"APP_DATABASE_NAME": name},
                    f"APP_DATABASE_NAME is {name!r}, which the server keeps for itself: ",
                )
                for name in ("template0", "template1", "rdsadmin")
            ),
            (TEST, {"APP_DATABASE_POOL": "Lambda"}, "APP_DATABASE_POOL is 'Lambda': expected one of lambda, service, "),
            *(
                (TEST, {"APP_DATABASE_POOL_SIZE": text}, f"APP_DATABASE_POOL_SIZE is {cut_off(text)}: expected a whole")
                for text in NUMBERS
            ),
            (
                TEST,
                {"APP_DATABASE_POOL_SIZE": "0"},
                "APP_DATABASE_POOL_SIZE is 0: expected a whole number from 1 to ",
            ),
            (TEST, {"APP_DATABASE_POOL_SIZE": "5001"}, "APP_DATABASE_POOL_SIZE is 5001: expected a whole number from"),
            (TEST, {"APP_DATABASE_POOL_SIZE": "9" * 21}, f"APP_DATABASE_POOL_SIZE is {'9' * 21}: expected a whole num"),
            (
                TEST,
                {"APP_DATABASE_POOL_SIZE": "9" * 99},
                "APP_DATABASE_POOL_SIZE is a number of 329 bits: expected a whole number from 1 to 5000",
            ),
            (TEST, {"APP_DATABASE_USER": "é" * 32}, "APP_DATABASE_USER has 64 bytes: expected at most 63"),
            (TEST, {"APP_DATABASE_HOST": "/run/\0"}, "APP_DATABASE_HOST is '/run/\\x00': expected a path without NUL"),
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
def test_a_wrong_variable_is_one_problem(base: dict[str, str], changes: dict[str, str], expected: str) -> None:
    """The problem names the variable and the expectation, and no other rule is broken."""
    assert (expected,) == tuple(problem[: len(expected)] for problem in problems_of(base | changes))


def test_all_problems_are_reported_together() -> None:
    """One error lists the problems of all variables, whether they cannot be parsed or are not allowed."""
    with pytest.raises(ConfigurationError) as raised:
        DatabaseSettings.from_env(
            {
                "APP_ENVIRONMENT": "production",
                "APP_DATABASE_HOST": "a b",
                "APP_DATABASE_READER_HOST": "a b c",
                "APP_DATABASE_PORT": "0",
                "APP_DATABASE_NAME": "",
                "APP_DATABASE_AUTH": "kerberos",
                "APP_DATABASE_SECRET_ARN": "registrations",
                "APP_DATABASE_SECRET_SOURCE": "file",
                "APP_DATABASE_USER": "ada",
                "APP_DATABASE_PASSWORD": PASSWORD,
                "APP_DATABASE_SSLMODE": "prefer",
                "APP_DATABASE_SSL_ROOT_CERT": "/no/such.pem",
                "APP_DATABASE_REQUIRE_AUTH": "none",
                "APP_DATABASE_SSL_NEGOTIATION": "fast",
                "APP_DATABASE_TLS_GROUPS": "prime256v1",
                "APP_DATABASE_POOL": "big",
                "APP_DATABASE_POOL_SIZE": "many",
                "APP_DATABASE_CONNECT_TIMEOUT": "1",
                "APP_DATABASE_STATEMENT_TIMEOUT": "soon",
                "APP_DATABASE_LOCK_TIMEOUT": "-1",
                "APP_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT": "nan",
                "APP_DATABASE_IDLE_SESSION_TIMEOUT": "1 minute",
            }
        )

    error = raised.value
    assert sorted(set(VARIABLES.values()) - {"APP_DATABASE_PASSWORD"}) == sorted(
        problem.split()[0] for problem in error.problems
    )
    assert all(f"\n  - {problem}" in str(error) for problem in error.problems)
    assert not error.retryable


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


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("port", "5432", "APP_DATABASE_PORT is '5432', of the type str: expected a whole number from 1 to 65535"),
        ("port", True, "APP_DATABASE_PORT is of the type bool: expected a whole number from 1 to 65535"),
        ("port", 5432.0, "APP_DATABASE_PORT is of the type float: expected a whole number from 1 to 65535"),
        ("port", None, "APP_DATABASE_PORT is of the type NoneType: expected a whole number from 1 to 65535"),
        (
            "port",
            "ada:hunter2@db",
            "APP_DATABASE_PORT is a value that is not shown, as it may hold a password, of the ",
        ),
        ("pool_size", "5", "APP_DATABASE_POOL_SIZE is '5', of the type str: expected a whole number from 1 to 5000"),
        ("pool_size", False, "APP_DATABASE_POOL_SIZE is of the type bool: expected a whole number from 1 to 5000"),
        ("pool_size", 10**5000, "APP_DATABASE_POOL_SIZE is a number of 16610 bits: expected a whole number from 1 to"),
        ("host", 5, "APP_DATABASE_HOST is of the type int: expected text"),
        ("host", b"hunter2@db", "APP_DATABASE_HOST is of the type bytes: expected text"),
        ("host", None, "APP_DATABASE_HOST is not set: expected the cluster's endpoint"),
        ("name", ["app"], "APP_DATABASE_NAME is of the type list: expected text"),
        ("user", 7, "APP_DATABASE_USER is of the type int: expected text"),
        ("password", b"hunter2", "APP_DATABASE_PASSWORD is of the type bytes: expected text"),
        (
            "ssl_root_cert",
            SHIPPED / "eu-west-1.pem",
            "APP_DATABASE_SSL_ROOT_CERT is of the type PosixPath: expected text",
        ),
        ("sslmode", True, "APP_DATABASE_SSLMODE is True: expected one of disable, "),
        ("pool", ["lambda"], "APP_DATABASE_POOL is ['lambda']: expected one of lambda, "),
        ("statement_timeout", 10**400, "APP_DATABASE_STATEMENT_TIMEOUT is inf: expected 0 to 2147483.647 seconds"),
        ("application_name", 7, "application_name is of the type int: expected text"),
        ("application_name", "", "application_name is empty, holds NUL or is not UTF-8: expected text"),
        ("application_name", "a\0b", "application_name is empty, holds NUL or is not UTF-8: expected text"),
        ("application_name", "n" * 64, "application_name has 64 bytes: expected at most 63"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_wrong_type_in_code_is_one_problem(name: str, value: object, problem: str) -> None:
    """Settings made in code have the rules of the environment; no type causes another error, and no secret is shown."""
    changes: dict[str, Any] = {name: value}

    with pytest.raises(ConfigurationError) as raised:
        replace(DatabaseSettings.from_env(TEST), **changes)

    assert (problem,) == tuple(each[: len(problem)] for each in raised.value.problems)
    assert "hunter2" not in str(raised.value)


def test_a_secret_of_a_wrong_type_is_one_problem() -> None:
    """The ARN of a secret is text, too."""
    arguments: dict[str, Any] = {"secret_arn": 5}

    with pytest.raises(ConfigurationError) as raised:
        DatabaseSettings(host=AURORA, name="registrations", **arguments)

    assert ("APP_DATABASE_SECRET_ARN is of the type int: expected text",) == raised.value.problems


@pytest.mark.parametrize(
    ("variable", "similar"),
    [
        ("APP_DATABASE_SSL_MODE", "APP_DATABASE_SSLMODE"),
        ("app_database_sslmode", "APP_DATABASE_SSLMODE"),
        ("APP_DATABASE_STATEMENT_TIMOUT", "APP_DATABASE_STATEMENT_TIMEOUT"),
        ("APP_DATABASE_USERNAME", "APP_DATABASE_USER"),
        ("APP_DATABASE_DBNAME", "APP_DATABASE_NAME"),
        ("APP_DATABASE_PASSWORT", "APP_DATABASE_PASSWORD"),
        ("APP_DATABASE_HOSTNAME", "APP_DATABASE_HOST"),
        ("APP_DATABASE_POOLSIZE", "APP_DATABASE_POOL_SIZE"),
        ("APP_DATABASE_SECRET", "APP_DATABASE_SECRET_ARN"),
        ("APP_DATABASE_host", "APP_DATABASE_HOST"),
    ],
)
@pytest.mark.parametrize("base", [PRODUCTION, TEST])
def test_an_unknown_variable_is_a_problem(base: dict[str, str], variable: str, similar: str) -> None:
    """A misspelt variable is reported with the most similar one, and without its value."""
    assert (f"{variable} is unknown: unset it; the most similar variable is {similar}",) == problems_of(
        base | {variable: "hunter2"}
    )


def test_unknown_variables_are_reported_with_all_other_problems() -> None:
    """They come after the problems of the known variables, in alphabetical order."""
    changes = {"APP_DATABASE_PORT": "0", "APP_DATABASE_Z": "1", "APP_DATABASE_": "1"}

    assert ["APP_DATABASE_PORT", "APP_DATABASE_", "APP_DATABASE_Z"] == [
        problem.split()[0] for problem in problems_of(TEST | changes)
    ]


@pytest.mark.parametrize(
    "others",
    [
        {"APP_DATABASE_SSL_MODE": ""},
        {"APP_NAME": "x", "APP_DATABASES": "x", "APPDATABASE_HOST": "x", "MY_APP_DATABASE_HOST": "x"},
        dict.fromkeys(settings_rules.BOOTSTRAP_VARIABLES, "x"),
    ],
    ids=["empty", "another prefix", "bootstrap"],
)
def test_variables_of_others_are_ignored(others: dict[str, str]) -> None:
    """An empty variable counts as not set; variables of the service and of the other commands are allowed."""
    assert DatabaseSettings.from_env(PRODUCTION) == DatabaseSettings.from_env(PRODUCTION | others)


@pytest.mark.parametrize("environment", ["", "production", "Test", "tests", "qa"])
def test_an_unknown_environment_has_the_rules_of_production(environment: str) -> None:
    """Without a known environment, plaintext, sockets and passwords are rejected."""
    changes = {"APP_ENVIRONMENT": environment, "APP_DATABASE_SSLMODE": "disable", "APP_DATABASE_HOST": "/run"}

    problems = "\n".join(problems_of(TEST | changes))

    assert "APP_DATABASE_SSLMODE is 'disable', which can send data without TLS" in problems
    assert "APP_DATABASE_HOST is '/run', a Unix socket" in problems
    assert "APP_DATABASE_USER and APP_DATABASE_PASSWORD are allowed only if" in problems


@pytest.mark.parametrize("environment", ["prod", "staging", "dev"])
def test_a_password_is_allowed_only_in_test_and_local(environment: str) -> None:
    """Environments of a cloud reject user and password."""
    (problem,) = problems_of(TEST | {"APP_ENVIRONMENT": environment})

    assert problem.startswith("APP_DATABASE_USER and APP_DATABASE_PASSWORD are allowed only if APP_ENVIRONMENT is")


@pytest.mark.parametrize("path", ["x" * 300, "x\0", "\udcff"], ids=["long", "NUL", "surrogate"])
def test_an_impossible_path_is_a_problem(path: str) -> None:
    """A root certificate whose name the system cannot look up is reported like any other problem."""
    changes = {"APP_DATABASE_SSLMODE": "verify-full", "APP_DATABASE_SSL_ROOT_CERT": path}

    (problem,) = problems_of(PRODUCTION | changes)

    assert problem.startswith("APP_DATABASE_SSL_ROOT_CERT is ")


@pytest.mark.parametrize(
    "arn",
    [
        "registrations",
        "arn:gcp:secretsmanager:eu-west-1:123456789012:secret:x",
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
def test_an_arn_of_another_form_is_rejected(arn: str) -> None:
    """For another service, partition or form, the problem has the expected form."""
    (problem,) = problems_of(PRODUCTION | {"APP_DATABASE_SECRET_ARN": arn})

    assert problem.startswith("APP_DATABASE_SECRET_ARN is ")
    assert "expected arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME" in problem


@pytest.mark.parametrize(
    ("partition", "region", "expected"),
    [
        ("aws", "cn-north-1", "aws-cn"),
        ("aws-cn", "eu-west-1", "aws"),
        ("aws", "us-gov-west-1", "aws-us-gov"),
        ("aws-iso", "us-isob-east-1", "aws-iso-b"),
        ("aws", "eusc-de-east-1", "aws-eusc"),
    ],
)
def test_the_partition_of_an_arn_is_that_of_its_region(partition: str, region: str, expected: str) -> None:
    """An ARN with another partition is rejected."""
    (problem,) = problems_of(
        PRODUCTION
        | {"APP_DATABASE_SECRET_ARN": f"arn:{partition}:secretsmanager:{region}:123456789012:secret:app-AbCdEf"}
    )

    assert problem.endswith(f"the region {region}: expected {expected}")


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
    """A secret's value instead of its ARN, or a URL instead of the host, is rejected without being quoted."""
    (problem,) = problems_of(PRODUCTION | {variable: text})

    assert problem.startswith(f"{variable} is ")
    assert "hunter2" not in problem


ANY_TEXT = st.text(st.characters())
PLAUSIBLE = {
    "APP_DATABASE_HOST": st.sampled_from([AURORA, "127.0.0.1", "::1", "/run", "a b"]),
    "APP_DATABASE_READER_HOST": st.sampled_from([f"reader-{AURORA}", "127.0.0.2", "/run", "a b"]),
    "APP_DATABASE_PORT": st.integers(-1, 70_000).map(str),
    "APP_DATABASE_NAME": st.sampled_from(["registrations", "n" * 64]),
    "APP_DATABASE_AUTH": st.sampled_from(["secret", "iam"]),
    "APP_DATABASE_SECRET_ARN": st.just(ARN),
    "APP_DATABASE_SECRET_SOURCE": st.sampled_from(["secrets-manager", "extension"]),
    "APP_ENVIRONMENT": st.sampled_from(["prod", "staging", "dev", "test", "local"]),
    "APP_DATABASE_SSLMODE": st.sampled_from(["disable", "prefer", "require", "verify-ca", "verify-full"]),
    "APP_DATABASE_SSL_ROOT_CERT": st.sampled_from([str(SHIPPED), str(SHIPPED / "eu-west-1.pem"), "x" * 300]),
    "APP_DATABASE_REQUIRE_AUTH": st.sampled_from(["scram-sha-256", "md5", "password"]),
    "APP_DATABASE_TLS_GROUPS": st.sampled_from(["P-256", "P-256:X25519", "P-256:P-256"]),
    "APP_DATABASE_SSL_NEGOTIATION": st.sampled_from(["postgres", "direct"]),
    "APP_DATABASE_POOL": st.sampled_from(["lambda", "service", "proxy"]),
    "APP_DATABASE_POOL_SIZE": st.integers(-1, 9).map(str),
    "APP_DATABASE_USER": st.just("ada"),
    "APP_DATABASE_CONNECT_TIMEOUT": st.floats().map(str),
    "APP_DATABASE_STATEMENT_TIMEOUT": st.floats().map(str),
    "APP_DATABASE_LOCK_TIMEOUT": st.floats().map(str),
    "APP_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT": st.floats().map(str),
    "APP_DATABASE_IDLE_SESSION_TIMEOUT": st.floats().map(str),
    "AWS_LAMBDA_FUNCTION_NAME": st.just("sign-up"),
    "AWS_LAMBDA_FUNCTION_VERSION": st.just("7"),
}
ENVIRONMENTS = st.fixed_dictionaries(
    {},
    optional={variable: texts | ANY_TEXT for variable, texts in PLAUSIBLE.items()}
    | {"APP_DATABASE_PASSWORD": ANY_TEXT.map("hunter2{}".format)},
)


def test_every_variable_is_generated() -> None:
    """The next test generates a text for each variable."""
    assert set(VARIABLES.values()) == {name for name in PLAUSIBLE if name.startswith("APP_")} | {
        "APP_DATABASE_PASSWORD"
    }


@given(base=st.sampled_from([{}, PRODUCTION, TEST]), environ=ENVIRONMENTS)
@example(base=TEST, environ={})
@example(base=PRODUCTION, environ={})
@example(base={}, environ=dict.fromkeys(VARIABLES.values(), "hunter"))
@hypothesis.settings(deadline=None, max_examples=300)
def test_any_environment_gives_settings_or_a_configuration_error(base: dict[str, str], environ: dict[str, str]) -> None:
    """No text causes another error, and no password is shown."""
    outcome = outcome_of(base | environ)

    assert "hunter2" not in str(outcome) + repr(outcome)
    if isinstance(outcome, ConfigurationError):
        assert outcome.problems
        assert all("APP_" in problem for problem in outcome.problems)
    else:
        assert outcome == replace(outcome)
        assert outcome.environment in {"test", "local"} or outcome.sslmode not in {"disable", "allow", "prefer"}


LINE_BREAKS = ["\n", "\r", "\t", "\x0b", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u202e"]


@pytest.mark.parametrize("character", LINE_BREAKS, ids=ascii)
def test_no_text_holds_a_line_break(character: str, tmp_path: Path) -> None:
    """One problem names the variable, and the message does not hold the character; a password may hold any but NUL."""
    for variable, text in {
        "APP_DATABASE_HOST": "db.example",
        "APP_DATABASE_READER_HOST": "reader.example",
        "APP_DATABASE_NAME": "registrations",
        "APP_DATABASE_SECRET_ARN": ARN,
        "APP_DATABASE_SSLMODE": "require",
        "APP_DATABASE_REQUIRE_AUTH": "md5",
        "APP_DATABASE_POOL": "lambda",
        "APP_DATABASE_OWNER_ROLE": "owner",
        "APP_DATABASE_APPLICATION_SECRET_ARN": ARN,
        "APP_DATABASE_MONITORING_SECRET_ARN": ARN,
        "APP_DATABASE_UNKNOWN": "x",
        f"APP_DATABASE_{character}X": "x",
    }.items():
        (problem,) = problems_of(PRODUCTION | {variable: text + character})
        assert problem.startswith((variable, ascii(variable)))
        assert problem.isprintable()
    for variable, text in {"APP_DATABASE_HOST": "/run/postgresql", "APP_DATABASE_USER": "ada"}.items():
        (problem,) = problems_of(TEST | {variable: f"{text}{character}forged"})
        assert problem == f"{variable} holds a line break or another control character: expected printable characters"
    (problem,) = problems_of(PRODUCTION | {"APP_ENVIRONMENT": f"prod{character}"})
    assert problem.isprintable()
    (file := tmp_path / f"root{character}.pem").touch()
    (problem,) = problems_of(PRODUCTION | {"APP_DATABASE_SSL_ROOT_CERT": str(file)})
    assert problem.startswith("APP_DATABASE_SSL_ROOT_CERT holds a line break")
    with pytest.raises(ConfigurationError, match="application_name holds a line break"):
        replace(DatabaseSettings.from_env(PRODUCTION), application_name=f"sign{character}up")
    assert problems_of(TEST | {"APP_DATABASE_PASSWORD": f"a{character}b"}) == ()
    named = PRODUCTION | {"AWS_LAMBDA_FUNCTION_NAME": f"sign{character}up"}
    assert DatabaseSettings.from_env(named).application_name.isprintable()


RDS_HOSTS = [
    AURORA,
    AURORA.upper() + ".",
    "app.proxy-c1a2b3.eu-west-1.rds.amazonaws.com",
    "app.c1a2b3.mx-central-1.rds.amazonaws.com",
    "app.cluster-c1a2b3.us-gov-west-1.rds.amazonaws.com",
    "app.cluster-c1a2b3.cn-north-1.rds.amazonaws.com.cn",
    "app.cluster-c1a2b3.rds.cn-north-1.amazonaws.com.cn",
    "app.cluster-c1a2b3.eusc-de-east-1.rds.amazonaws.eu",
    "app.cluster-c1a2b3.us-iso-east-1.rds.c2s.ic.gov",
]


@pytest.mark.parametrize("environment", ["test", "local"])
@pytest.mark.parametrize("host", RDS_HOSTS)
@pytest.mark.parametrize("emulator", [{}, {"AWS_SAM_LOCAL": "true"}], ids=["", "emulator"])
def test_test_and_local_are_refused_for_a_host_of_rds(environment: str, host: str, emulator: dict[str, str]) -> None:
    """Data would be sent to AWS without TLS; also refused in an emulator, and for settings in code."""
    environ = TEST | {"APP_ENVIRONMENT": environment, "APP_DATABASE_HOST": host}

    (problem,) = problems_of(environ | emulator)

    assert problem == (
        f"APP_ENVIRONMENT is {environment!r} but APP_DATABASE_HOST is {host!r}, an endpoint of Amazon RDS: "
        "set APP_ENVIRONMENT to dev, staging or prod"
    )
    with pytest.raises(ConfigurationError, match="an endpoint of Amazon RDS"):
        replace(DatabaseSettings.from_env(TEST), host=host)


LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "sign-up"}


@pytest.mark.parametrize("environment", ["test", "local"])
@pytest.mark.parametrize(
    "variables",
    [LAMBDA, {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"}, {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.12"}],
    ids=lambda variables: next(iter(variables)),
)
@pytest.mark.parametrize("host", ["db.example.org", "10.0.0.7", "localhost.example.org", "fd00::7"])
def test_test_and_local_are_refused_on_lambda(
    environment: str, variables: dict[str, str], host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function in production with the variables of a test is refused, also with settings that are made in code."""
    environ = TEST | {"APP_ENVIRONMENT": environment, "APP_DATABASE_HOST": host}

    (problem,) = problems_of(environ | variables)

    assert problem == (
        f"APP_ENVIRONMENT is {environment!r} but {next(iter(variables))} is set, so this process is a Lambda function: "
        "set APP_ENVIRONMENT to dev, staging or prod, or in an emulator of Lambda set AWS_SAM_LOCAL to true"
    )
    settings = DatabaseSettings.from_env(environ)
    for variable, text in variables.items():
        monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError, match="is a Lambda function"):
        replace(settings)


@pytest.mark.parametrize(
    ("variables", "host"),
    [
        *((LAMBDA, host) for host in ("localhost", "LOCALHOST.", "db.localhost", "127.0.0.2", "::1", "/run", "@db")),
        (LAMBDA | {"AWS_SAM_LOCAL": "true"}, "host.docker.internal"),
        ({"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}, "db.example.org"),
        ({}, "db.example.org"),
        ({}, "rds.example.org"),
        ({}, "app.eu-west-1.rds.evil.example"),
    ],
)
def test_test_and_local_are_allowed_without_aws(variables: dict[str, str], host: str) -> None:
    """A database on this machine, an emulator such as `sam local`, and a host outside of RDS are allowed."""
    assert DatabaseSettings.from_env(TEST | variables | {"APP_DATABASE_HOST": host}).host == host
