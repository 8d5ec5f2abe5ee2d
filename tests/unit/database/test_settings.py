"""`DatabaseSettings`, made from an environment or in code."""

import json
import traceback
from dataclasses import FrozenInstanceError, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import botocore
import pytest
from database_environments import ARN, AURORA, PRODUCTION, SHIPPED, TEST, problems_of
from psycopg import pq

from registration_persistence import DatabaseSettings
from registration_persistence.database.connection_parameters import connection_parameters
from registration_persistence.database.settings_rules import TIMEOUTS as TIMEOUT_SETTINGS
from registration_persistence.database.settings_rules import VARIABLES
from registration_persistence.durations import Duration
from registration_persistence.errors import ConfigurationError

LONGEST_TIMEOUT = 2_147_483.647


def values_of(settings: DatabaseSettings) -> dict[str, object]:
    """Return every setting by name, also the password."""
    return {field.name: getattr(settings, field.name) for field in fields(settings)}


def test_three_variables_are_enough() -> None:
    """Host, name and secret give settings for production, and every default is as documented."""
    assert {
        "host": AURORA,
        "reader_host": None,
        "name": "registrations",
        "port": 5432,
        "auth": "secret",
        "secret_arn": ARN,
        "secret_source": "secrets-manager",
        "environment": "prod",
        "sslmode": "verify-full",
        "ssl_root_cert": None,
        "require_auth": "scram-sha-256",
        "ssl_negotiation": "postgres",
        "tls_groups": "",
        "pool": "service",
        "pool_size": 5,
        "user": None,
        "password": None,
        "connect_timeout": 10.0,
        "statement_timeout": 15.0,
        "lock_timeout": 5.0,
        "idle_in_transaction_timeout": 30.0,
        "idle_session_timeout": 0.0,
        "application_name": "registration_persistence",
    } == values_of(DatabaseSettings.from_env(PRODUCTION))


def test_the_environment_and_the_constructor_have_the_same_defaults() -> None:
    """A missing variable and a missing argument have the same default."""
    assert DatabaseSettings(host=AURORA, name="registrations", secret_arn=ARN) == DatabaseSettings.from_env(PRODUCTION)


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument `from_env` reads the current environment of the process."""
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
        ("APP_DATABASE_SECRET_SOURCE", "secrets-manager", "secret_source", "secrets-manager"),
        ("APP_DATABASE_REQUIRE_AUTH", "md5", "require_auth", "md5"),
        ("APP_DATABASE_REQUIRE_AUTH", "password", "require_auth", "password"),
        ("APP_DATABASE_SSL_NEGOTIATION", "postgres", "ssl_negotiation", "postgres"),
        ("APP_DATABASE_TLS_GROUPS", "P-256:X25519", "tls_groups", "P-256:X25519"),
        ("APP_DATABASE_TLS_GROUPS", "P-256:P-384:P-521:X25519:X448", "tls_groups", "P-256:P-384:P-521:X25519:X448"),
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
        ("APP_DATABASE_IDLE_SESSION_TIMEOUT", "60", "idle_session_timeout", 60.0),
        ("APP_DATABASE_IDLE_SESSION_TIMEOUT", str(LONGEST_TIMEOUT), "idle_session_timeout", LONGEST_TIMEOUT),
    ],
)
def test_each_variable_sets_one_field(variable: str, text: str, field: str, expected: object) -> None:
    """The limits of each variable are valid, and no other field changes."""
    plain = values_of(DatabaseSettings.from_env(TEST))

    assert plain | {field: expected} == values_of(DatabaseSettings.from_env(TEST | {variable: text}))


@pytest.mark.parametrize("environment", ["prod", "staging", "dev"])
@pytest.mark.parametrize("sslmode", ["require", "verify-ca", "verify-full"])
def test_cloud_environments_need_a_secret_and_tls(environment: str, sslmode: str) -> None:
    """Each of them accepts every mode that encrypts."""
    settings = DatabaseSettings.from_env(PRODUCTION | {"APP_ENVIRONMENT": environment, "APP_DATABASE_SSLMODE": sslmode})

    assert (environment, sslmode, ARN) == (settings.environment, settings.sslmode, settings.secret_arn)


@pytest.mark.parametrize("environment", ["test", "local"])
def test_a_secret_is_also_allowed_in_test_and_local(environment: str) -> None:
    """`test` and `local` can read the secret as production does."""
    changes = {"APP_ENVIRONMENT": environment, "APP_DATABASE_HOST": "localhost"}
    assert ARN == DatabaseSettings.from_env(PRODUCTION | changes).secret_arn


@pytest.mark.parametrize("variable", VARIABLES.values())
def test_an_empty_variable_counts_as_not_set(variable: str) -> None:
    """It has the default, or the problem of a missing variable."""
    for environ in (PRODUCTION, TEST):
        without = {name: text for name, text in environ.items() if name != variable}
        emptied = environ | {variable: ""}

        assert problems_of(without) == problems_of(emptied)
        if not problems_of(without):
            assert DatabaseSettings.from_env(without) == DatabaseSettings.from_env(emptied)


def test_the_constructor_has_the_same_rules() -> None:
    """Settings that are created in code, or changed with `replace`, are validated, too."""
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
def test_the_root_certificate_depends_on_mode_host_and_file(
    sslmode: str, host: str, own: Path | None, expected: Path | None
) -> None:
    """A mode that verifies uses the named file, or else the shipped file of the host."""
    settings = DatabaseSettings.from_env(
        PRODUCTION
        | {
            "APP_DATABASE_HOST": host,
            "APP_DATABASE_SSLMODE": sslmode,
            "APP_DATABASE_SSL_ROOT_CERT": "" if own is None else str(own),
        }
    )

    assert expected == settings.root_certificate


@pytest.mark.parametrize(
    ("host", "own", "expected"),
    [
        (AURORA, "", "verify-full"),
        (AURORA + ".", "", "verify-full"),
        (AURORA.upper(), "", "verify-full"),
        ("app.proxy-c1a2b3.eu-west-1.rds.amazonaws.com", "", "verify-full"),
        ("app.cluster-c1a2b3.il-central-1.rds.amazonaws.com", "", "verify-full"),
        ("app.cluster-c1a2b3.ca-west-1.rds.amazonaws.com", "", "verify-full"),
        ("app.cluster-c1a2b3.us-gov-west-1.rds.amazonaws.com", "", "require"),
        ("app.cluster-c1a2b3.us-gov-west-1.rds.amazonaws.com", "us-east-1.pem", "verify-full"),
        ("app.cluster-c1a2b3.rds.cn-north-1.amazonaws.com.cn", "", "require"),
        ("db.example.org", "", "require"),
        ("db.example.org", "us-east-1.pem", "verify-full"),
        ("10.0.0.7", "", "require"),
        ("app.cluster-c1a2b3.eu-west-1.rds.amazonaws.com.evil.example", "", "require"),
    ],
)
@pytest.mark.parametrize("environment", ["prod", "staging", "dev"])
def test_the_default_sslmode_verifies_each_server_with_a_known_authority(
    environment: str, host: str, own: str, expected: str
) -> None:
    """It is `verify-full` with a shipped or given root certificate and `require` without; `require` can be set."""
    changes = {"APP_ENVIRONMENT": environment, "APP_DATABASE_HOST": host}
    file = {"APP_DATABASE_SSL_ROOT_CERT": str(SHIPPED / own)} if own else {}

    settings = DatabaseSettings.from_env(PRODUCTION | changes | file)
    explicit = DatabaseSettings.from_env(PRODUCTION | changes | {"APP_DATABASE_SSLMODE": "require"})

    assert (expected, "require") == (settings.sslmode, explicit.sslmode)
    assert (settings.root_certificate is None) == (expected == "require")
    made = DatabaseSettings(
        host=host, name="registrations", secret_arn=ARN, ssl_root_cert=str(SHIPPED / own) if own else None
    )
    assert expected == made.sslmode


@pytest.mark.parametrize(
    ("environment", "require_auth", "accepted"),
    [
        ("prod", None, "scram-sha-256"),
        ("dev", "md5", "scram-sha-256,md5"),
        ("staging", "password", "scram-sha-256,md5,password"),
        ("test", None, "scram-sha-256,none"),
        ("local", None, "scram-sha-256,none"),
        ("local", "password", "scram-sha-256,md5,password,none"),
    ],
)
def test_the_server_may_ask_for_the_password_only_in_the_allowed_ways(
    environment: str, require_auth: str | None, accepted: str
) -> None:
    """Only SCRAM by default; only `test` and `local` accept a server that asks for nothing."""
    base = PRODUCTION if environment not in {"test", "local"} else TEST
    changes = {"APP_ENVIRONMENT": environment, "APP_DATABASE_REQUIRE_AUTH": require_auth or ""}

    assert accepted == connection_parameters(DatabaseSettings.from_env(base | changes))["require_auth"]


def test_a_libpq_that_would_send_the_password_in_clear_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libpq before version 16 does not know `require_auth`, so any server could ask for the password."""
    older = [default for default in pq.Conninfo.get_defaults() if default.keyword != b"require_auth"]
    monkeypatch.setattr(pq.Conninfo, "get_defaults", lambda: older)

    with pytest.raises(ConfigurationError, match="expected 160000 or later: install psycopg"):
        connection_parameters(DatabaseSettings.from_env(PRODUCTION))


def test_a_libpq_without_direct_tls_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libpq before version 17 would ask the server first, although the setting says `direct`."""
    older = [default for default in pq.Conninfo.get_defaults() if default.keyword != b"sslnegotiation"]
    monkeypatch.setattr(pq.Conninfo, "get_defaults", lambda: older)

    assert connection_parameters(DatabaseSettings.from_env(PRODUCTION))
    with pytest.raises(ConfigurationError, match="expected 170000 or later: install psycopg"):
        connection_parameters(DatabaseSettings.from_env(PRODUCTION | {"APP_DATABASE_SSL_NEGOTIATION": "direct"}))


@pytest.mark.parametrize(
    ("arn", "region"),
    [
        (ARN, "eu-west-1"),
        ("arn:aws:secretsmanager:ap-southeast-4:123456789012:secret:a/b_c+d=e.f@g-AbCdEf", "ap-southeast-4"),
        ("arn:aws-cn:secretsmanager:cn-northwest-1:123456789012:secret:x", "cn-northwest-1"),
        ("arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:x", "us-gov-west-1"),
        ("arn:aws-us-gov-a:secretsmanager:us-new-west-12:123456789012:secret:x", "us-new-west-12"),
    ],
)
def test_the_region_is_that_of_the_secret(arn: str, region: str) -> None:
    """The region is read from the ARN in each partition, whatever the region of the host is."""
    assert region == DatabaseSettings.from_env(PRODUCTION | {"APP_DATABASE_SECRET_ARN": arn}).secret_region


@pytest.mark.parametrize(
    "name",
    [
        "rds!cluster-0b9e4c1a-1f3d-4b7e-9a53-2c6f1a9d7e40-AbCdEf",
        "rds!db-0b9e4c1a-1f3d-4b7e-9a53-2c6f1a9d7e40-AbCdEf",
        "rds!cluster-0b9e4c1a",
        "x",
        "/_+=.@-!",
        "a" * 512 + "-AbCdEf",
        "app/prod/database",
    ],
    ids=lambda name: name[:20],
)
def test_every_name_of_a_secret_is_accepted(name: str) -> None:
    """The name may have any length and every character that Secrets Manager allows, with and without the suffix."""
    arn = f"arn:aws:secretsmanager:eu-central-1:123456789012:secret:{name}"

    assert (arn, "eu-central-1") == (DatabaseSettings(host="h", name="n", secret_arn=arn).secret_arn, region_of(arn))


def test_every_region_of_aws_is_accepted_with_its_partition() -> None:
    """Partitions and regions are compared with those that botocore knows; another partition is rejected."""
    partitions = json.loads((Path(botocore.__file__).with_name("data") / "partitions.json").read_text())["partitions"]
    known = {
        region: partition["id"]
        for partition in partitions
        for region in partition["regions"]
        if not region.endswith("-global")
    }
    assert {"eu-west-1", "eusc-de-east-1", "us-iso-east-1", "us-isob-east-1"} <= known.keys()

    for region, partition in known.items():
        arn = f"arn:{partition}:secretsmanager:{region}:123456789012:secret:app-AbCdEf"
        assert region == region_of(arn)
        for other in {*known.values()} - {partition}:
            wrong = PRODUCTION | {"APP_DATABASE_SECRET_ARN": arn.replace(partition, other, 1)}
            assert [True] == [problem.endswith(f"expected {partition}") for problem in problems_of(wrong)]


def region_of(arn: str) -> str:
    """Return the region that the settings read from *arn*."""
    return DatabaseSettings.from_env(PRODUCTION | {"APP_DATABASE_SECRET_ARN": arn}).secret_region


def test_without_a_secret_there_is_no_region() -> None:
    """The error names the variable of the secret."""
    settings = DatabaseSettings.from_env(TEST)

    with pytest.raises(ConfigurationError, match="APP_DATABASE_SECRET_ARN is not set"):
        _ = settings.secret_region


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
def test_the_default_pool_of_a_lambda_function_is_lambda(environ: dict[str, str], expected: str) -> None:
    """Elsewhere it is `service`; a variable that is set has priority."""
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
        ("f", "7" * 99, ":" + "7" * 62),
        ("caf\xe9\0\udcff", "7", "caf???:7"),
        ("", "7", "registration_persistence"),
    ],
)
def test_the_application_name_has_function_and_version(name: str, version: str | None, expected: str) -> None:
    """The version is never truncated, and the name has at most 63 bytes."""
    environ = {"AWS_LAMBDA_FUNCTION_NAME": name}
    if version is not None:
        environ["AWS_LAMBDA_FUNCTION_VERSION"] = version

    actual = DatabaseSettings.from_env(PRODUCTION | environ).application_name

    assert (expected, True) == (actual, len(actual.encode()) <= 63)


def test_settings_are_immutable() -> None:
    """No field can be changed or added."""
    settings: Any = DatabaseSettings.from_env(PRODUCTION)

    with pytest.raises(FrozenInstanceError):
        settings.host = "elsewhere"
    with pytest.raises((AttributeError, TypeError)):
        settings.hostname = "elsewhere"

    assert (AURORA, False) == (settings.host, hasattr(settings, "__dict__"))


def test_repr_shows_everything_but_the_password() -> None:
    """`repr` and `str` contain host, database and user, and no password."""
    settings = DatabaseSettings.from_env(TEST | {"APP_DATABASE_PASSWORD": "hunter2"})

    for shown in (repr(settings), str(settings), f"{settings}", f"{[settings]}"):
        assert "host='127.0.0.1'" in shown
        assert "user='ada'" in shown
        assert "hunter2" not in shown
        assert "password" not in shown
    assert "hunter2" == settings.password


def test_an_error_of_the_environment_contains_no_password() -> None:
    """Neither the message nor a traceback with local variables contains a rejected password."""
    with pytest.raises(ConfigurationError, match="APP_DATABASE_PASSWORD are allowed only") as raised:
        DatabaseSettings.from_env(TEST | {"APP_ENVIRONMENT": "prod"})

    report = traceback.TracebackException.from_exception(raised.value, capture_locals=True).format()
    assert "hunter2" not in "".join([str(raised.value), repr(raised.value), *raised.value.problems, *report])


def test_an_error_of_the_constructor_contains_no_password() -> None:
    """Settings that are created in code are rejected without quoting the password."""
    with pytest.raises(ConfigurationError, match="APP_DATABASE_PASSWORD are allowed only") as raised:
        DatabaseSettings(host="h", name="n", user="ada", password="hunter2")

    assert "hunter2" not in "".join([str(raised.value), repr(raised.value), *raised.value.problems])
