"""The settings of a login with IAM: the defaults, and the problem that each wrong combination reports."""

from dataclasses import replace
from typing import Any

import pytest
from database_environments import ARN, AURORA, PASSWORD, SHIPPED, outcome_of, problems_of

from registration_persistence import DatabaseSettings
from registration_persistence.database.connection_parameters import connection_parameters
from registration_persistence.database.endpoint_region import endpoint_region

FOUR_VARIABLES = {
    "APP_DATABASE_HOST": AURORA,
    "APP_DATABASE_NAME": "registrations",
    "APP_DATABASE_USER": "registration_iam",
    "APP_DATABASE_AUTH": "iam",
}
GOV = "app.cluster-c1a2b3.us-gov-west-1.rds.amazonaws.com"
PROXY = "app.proxy-c1a2b3.eu-west-1.rds.amazonaws.com"


def settings_of(**changes: str) -> DatabaseSettings:
    """Return the settings of the four variables and *changes*."""
    settings = outcome_of(FOUR_VARIABLES | {f"APP_DATABASE_{name}": value for name, value in changes.items()})
    assert isinstance(settings, DatabaseSettings), settings
    return settings


@pytest.mark.parametrize("environment", ["prod", "staging", "dev"])
def test_four_variables_are_enough(environment: str) -> None:
    """The server is verified, and only a server that asks for clear text receives the token."""
    settings = outcome_of(FOUR_VARIABLES | {"APP_ENVIRONMENT": environment})

    assert isinstance(settings, DatabaseSettings)
    assert ("iam", "registration_iam", None, None) == (
        settings.auth,
        settings.user,
        settings.secret_arn,
        settings.password,
    )
    assert ("verify-full", "password") == (settings.sslmode, settings.require_auth)
    parameters = connection_parameters(settings)
    assert ("verify-full", "password") == (parameters["sslmode"], parameters["require_auth"])
    assert parameters["sslrootcert"] == str(SHIPPED / "with_gateway" / "eu-west-1.pem")
    made = DatabaseSettings(host=AURORA, name="registrations", user="registration_iam", auth="iam")
    assert made == replace(settings, environment="prod") == replace(made)


@pytest.mark.parametrize(
    ("changes", "file"),
    [
        pytest.param({"SSLMODE": "verify-full"}, "with_gateway/eu-west-1.pem", id="verify-full"),
        pytest.param({"SSLMODE": "verify-ca"}, "eu-west-1.pem", id="name not checked"),
        pytest.param({"SSLMODE": "require"}, None, id="unverified by choice"),
        pytest.param({"HOST": PROXY}, "rds-proxy.pem", id="proxy"),
        pytest.param({"HOST": GOV, "SSL_ROOT_CERT": str(SHIPPED / "eu-west-1.pem")}, "eu-west-1.pem", id="own file"),
        pytest.param({"HOST": GOV, "SSLMODE": "require"}, None, id="region without file"),
        pytest.param({"REQUIRE_AUTH": "password"}, "with_gateway/eu-west-1.pem", id="what RDS asks for"),
    ],
)
def test_the_server_is_verified_unless_that_is_switched_off(changes: dict[str, str], file: str | None) -> None:
    """The public authorities of an internet access gateway count only if the name is checked too."""
    settings = settings_of(**changes)

    assert (file and SHIPPED / file) == settings.root_certificate


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(changes, expected, id=f"{next(iter(changes))}: {expected[:50]}")
        for changes, expected in [
            (
                {"APP_DATABASE_AUTH": "IAM", "APP_DATABASE_USER": "", "APP_DATABASE_SECRET_ARN": ARN},
                "APP_DATABASE_AUTH is 'IAM': expected one of secret, iam",
            ),
            ({"APP_DATABASE_AUTH": "IAM"}, "APP_DATABASE_AUTH is 'IAM': expected one of secret, iam"),
            ({"APP_DATABASE_READER_HOST": "10.0.0.7"}, "APP_DATABASE_READER_HOST is '10.0.0.7', an IP address"),
            (
                {"APP_DATABASE_READER_HOST": "ro.example.org", "APP_DATABASE_SSLMODE": "verify-full"},
                "APP_DATABASE_READER_HOST is 'ro.example.org', an alias, the endpoint of a global database or",
            ),
            (
                {"APP_DATABASE_HOST": GOV, "APP_DATABASE_SSLMODE": "verify-full"},
                f"APP_DATABASE_SSLMODE is 'verify-full' but no certificate is shipped for the host {GOV!r}: set",
            ),
            ({"APP_DATABASE_AUTH": ""}, "APP_DATABASE_USER and APP_DATABASE_PASSWORD are allowed only if"),
            ({"APP_DATABASE_USER": ""}, "APP_DATABASE_USER is not set, but APP_DATABASE_AUTH is 'iam': expected the"),
            ({"APP_DATABASE_USER": "a\nb"}, "APP_DATABASE_USER holds a line break or another control character"),
            ({"APP_DATABASE_USER": "a\0b"}, "APP_DATABASE_USER holds NUL or is not UTF-8: expected text"),
            ({"APP_DATABASE_USER": "u" * 64}, "APP_DATABASE_USER has 64 bytes: expected at most 63"),
            ({"APP_DATABASE_SECRET_ARN": ARN}, "APP_DATABASE_SECRET_ARN is set, but APP_DATABASE_AUTH is 'iam', which"),
            ({"APP_DATABASE_PASSWORD": PASSWORD}, "APP_DATABASE_PASSWORD is set, but APP_DATABASE_AUTH is 'iam', whi"),
            ({"APP_DATABASE_HOST": "10.0.0.7"}, "APP_DATABASE_HOST is '10.0.0.7', an IP address: expected the endpo"),
            ({"APP_DATABASE_HOST": "fe80::1"}, "APP_DATABASE_HOST is 'fe80::1', an IP address: expected the endpoi"),
            (
                {"APP_DATABASE_HOST": "db.example.org"},
                "APP_DATABASE_HOST is 'db.example.org', an alias, the endpoint o",
            ),
            ({"APP_DATABASE_HOST": "app.global-x.global.rds.amazonaws.com"}, "APP_DATABASE_HOST is 'app.global-x.glob"),
            (
                {"APP_DATABASE_HOST": AURORA.replace("cluster-", "cluster-custom-")},
                "APP_DATABASE_HOST is 'app.cluster-custom-c1a2b3.eu-west-1.rds.amazonaws.com', a custom endpoint, for",
            ),
            (
                {"APP_ENVIRONMENT": "test", "APP_DATABASE_HOST": "localhost"},
                "APP_DATABASE_HOST is 'localhost', an alias, the endpoint of a global database or a host outside",
            ),
            ({"APP_DATABASE_HOST": GOV}, "APP_DATABASE_SSL_ROOT_CERT is not set, but APP_DATABASE_AUTH is 'iam', and"),
            *(
                ({"APP_DATABASE_SSLMODE": mode}, f"APP_DATABASE_SSLMODE is {mode!r}, which can send data without TLS")
                for mode in ("disable", "allow", "prefer")
            ),
            *(
                ({"APP_DATABASE_REQUIRE_AUTH": method}, f"APP_DATABASE_REQUIRE_AUTH is {method!r}, but APP_DATABASE_AU")
                for method in ("scram-sha-256", "md5", "none")
            ),
        ]
    ],
)
def test_a_wrong_combination_is_one_problem(changes: dict[str, str], expected: str) -> None:
    """The problem names the variable, its state and the expected value, and never the password."""
    problems = problems_of(FOUR_VARIABLES | changes)

    assert len(problems) == 1
    assert problems[0].startswith(expected)
    assert PASSWORD not in problems[0]


def test_settings_in_code_follow_the_same_rules() -> None:
    """A reader endpoint is checked too once the settings have one; a replaced host needs a region."""
    from registration_persistence.database.iam_rules import iam_problems

    values: dict[str, Any] = {"host": AURORA, "user": "u", "reader_host": "10.0.0.8"}

    assert [problem.split()[0] for problem in iam_problems(values)] == ["APP_DATABASE_READER_HOST"]


@pytest.mark.parametrize(
    ("host", "region"),
    [
        (AURORA, "eu-west-1"),
        (AURORA.upper() + ".", "eu-west-1"),
        ("app-1.c1a2b3.ap-southeast-5.rds.amazonaws.com", "ap-southeast-5"),
        (PROXY, "eu-west-1"),
        ("ro.endpoint.proxy-c1a2b3.eu-west-1.rds.amazonaws.com", "eu-west-1"),
        (GOV, "us-gov-west-1"),
        ("app.cluster-c1a2b3.cn-north-1.rds.amazonaws.com.cn", "cn-north-1"),
        ("app.cluster-c1a2b3.rds.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("app.cluster-c1a2b3.eusc-de-east-1.rds.amazonaws.eu", "eusc-de-east-1"),
        ("app.cluster-c1a2b3.us-iso-east-1.rds.c2s.ic.gov", "us-iso-east-1"),
        ("app.global-c1a2b3.global.rds.amazonaws.com", None),
        ("eu-west-1.rds.amazonaws.com", None),
        ("app.cluster-c1a2b3.eu-west-1.rds.amazonaws.com.evil.example", None),
        ("us-east-1.rds.example.com", None),
        ("127.0.0.1", None),
        ("", None),
    ],
)
def test_the_region_is_in_the_name_of_the_endpoint(host: str, region: str | None) -> None:
    """It is found in every partition, and in no other name."""
    assert region == endpoint_region(host)
