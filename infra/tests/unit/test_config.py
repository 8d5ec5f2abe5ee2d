"""`registration_infra.config` and `.rules`: which environment files are read, and which are refused with what words."""

import ast
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registration_infra import (
    BACKUP_TAG,
    ENVIRONMENTS,
    AlarmsConfig,
    ApplicationConfig,
    AuroraConfig,
    BackupConfig,
    DatadogConfig,
    EnvironmentConfig,
    ExistingDatabase,
    InfraConfigError,
    NetworkConfig,
    load,
    parse,
)
from registration_infra.rules import TABLES, TOP

INFRA = Path(__file__).parents[2]
SHIPPED = INFRA / "environments"
SOURCE = "somewhere/dev.toml"
SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:registration-AbCdEf"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/0e1e2b3c-0000-4000-8000-000000000000"
VAULT = "arn:aws:backup:eu-west-1:999999999999:backup-vault:central"
ZONES = '["eu-central-1a", "eu-central-1b"]'
SUBNETS = '["subnet-12345678", "subnet-87654321"]'

# An environment of each kind, as keys with their values in TOML.
ANY: Mapping[str, str | None] = {
    "account": '"123456789012"',
    "region": '"eu-central-1"',
    "network.availability_zones": ZONES,
}
CLUSTER: Mapping[str, str | None] = {
    "provision_aurora": "true",
    **ANY,
    "aurora.database_name": '"registrations"',
    "aurora.deletion_protection": "true",
    "aurora.force_ssl": "true",
}
THERE: Mapping[str, str | None] = {
    "network.vpc_id": '"vpc-12345678"',
    "network.subnet_ids": SUBNETS,
    "network.secrets_endpoint_security_group_id": '"sg-87654321"',
}
EXISTING: Mapping[str, str | None] = {
    "provision_aurora": "false",
    **ANY,
    **THERE,
    "existing.host": '"db.example.org"',
    "existing.port": "5432",
    "existing.name": '"registrations"',
    "existing.secret_arn": f'"{SECRET}"',
    "existing.security_group_id": '"sg-12345678"',
}
# What takes a key's place beside it, so that the key alone is what is accepted or refused.
DATADOG: Mapping[str, str | None] = {
    "network.nat_gateways": "1",
    "datadog.site": '"datadoghq.eu"',
    "datadog.api_key_secret_arn": f'"{SECRET}"',
}
PAUSE: Mapping[str, str | None] = {"aurora.min_capacity": "0", "aurora.auto_pause_seconds": "300"}
WEEK: Mapping[str, str | None] = {"aurora.backup_retention_days": "7"}
PROXY: Mapping[str, str | None] = {"aurora.proxy": "true", "aurora.rotation": '"single"'}

ABOUT_FLAG = "true or false"
ABOUT_ACCOUNT = "the 12 digits of an AWS account, in quotes"
ABOUT_GROUP = "a security group's id, sg-…"
ABOUT_ARN = "arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME, in partition aws, aws-cn or aws-us-gov"
ABOUT_PAUSE = "a whole number of seconds, 300 to 86400"
ABOUT_REGION = "an AWS region outside China, such as eu-central-1"
ABOUT_ZONES = "a list of two to four different zones, such as eu-central-1a"
ABOUT_SUBNETS = "a list of different subnets' ids, subnet-…, one for each zone"
ABOUT_NAME = "a letter, then up to 62 letters, digits or underscores"
ABOUT_VPC = "a VPC's id, vpc-…"
ABOUT_KEY = "arn:PARTITION:kms:REGION:ACCOUNT:key/ID"
ABOUT_VAULT = "arn:PARTITION:backup:REGION:ACCOUNT:backup-vault:NAME"
LOG_RETENTIONS = (
    "1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653"
)
KINDS: Mapping[str, str] = {
    "network": "a table [network] with availability_zones",
    "aurora": "a table [aurora] with database_name, deletion_protection, force_ssl",
    "existing": "a table [existing] with host, port, name, secret_arn, security_group_id",
    "backup": "a table [backup]",
    "application": "a table [application]",
    "alarms": "a table [alarms]",
    "datadog": "a table [datadog] with site, api_key_secret_arn",
}

ALONE: Mapping[str, tuple[str, list[str], list[str]]] = {
    # key: what is expected, values at the edge of it, values beyond
    "account": (
        ABOUT_ACCOUNT,
        ['"000000000000"', '"999999999999"'],
        [
            '"12345678901"',
            '"1234567890123"',
            "123456789012",
            '"12345678901a"',
            '"12345678901٢"',
            '""',
            '" 23456789012"',
        ],
    ),
    "region": (ABOUT_REGION, ['"eu-central-1"'], ['"mars"', '"eu-central"', '"EU-CENTRAL-1"', '"eu-central-1a"', "1"]),
    "log_retention_days": (
        f"a number of days that CloudWatch Logs takes: {LOG_RETENTIONS}",
        LOG_RETENTIONS.split(", "),
        ["0", "2", "366", "3654", '"30"', "30.0", "true"],
    ),
    "network.availability_zones": (
        ABOUT_ZONES,
        [ZONES, '["eu-central-1a", "eu-central-1b", "eu-central-1c"]'],
        [
            "[]",
            '["eu-central-1a"]',
            '["eu-central-1a", "eu-central-1a"]',
            '["eu-central-1a", "eu-central-1"]',
            '["eu-central-1a", 2]',
            '"eu-central-1a"',
        ],
    ),
    "network.cidr": (
        "an IPv4 network of /16 to /24, such as 10.0.0.0/16",
        ['"10.0.0.0/16"', '"192.168.7.0/24"'],
        [
            '"10.0.0.0/15"',
            '"10.0.0.0/25"',
            '"10.0.0.1/16"',
            '"10.0.0.0/255.255.0.0"',
            '"10.0.0.0"',
            '"fd00::/16"',
            '"ten"',
            "10",
        ],
    ),
    "network.nat_gateways": ("a whole number, 0 to 4", ["0", "4"], ["-1", "5", "1.0", "true", '"1"']),
    "network.vpc_id": (
        ABOUT_VPC,
        ['"vpc-12345678"', '"vpc-1234567890abcdef0"'],
        ['"vpc-1234567"', '"vpc-1234567890abcdef01"', '"vpc-1234567G"', '"12345678"', "5"],
    ),
    "network.subnet_ids": (
        ABOUT_SUBNETS,
        [SUBNETS, '["subnet-12345678", "subnet-1234567890abcdef0"]'],
        [
            "[]",
            '["subnet-12345678"]',
            '["subnet-12345678", "subnet-12345678"]',
            '["subnet-12345678", "subnet-1234567"]',
            '["subnet-12345678", "subnet-1234567890abcdef01"]',
            '["subnet-12345678", true]',
            '"subnet-12345678"',
        ],
    ),
    "network.secrets_endpoint_security_group_id": (
        ABOUT_GROUP,
        ['"sg-12345678"', '"sg-1234567890abcdef0"'],
        ['"sg-1234567"', '"sg-1234567890abcdef01"', '"endpoint"', "true"],
    ),
    "aurora.database_name": (
        ABOUT_NAME,
        ['"r"', '"R_1"', f'"{"n" * 63}"'],
        ['""', '"1st"', '"_a"', '"a-b"', f'"{"n" * 64}"', '"é"', '"a\\n"', "7"],
    ),
    "aurora.deletion_protection": (ABOUT_FLAG, ["true", "false"], ["1", '"yes"']),
    "aurora.force_ssl": (ABOUT_FLAG, ["true", "false"], ["0", '"true"']),
    "aurora.engine_version": (
        "MAJOR.MINOR of Aurora PostgreSQL 15 to 18, such as 16.13",
        ['"15.0"', '"16.13"', '"18.99"'],
        ['"14.9"', '"19.1"', '"16"', '"16.03"', '"16.100"', '"16.x"', "16.13", "16"],
    ),
    "aurora.max_capacity": (
        "1 to 256 ACU in steps of 0.5",
        ["1", "1.5", "256", "256.0"],
        ["0.5", "0", "1.2", "256.5", '"1"', "true", "nan", "inf"],
    ),
    "aurora.min_capacity": (
        "0 to 256 ACU in steps of 0.5",
        ["0.5", "1", "1.0"],
        ["-0.5", "0.7", "256.5", "true", '"0.5"', "nan", "inf", "-inf", "1979-05-27", "[0.5]"],
    ),
    "aurora.auto_pause_seconds": (ABOUT_PAUSE, ["300", "86400"], ["299", "86401", "300.0", "true", '"300"']),
    "aurora.readers": ("a whole number, 0 to 15", ["0", "15"], ["-1", "16", "1.0", "true"]),
    "aurora.removal": (
        '"snapshot" or "destroy"',
        ['"snapshot"', '"destroy"'],
        ['"keep"', '"Snapshot"', '""', "true", "1"],
    ),
    "aurora.backup_retention_days": (
        "a whole number of days, 1 to 35",
        ["1", "35"],
        ["0", "36", "-7", "7.0", "true", '"7"'],
    ),
    "aurora.retention_reason": ("a sentence in quotes", ['"x"', '" a\\nb "'], ['""', '"  "', '"\\n"', "true", "7"]),
    "aurora.rotation": (
        '"alternating" or "single"',
        ['"alternating"', '"single"'],
        ['"none"', '"Single"', "true", "1"],
    ),
    "aurora.rotation_days": ("a whole number of days, 1 to 999", ["1", "999"], ["0", "1000", "30.0", "true"]),
    "aurora.proxy": (ABOUT_FLAG, ["false"], ["0", '"on"']),
    "aurora.slow_query_ms": (
        "milliseconds, 0 to 60000, or -1 for never",
        ["-1", "0", "60000"],
        ["-2", "60001", "0.5", "false"],
    ),
    "aurora.performance_insights": (ABOUT_FLAG, ["true", "false"], ["1", '"true"']),
    "existing.host": (
        "one host name or IP address",
        ['"d"', '"2001:db8::1"', '"db_1.example-2.org"'],
        ['""', '"a b"', '"a,b"', '"/tmp"', '"a\\n"', '"é"', "5"],
    ),
    "existing.port": ("a whole number, 1 to 65535", ["1", "65535"], ["0", "65536", '"5432"', "true", "5432.0"]),
    "existing.name": (
        "the name of the database, 1 to 63 octets",
        ['"x"', '"my-db 2"', f'"{"é" * 31}x"', f'"{"n" * 63}"'],
        ['""', f'"{"é" * 32}"', f'"{"n" * 64}"', '"a\\u0000"', "5"],
    ),
    "existing.secret_arn": (
        ABOUT_ARN,
        [f'"{SECRET}"', '"arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:prod/db"'],
        [
            '"registration"',
            f'"{SECRET.replace(":aws:", ":aws-iso:")}"',
            f'"{SECRET.replace("123456789012", "12345678901")}"',
            f'"{SECRET.replace("123456789012", "12345678901٢")}"',
            f'"{SECRET} "',
            "5",
        ],
    ),
    "existing.secret_key_arn": (
        ABOUT_KEY,
        [f'"{KEY}"', '"arn:aws-cn:kms:cn-north-1:123456789012:key/mrk-1"'],
        [f'"{KEY.replace(":kms:", ":s3:")}"', f'"{KEY.replace("key/", "alias/")}"', '"alias/aws/secretsmanager"', "5"],
    ),
    "existing.security_group_id": (
        ABOUT_GROUP,
        ['"sg-12345678"', '"sg-1234567890abcdef0"'],
        ['"sg-1234567"', '"sg-1234567890abcdef01"', '"default"', "5"],
    ),
    "backup.central_account": (
        ABOUT_ACCOUNT,
        ['"000000000000"', '"999999999999"'],
        ['"12345678901"', '"1234567890123"', "123456789012", '"central"'],
    ),
    "backup.own_plan": (ABOUT_FLAG, ["true", "false"], ["1", '"true"']),
    "backup.own_plan_retention_days": (
        "a whole number of days, 1 to 36500",
        ["1", "36500"],
        ["0", "36501", "35.0", "true"],
    ),
    "backup.copy_to_vault_arn": (
        ABOUT_VAULT,
        [f'"{VAULT}"', f'"{VAULT[:-7]}{"v" * 50}"', f'"{VAULT[:-7]}vv"'],
        [f'"{VAULT[:-7]}v"', f'"{VAULT[:-7]}{"v" * 51}"', f'"{VAULT.replace("999999999999", "9")}"', '"central"', "5"],
    ),
    "application.reserved_concurrency": ("a whole number, 1 to 1000", ["1", "1000"], ["0", "1001", "50.0", '"50"']),
    "application.connections": ("a whole number, 1 to 100", ["1", "100"], ["0", "101", "1.0", "true"]),
    "alarms.email": (
        "one mailbox, such as name@example.org",
        ['"a@b"', '"operators+db@example.org"'],
        ['"operators"', '"@example.org"', '"operators@"', '"a@b@c"', '"a @b"', '"a@b, c@d"', '""', "5"],
    ),
    "datadog.site": (
        "a Datadog site, such as datadoghq.eu",
        ['"datadoghq.com"', '"us3.datadoghq.com"', '"ddog-gov.com"'],
        ['"https://datadoghq.eu"', '"datadoghq.eu/"', '"datadog.eu"', '"eu"', "5"],
    ),
    "datadog.api_key_secret_arn": (ABOUT_ARN, [f'"{SECRET}"'], ['"0123456789abcdef"', f'"{KEY}"', "5"]),
    "datadog.python_layer_version": (
        "the version of the Datadog-Python layer, 1 to 10000",
        ["1", "10000"],
        ["0", "10001", "120.0", '"120"'],
    ),
    "datadog.extension_layer_version": (
        "the version of the Datadog-Extension layer, 1 to 10000",
        ["1", "10000"],
        ["0", "10001", "90.0", '"90"'],
    ),
    "datadog.database_monitoring": (ABOUT_FLAG, ["true", "false"], ["1", '"true"']),
    "provision_aurora": (ABOUT_FLAG, ["true"], ['"yes"', "1", "[]"]),
}
BESIDE: Mapping[str, Mapping[str, str | None]] = {
    # Where a key needs others, which it would otherwise be refused without.
    "network.vpc_id": THERE,
    "network.subnet_ids": THERE,
    "network.secrets_endpoint_security_group_id": THERE,
    "network.availability_zones": {"network.nat_gateways": "0"},
    "network.nat_gateways": {"network.availability_zones": str([f"eu-central-1{letter}" for letter in "abcd"])},
    "aurora.auto_pause_seconds": PAUSE,
    "backup.copy_to_vault_arn": {"backup.own_plan": "true"},
    "application.reserved_concurrency": {"aurora.min_capacity": "1", "aurora.max_capacity": "8"},
    "application.connections": {"application.reserved_concurrency": "1"},
    "datadog": DATADOG,
}


def document(*layers: Mapping[str, str | None]) -> dict[str, Any]:
    """Return what a file holds, from dotted keys and their values in TOML; `None` leaves a key out."""
    values: dict[str, Any] = {}
    for dotted, written in {key: value for layer in layers for key, value in layer.items()}.items():
        if written is not None:
            *tables, key = dotted.split(".")
            into = values
            for table in tables:
                into = into.setdefault(table, {})
            into[key] = tomllib.loads(f"value = {written}")["value"]
    return values


def around(key: str) -> Mapping[str, str | None]:
    """Return the environment that *key* is tried in, right but for it."""
    base = EXISTING if key.startswith("existing") else CLUSTER
    return {**base, **BESIDE.get(key, BESIDE.get(key.partition(".")[0], {}))}


def problems(*layers: Mapping[str, str | None], environment: str = "dev") -> tuple[str, ...]:
    """Return what is wrong with an environment, after the error was seen to say it all with its source."""
    return problems_of(document(*layers), environment=environment)


def problems_of(values: Mapping[str, Any], *, environment: str = "dev") -> tuple[str, ...]:
    """Return what is wrong with *values*, after the error was seen to say it all with its source."""
    with pytest.raises(InfraConfigError) as refused:
        parse(environment, values, source=SOURCE)
    error = refused.value
    assert error.source == SOURCE
    assert str(error).splitlines() == [f"{SOURCE} is wrong:", *(f"  - {problem}" for problem in error.problems)]
    assert len(set(error.problems)) == len(error.problems)
    return error.problems


def accepted(*layers: Mapping[str, str | None], environment: str = "dev") -> EnvironmentConfig:
    """Return the environment that the keys describe."""
    return parse(environment, document(*layers), source=SOURCE)


def value_of(config: EnvironmentConfig, key: str) -> Any:
    """Return what *config* has at a dotted key."""
    value: Any = config
    for each in key.split("."):
        value = getattr(value, each)
    return value


def cases(column: int) -> list[Any]:
    """Return each key of `ALONE` with each of its values that are accepted, column 1, or refused, column 2."""
    return [
        pytest.param(key, value, id=f"{key}={value[:40]}") for key, entry in ALONE.items() for value in entry[column]
    ]


# Files


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_shipped_file_loads(environment: str) -> None:
    """Every environment has a file that is accepted, and provisions a cluster of 0.5 to 1 ACU that forces TLS."""
    config = load(SHIPPED / f"{environment}.toml")

    assert config.name == environment
    assert config.provision_aurora
    assert config.aurora is not None
    assert (config.aurora.min_capacity, config.aurora.max_capacity) == (0.5, 1)
    assert config.aurora.force_ssl
    assert config.aurora.deletion_protection == (environment != "dev")
    assert config.keeps_nothing == (environment == "dev")
    assert (config.prefix, config.path) == (f"registration-{environment}", f"registration/{environment}")


def test_no_other_file_is_shipped() -> None:
    """The folder of environments holds one file for each environment and nothing else."""
    assert {path.name for path in SHIPPED.iterdir()} == {f"{environment}.toml" for environment in ENVIRONMENTS}


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    """What is wrong with a file is said under its path, which an operator opens next."""
    path = tmp_path / "prod.toml"
    path.write_text(
        (SHIPPED / "prod.toml").read_text(encoding="utf-8").replace("force_ssl = true", "force_ssl = false")
    )

    with pytest.raises(InfraConfigError) as refused:
        load(path)

    assert str(refused.value) == f"{path} is wrong:\n  - aurora.force_ssl is false: expected true in prod"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"force_ssl = yes\n", "it cannot be read as TOML: Invalid value", id="no TOML"),
        pytest.param(b"a = 1\na = 2\n", "it cannot be read as TOML: Cannot overwrite a value", id="a key twice"),
        pytest.param(b'a = "\xff"\n', "it cannot be read as TOML: 'utf-8' codec can't decode", id="not UTF-8"),
        pytest.param(
            b"\xef\xbb\xbfprovision_aurora = true\n",
            "it cannot be read as TOML: it begins with a byte order mark, and is expected in UTF-8 without one",
            id="byte order mark",
        ),
        pytest.param("a = 1\n".encode("utf-16"), "it cannot be read as TOML: 'utf-8' codec can't", id="UTF-16"),
        pytest.param(b"a = \x00", "it cannot be read as TOML: ", id="NUL"),
        pytest.param(b"a = " + b"[" * 5000 + b"]" * 5000, "it cannot be read as TOML: ", id="nested too deeply"),
        pytest.param(b"a = 1" + b"0" * 5000, "it cannot be read as TOML: ", id="a number without end"),
        pytest.param(None, "it cannot be read: No such file or directory", id="missing"),
    ],
)
def test_refuses_what_is_no_toml(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """A file that is absent, not TOML or not UTF-8 is refused with the same kind of error."""
    path = tmp_path / "dev.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InfraConfigError) as refused:
        load(path)

    assert str(refused.value).startswith(f"{path} is wrong:\n  - {problem}")
    assert len(refused.value.problems) == 1


def test_refuses_a_folder(tmp_path: Path) -> None:
    """A folder in the place of a file is refused with the same kind of error."""
    with pytest.raises(InfraConfigError) as refused:
        load(tmp_path)

    assert refused.value.problems == ("it cannot be read: Is a directory",)


def test_refuses_a_path_that_no_file_can_have(tmp_path: Path) -> None:
    """A path that the system does not even take is refused with the same kind of error."""
    with pytest.raises(InfraConfigError, match="it cannot be read"):
        load(tmp_path / "dev\0.toml")


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_an_empty_file_is_told_what_it_needs(tmp_path: Path, text: str) -> None:
    """A file that holds nothing is answered with everything that a file needs."""
    path = tmp_path / "dev.toml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(InfraConfigError) as refused:
        load(path)

    assert refused.value.problems == (
        f"provision_aurora is missing: expected {ABOUT_FLAG}",
        f"account is missing: expected {ABOUT_ACCOUNT}",
        f"region is missing: expected {ABOUT_REGION}",
        f"network is missing: expected {KINDS['network']}",
        f"aurora is missing: expected {KINDS['aurora']}",
    )


@pytest.mark.parametrize("environment", ["qa", "production", "PROD", "", "prod\n"])
@pytest.mark.parametrize("kind", [CLUSTER, EXISTING], ids=["cluster", "existing"])
def test_refuses_an_unknown_environment(environment: str, kind: Mapping[str, str | None]) -> None:
    """A file that is named after no environment is refused, so that no name escapes the rules of production."""
    shown = environment.replace("\n", "\\n")

    assert problems(kind, environment=environment) == (
        f'the environment is named "{shown}": expected one of dev, staging, prod',
    )


def test_names_every_problem_in_one_error() -> None:
    """One error has everything that is wrong, in the file's own terms, and nothing that follows from it."""
    found = problems(
        CLUSTER,
        {
            "colour": '"red"',
            "account": None,
            "aurora.colour": "1",
            "aurora.min_capacity": "2",
            "aurora.max_capacity": "300",
            "aurora.force_ssl": None,
            "aurora.backup_retention_days": "0",
            "aurora.removal": '"destroy"',
            "application.connections": "0",
            "backup.copy_to_vault_arn": f'"{VAULT}"',
        },
        environment="prod",
    )

    assert [problem.partition(": ")[0] for problem in found] == [
        "colour is not a key",
        "account is missing",
        "aurora.colour is not a key",
        "aurora.force_ssl is missing",
        "aurora.max_capacity is 300",
        "aurora.backup_retention_days is 0",
        "application.connections is 0",
        'aurora.removal is "destroy"',
        "backup.copy_to_vault_arn is set",
    ]


# Each key alone


def test_every_key_is_tried() -> None:
    """The table above has each key that there is, with values that are accepted and values that are refused."""
    assert set(ALONE) == {*TOP, *(f"{table}.{key}" for table, keys in TABLES.items() for key in keys)}
    assert all(edge and beyond for _, edge, beyond in ALONE.values())


@pytest.mark.parametrize(("key", "value"), cases(1))
def test_the_limits_themselves_are_accepted(key: str, value: str) -> None:
    """A value at the edge of what AWS accepts is accepted, and is what the environment then has."""
    config = accepted(around(key), {key: value})

    expected = tomllib.loads(f"value = {value}")["value"]
    assert value_of(config, key) == (tuple(expected) if isinstance(expected, list) else expected)


@pytest.mark.parametrize(("key", "value"), cases(2))
def test_refuses_a_wrong_value(key: str, value: str) -> None:
    """A value that AWS would not accept is refused once, with its key, the value and what was expected."""
    assert problems(around(key), {key: value}) == (f"{key} is {value}: expected {ALONE[key][0]}",)


@pytest.mark.parametrize("key", [key for key in ALONE if not key.startswith("existing")])
def test_nothing_follows_from_a_wrong_value(key: str) -> None:
    """Where keys depend on one another, a wrong one is the only one that is refused."""
    fullest = {
        **CLUSTER,
        **THERE,
        **PAUSE,
        **DATADOG,
        "network.nat_gateways": "0",
        "network.secrets_endpoint_security_group_id": '"sg-12345678"',
        "backup.own_plan": "true",
        "backup.copy_to_vault_arn": f'"{VAULT}"',
    }
    expected, _, wrong = ALONE[key]
    assert accepted(fullest).datadog is not None

    assert problems(fullest, {key: wrong[0]}) == (f"{key} is {wrong[0]}: expected {expected}",)


@pytest.mark.parametrize("key", ALONE)
def test_refuses_a_value_of_another_kind(key: str) -> None:
    """A table, a list, a time or a huge number is refused by every key, and what is nested is not repeated."""
    for value, shown in {
        "[[1], [2]]": "a list of tables or lists",
        '[{password = "hunter2"}]': "a list of tables or lists",
        '{password = "hunter2"}': "a table",
        "07:32:00": "07:32:00",
        "1979-05-27T07:32:00Z": "1979-05-27 07:32:00+00:00",
        f"0x{'f' * 5000}": "a number of more than 64 bits",
        "[nan, true]": "[nan, true]",
    }.items():
        assert problems(around(key), {key: value}) == (f"{key} is {shown}: expected {ALONE[key][0]}",)


def test_a_long_value_is_cut() -> None:
    """A value that would fill the screen is shown by its beginning, from 200 characters on."""
    (whole,) = problems(CLUSTER, {"account": f'"{"1" * 198}"'})
    assert whole == f'account is "{"1" * 198}": expected {ABOUT_ACCOUNT}'

    (problem,) = problems(CLUSTER, {"account": f'"{"1" * 10_000}"'})

    assert problem == f'account is "{"1" * 199}…: expected {ABOUT_ACCOUNT}'


def test_a_huge_number_is_not_written() -> None:
    """A number that no file of TOML may hold is named by its size, as Python may refuse to write it."""
    expected = ALONE["existing.port"][0]

    assert problems(EXISTING, {"existing.port": str(2**64 - 1)}) == (
        f"existing.port is 18446744073709551615: expected {expected}",
    )
    for huge in (str(2**64), str(-(2**64)), f"0x{'f' * 5000}"):
        assert problems(EXISTING, {"existing.port": huge}) == (
            f"existing.port is a number of more than 64 bits: expected {expected}",
        )


REQUIRED = [
    "provision_aurora",
    "account",
    "region",
    "network.availability_zones",
    "aurora.database_name",
    "aurora.deletion_protection",
    "aurora.force_ssl",
    "existing.host",
    "existing.port",
    "existing.name",
    "existing.secret_arn",
    "existing.security_group_id",
    "datadog.site",
    "datadog.api_key_secret_arn",
]


@pytest.mark.parametrize("key", REQUIRED)
def test_refuses_a_missing_key(key: str) -> None:
    """What has no default has to be in the file."""
    assert problems(around(key), {key: None}) == (f"{key} is missing: expected {ALONE[key][0]}",)


@pytest.mark.parametrize("key", [key for key in ALONE if key not in REQUIRED])
def test_accepts_that_any_other_key_is_missing(key: str) -> None:
    """What has a default may be left out of a file that has nothing which needs it."""
    base = EXISTING if key.startswith("existing") else CLUSTER

    assert accepted(base, {key: None}).name == "dev"


def test_what_a_file_leaves_out_has_its_default() -> None:
    """A cluster has 0.5 to 1 ACU, one day of backups and no pause unless its file says otherwise."""
    assert accepted(CLUSTER) == EnvironmentConfig(
        name="dev",
        account="123456789012",
        region="eu-central-1",
        network=NetworkConfig(
            availability_zones=("eu-central-1a", "eu-central-1b"),
            cidr="10.0.0.0/16",
            nat_gateways=0,
            vpc_id=None,
            subnet_ids=None,
            secrets_endpoint_security_group_id=None,
        ),
        aurora=AuroraConfig(
            database_name="registrations",
            deletion_protection=True,
            force_ssl=True,
            engine_version="16.13",
            min_capacity=0.5,
            max_capacity=1,
            auto_pause_seconds=None,
            readers=0,
            removal="snapshot",
            backup_retention_days=1,
            retention_reason=None,
            rotation="alternating",
            rotation_days=30,
            proxy=False,
            slow_query_ms=1000,
            performance_insights=False,
        ),
        existing=None,
        log_retention_days=90,
        backup=BackupConfig(central_account=None, own_plan=False, own_plan_retention_days=35, copy_to_vault_arn=None),
        application=ApplicationConfig(reserved_concurrency=50, connections=1),
        alarms=AlarmsConfig(email=None),
        datadog=None,
    )


def test_what_datadog_is_not_told_has_its_default() -> None:
    """A file that uses Datadog needs to name its site and key alone."""
    assert accepted(CLUSTER, DATADOG).datadog == DatadogConfig(
        site="datadoghq.eu",
        api_key_secret_arn=SECRET,
        python_layer_version=120,
        extension_layer_version=90,
        database_monitoring=True,
    )


def test_refuses_an_unknown_key() -> None:
    """A key above the tables that means nothing is refused with those that do; so is a table."""
    known = (
        "provision_aurora, account, region, log_retention_days, "
        "network, aurora, existing, backup, application, alarms, datadog"
    )

    assert problems(CLUSTER, {"backup_tag": '"hunter2"'}) == (f"backup_tag is not a key: expected one of {known}",)
    assert problems(CLUSTER, {"nework.cidr": '"hunter2"'}) == (f"nework is not a key: expected one of {known}",)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("value", ['"hunter2"', '{password = "hunter2"}', '[{password = "hunter2"}]'])
def test_refuses_an_unknown_key_of_a_table(table: str, value: str) -> None:
    """A key that means nothing is refused with those that do, and its value, maybe a password, is not repeated."""
    key = f"{table}.password"
    known = ", ".join(each for each in ALONE if each.startswith(f"{table}."))

    (problem,) = problems(around(key), {key: value})

    assert "hunter2" not in problem
    before, listed = problem.split(": expected one of ")
    assert before == f"{key} is not a key"
    assert sorted(listed.split(", ")) == sorted(known.split(", "))


@pytest.mark.parametrize(
    ("key", "shown"),
    [("a\n  - all is well", '"a\\n  - all is well"'), ("", '""'), ("é", '"é"'), ("k" * 64, f'"{"k" * 64}"')],
)
def test_a_strange_key_is_shown_in_quotes(key: str, shown: str) -> None:
    """A key that TOML has in quotes is shown in quotes, so that it cannot pass for a message."""
    found = problems_of({**document(CLUSTER), key: 1})

    assert [problem.partition(" is not a key: ")[0] for problem in found] == [shown]


@pytest.mark.parametrize("table", KINDS)
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (5, "5"),
        ([], "[]"),
        ("", '""'),
        (False, "false"),
        (float("nan"), "nan"),
        ([{"password": "hunter2"}], "a list of tables or lists"),
        ([["hunter2"]], "a list of tables or lists"),
    ],
)
def test_refuses_what_is_no_table(table: str, value: object, shown: str) -> None:
    """Anything in the place of a table is refused once, with how the table begins and what it needs."""
    base = document(EXISTING if table == "existing" else CLUSTER)

    assert problems_of({**base, table: value}) == (f"{table} is {shown}: expected {KINDS[table]}",)


@pytest.mark.parametrize(("table", "kind"), [("network", CLUSTER), ("aurora", CLUSTER), ("existing", EXISTING)])
def test_refuses_a_missing_table(table: str, kind: Mapping[str, str | None]) -> None:
    """A table with keys that have no default has to be in the file."""
    values = document(kind)
    del values[table]

    assert problems_of(values) == (f"{table} is missing: expected {KINDS[table]}",)


# Capacity


def test_refuses_a_minimum_above_the_maximum() -> None:
    """The least capacity may not exceed the greatest, the default maximum included."""
    assert problems(CLUSTER, {"aurora.min_capacity": "1.5"}) == (
        "aurora.min_capacity is 1.5: expected aurora.max_capacity, 1, or less",
    )
    assert problems(CLUSTER, {"aurora.min_capacity": "4", "aurora.max_capacity": "3.5"}) == (
        "aurora.min_capacity is 4: expected aurora.max_capacity, 3.5, or less",
    )


def test_makes_no_sum_of_a_minimum_above_the_maximum() -> None:
    """What the connections have to fit into is not known before the capacities are right."""
    changes = {"aurora.min_capacity": "8", "application.reserved_concurrency": "1000"}

    assert problems(CLUSTER, changes) == ("aurora.min_capacity is 8: expected aurora.max_capacity, 1, or less",)


@pytest.mark.parametrize("capacity", ["1", "1.5", "256"])
def test_accepts_a_minimum_that_is_the_maximum(capacity: str) -> None:
    """A cluster may stay at one capacity, up to the greatest that there is."""
    config = accepted(CLUSTER, {"aurora.min_capacity": capacity, "aurora.max_capacity": capacity})

    assert config.aurora is not None
    assert config.aurora.min_capacity == config.aurora.max_capacity == float(capacity)


@pytest.mark.parametrize("least", ["0", "0.0"])
def test_refuses_a_minimum_of_zero_without_a_pause(least: str) -> None:
    """A cluster that may go down to 0 ACU has to say after how long."""
    assert problems(CLUSTER, {"aurora.min_capacity": least}) == (
        f"aurora.auto_pause_seconds is missing: expected {ABOUT_PAUSE}, as aurora.min_capacity is 0",
    )
    assert accepted(CLUSTER, PAUSE, {"aurora.min_capacity": least}).aurora is not None


@pytest.mark.parametrize("least", [None, "0.5", "1"])
def test_refuses_a_pause_above_zero(least: str | None) -> None:
    """A pause is refused where the cluster never goes down to 0 ACU, the default minimum included."""
    assert problems(CLUSTER, {"aurora.min_capacity": least, "aurora.auto_pause_seconds": "300"}) == (
        f"aurora.auto_pause_seconds is 300: expected only where aurora.min_capacity is 0, and it is {least or 0.5}",
    )


@pytest.mark.parametrize(("version", "first"), [("15.6", "15.7"), ("15.0", "15.7"), ("16.2", "16.3")])
def test_refuses_a_version_that_cannot_pause(version: str, first: str) -> None:
    """A version of PostgreSQL that does not know capacity 0 is refused with the first that does."""
    given_version = {"aurora.engine_version": f'"{version}"'}

    assert problems(CLUSTER, PAUSE, given_version) == (
        f'aurora.engine_version is "{version}": expected {first} or later where aurora.min_capacity is 0',
    )
    assert accepted(CLUSTER, given_version).aurora is not None


@pytest.mark.parametrize("version", ["15.7", "15.10", "16.3", "16.13", "17.0", "18.0"])
def test_accepts_a_version_that_can_pause(version: str) -> None:
    """From 15.7, 16.3 and 17 on, every version may pause."""
    config = accepted(CLUSTER, PAUSE, {"aurora.engine_version": f'"{version}"'})

    assert config.aurora is not None
    assert config.aurora.major_version == version[:2]


# RDS Proxy


@pytest.mark.parametrize("rotation", [None, '"alternating"'])
def test_refuses_a_proxy_with_alternating_users(rotation: str | None) -> None:
    """A proxy would not know the other user, also where alternating is the default."""
    assert problems(CLUSTER, PROXY, {"aurora.rotation": rotation}) == (
        (
            'aurora.rotation is "alternating": expected "single" where aurora.proxy is true, '
            "as RDS Proxy knows only the user of the current version"
        ),
    )


def test_refuses_a_proxy_of_a_cluster_that_pauses() -> None:
    """A proxy keeps connections open, so that the cluster would never pause."""
    assert problems(CLUSTER, PROXY, PAUSE) == (
        "aurora.min_capacity is 0: expected 0.5 or more where aurora.proxy is true, which prevents the pause",
    )


def test_accepts_a_proxy_with_a_single_user() -> None:
    """A proxy whose cluster stays awake and has one user is accepted, at the least minimum above 0 too."""
    config = accepted(CLUSTER, PROXY, {"aurora.min_capacity": "0.5"})

    assert config.aurora is not None
    assert config.aurora.proxy


# The budget of connections


@pytest.mark.parametrize(
    ("changes", "least_to_most", "fits", "limit"),
    [
        ({}, "0.5 to 1", 172, 189),
        ({"aurora.min_capacity": "1"}, "1 to 1", 172, 189),
        ({"aurora.max_capacity": "4"}, "0.5 to 4", 806, 823),
        ({"aurora.max_capacity": "7.5"}, "0.5 to 7.5", 806, 823),
        ({"application.connections": "2"}, "0.5 to 1", 86, 189),
        ({"application.connections": "3"}, "0.5 to 1", 57, 189),
        ({"application.connections": "100"}, "0.5 to 1", 1, 189),
        ({"aurora.max_capacity": "64", "application.connections": "10"}, "0.5 to 64", 198, 2000),
        ({**PAUSE, "aurora.max_capacity": "64", "application.connections": "10"}, "0 to 64", 198, 2000),
        (
            {"aurora.min_capacity": "1", "aurora.max_capacity": "32", "application.connections": "10"},
            "1 to 32",
            498,
            5000,
        ),
    ],
)
def test_the_connections_have_to_fit(
    changes: Mapping[str, str | None], least_to_most: str, fits: int, limit: int
) -> None:
    """What runs at once fits with the reserve into what the capacity allows, or is refused with the sum."""
    each = int(changes.get("application.connections") or 1)
    key, one_more = "application.reserved_concurrency", fits + 1

    assert accepted(CLUSTER, changes, {key: str(fits)}).application.reserved_concurrency == fits
    assert problems(CLUSTER, changes, {key: str(one_more)}) == (
        (
            f"{key} is {one_more}: expected {fits} or less, as {one_more} x {each} + 17 in reserve = "
            f"{one_more * each + 17} connections, and {least_to_most} ACU allow {limit}"
        ),
    )


def test_the_default_concurrency_has_to_fit_too() -> None:
    """Connections that are too many for the default concurrency are refused as well."""
    assert problems(CLUSTER, {"application.connections": "4"}) == (
        (
            "application.reserved_concurrency is 50: expected 43 or less, as 50 x 4 + 17 in reserve = "
            "217 connections, and 0.5 to 1 ACU allow 189"
        ),
    )


@pytest.mark.parametrize("kind", [{**CLUSTER, **PROXY}, EXISTING], ids=["proxy", "existing"])
def test_no_budget_where_the_limit_is_not_ours(kind: Mapping[str, str | None]) -> None:
    """Behind a proxy, or on somebody else's database, the sum is not ours to judge."""
    changes = {"application.reserved_concurrency": "1000", "application.connections": "100"}

    assert accepted(kind, changes).application == ApplicationConfig(reserved_concurrency=1000, connections=100)


@pytest.mark.parametrize(
    ("least", "most", "connections"), [(0.5, 1, 189), (0.5, 3.5, 189), (0.5, 32, 2000), (1, 32, 5000)]
)
def test_a_cluster_knows_its_connections(least: float, most: float, connections: int) -> None:
    """A cluster says what its capacities allow."""
    cluster = load(SHIPPED / "prod.toml").aurora
    assert cluster is not None

    assert replace(cluster, min_capacity=least, max_capacity=most).max_connections == connections


# Production


@pytest.mark.parametrize("key", ["force_ssl", "deletion_protection"])
def test_production_forces_tls_and_protects_from_deletion(key: str) -> None:
    """Production may neither accept connections without TLS nor be deleted; another environment may."""
    changes = {**WEEK, f"aurora.{key}": "false"}

    assert problems(CLUSTER, changes, environment="prod") == (f"aurora.{key} is false: expected true in prod",)
    assert value_of(accepted(CLUSTER, changes, environment="staging"), f"aurora.{key}") is False


def test_production_keeps_its_data() -> None:
    """Production may not end with its stack; another environment may, and then keeps nothing."""
    changes = {**WEEK, "aurora.removal": '"destroy"'}

    assert problems(CLUSTER, changes, environment="prod") == (
        'aurora.removal is "destroy": expected "snapshot" in prod',
    )
    assert accepted(CLUSTER, changes, environment="staging").keeps_nothing


@pytest.mark.parametrize("removal", ['"snapshot"', None])
def test_production_accepts_both_ways_to_keep_its_data(removal: str | None) -> None:
    """A final snapshot, the default, and no removal at all are fit for production."""
    assert not accepted(CLUSTER, WEEK, {"aurora.removal": removal}, environment="prod").keeps_nothing


@pytest.mark.parametrize(("written", "days"), [("6", 6), ("1", 1), (None, 1)])
def test_production_keeps_backups_for_a_week(written: str | None, days: int) -> None:
    """Production without a reason keeps backups for 7 days or more, and the default of one day is too short."""
    assert problems(CLUSTER, {"aurora.backup_retention_days": written}, environment="prod") == (
        (
            f"aurora.backup_retention_days is {days}: expected 7 or more in prod, "
            "or an aurora.retention_reason that says why fewer are enough"
        ),
    )


@pytest.mark.parametrize("days", [7, 8, 35])
def test_production_accepts_a_week(days: int) -> None:
    """Seven days are enough for production without a reason."""
    config = accepted(CLUSTER, {"aurora.backup_retention_days": str(days)}, environment="prod")

    assert value_of(config, "aurora.backup_retention_days") == days


@pytest.mark.parametrize("reason", ["The central account keeps copies.", "The central account\nkeeps copies."])
def test_production_accepts_a_reason(reason: str) -> None:
    """Production may keep backups for less than a week where the file says why, on one line or more."""
    config = accepted(CLUSTER, {"aurora.retention_reason": f'"""{reason}"""'}, environment="prod")

    assert value_of(config, "aurora.retention_reason") == reason
    assert value_of(config, "aurora.backup_retention_days") == 1


def test_production_accepts_no_blank_reason() -> None:
    """A reason that says nothing is refused and excuses nothing."""
    found = problems(CLUSTER, {"aurora.retention_reason": '" "'}, environment="prod")

    assert [problem.partition(":")[0] for problem in found] == [
        'aurora.retention_reason is " "',
        "aurora.backup_retention_days is 1",
    ]


def test_production_does_not_judge_a_default_in_place_of_a_wrong_value() -> None:
    """A wrong retention is named as it is in the file, and not as the default that it is not."""
    assert problems(CLUSTER, {"aurora.backup_retention_days": "0"}, environment="prod") == (
        "aurora.backup_retention_days is 0: expected a whole number of days, 1 to 35",
    )


@pytest.mark.parametrize("environment", ["dev", "staging"])
def test_no_other_environment_is_held_to_the_rules_of_production(environment: str) -> None:
    """All that production refuses is accepted elsewhere, together."""
    changes = {"aurora.force_ssl": "false", "aurora.deletion_protection": "false", "aurora.removal": '"destroy"'}

    assert accepted(CLUSTER, changes, environment=environment).keeps_nothing


# The network


def test_refuses_zones_of_another_region() -> None:
    """Each zone that is not of the region is named."""
    zones = '["eu-central-1a", "eu-west-1b", "eu-west-1c"]'

    assert problems(CLUSTER, {"network.availability_zones": zones}) == (
        'network.availability_zones has "eu-west-1b": expected zones of eu-central-1',
        'network.availability_zones has "eu-west-1c": expected zones of eu-central-1',
    )


def test_refuses_a_vpc_without_subnets() -> None:
    """A VPC that is there is named together with its subnets."""
    assert problems(CLUSTER, THERE, {"network.subnet_ids": None}) == (
        "network.subnet_ids is missing: expected it together with network.vpc_id",
    )


def test_refuses_subnets_without_a_vpc() -> None:
    """Subnets that are there are named together with their VPC."""
    assert problems(CLUSTER, THERE, {"network.vpc_id": None}) == (
        "network.vpc_id is missing: expected it together with network.subnet_ids",
        "network.secrets_endpoint_security_group_id is set: expected only together with network.vpc_id",
    )


@pytest.mark.parametrize(
    ("subnets", "zones", "problem"),
    [
        (3, 2, "network.subnet_ids has 3 subnets: expected one for each of the 2 zones"),
        (2, 3, "network.subnet_ids has 2 subnets: expected one for each of the 3 zones"),
    ],
)
def test_refuses_another_number_of_subnets_than_of_zones(subnets: int, zones: int, problem: str) -> None:
    """Each zone has one subnet."""
    changes = {
        "network.subnet_ids": str([f"subnet-{number:08}" for number in range(subnets)]),
        "network.availability_zones": str([f"eu-central-1{letter}" for letter in "abc"[:zones]]),
    }

    assert problems(CLUSTER, THERE, changes) == (problem,)


def test_accepts_one_subnet_for_each_of_three_zones() -> None:
    """Three zones have three subnets."""
    changes = {
        "network.subnet_ids": '["subnet-00000001", "subnet-00000002", "subnet-00000003"]',
        "network.availability_zones": '["eu-central-1a", "eu-central-1b", "eu-central-1c"]',
    }

    assert value_of(accepted(CLUSTER, THERE, changes), "network.subnet_ids") == (
        "subnet-00000001",
        "subnet-00000002",
        "subnet-00000003",
    )


def test_refuses_gateways_in_a_vpc_that_is_there() -> None:
    """A VPC that is there has its own way out, or none."""
    assert problems(CLUSTER, THERE, {"network.nat_gateways": "1"}) == (
        "network.nat_gateways is 1: expected 0 together with network.vpc_id",
    )
    assert accepted(CLUSTER, THERE, {"network.nat_gateways": "0"}).network.nat_gateways == 0


def test_refuses_more_gateways_than_zones() -> None:
    """Each zone has one at most."""
    assert problems(CLUSTER, {"network.nat_gateways": "3"}) == (
        "network.nat_gateways is 3: expected 2 or fewer, one for each zone",
    )
    assert accepted(CLUSTER, {"network.nat_gateways": "2"}).network.nat_gateways == 2


def test_refuses_a_region_in_china() -> None:
    """Its service principals and host names are others, which nothing here knows."""
    changes = {"region": '"cn-north-1"', "network.availability_zones": '["cn-north-1a", "cn-north-1b"]'}

    assert problems(CLUSTER, changes) == (f'region is "cn-north-1": expected {ABOUT_REGION}',)


def test_refuses_a_cluster_in_a_vpc_whose_endpoint_is_not_named() -> None:
    """A second endpoint with the service's own name would take it from all that is there."""
    without = {"network.secrets_endpoint_security_group_id": None}

    (problem,) = problems(CLUSTER, THERE, without)
    assert problem == (
        "network.secrets_endpoint_security_group_id is missing: expected the group of the endpoint for Secrets Manager "
        "in network.vpc_id, as one made here would answer for all that is there, and let in only our own"
    )
    assert accepted(EXISTING, without).network.vpc_id == "vpc-12345678"


def test_refuses_the_group_of_an_endpoint_that_is_made() -> None:
    """An endpoint can be there already only where the VPC is."""
    group = {"network.secrets_endpoint_security_group_id": '"sg-12345678"'}

    assert problems(CLUSTER, group) == (
        "network.secrets_endpoint_security_group_id is set: expected only together with network.vpc_id",
    )
    assert value_of(accepted(CLUSTER, THERE, group), "network.secrets_endpoint_security_group_id") == "sg-12345678"


@pytest.mark.parametrize("gateways", ["0", None])
def test_refuses_datadog_without_a_way_out(gateways: str | None) -> None:
    """In a VPC that is made without gateways, the extension cannot reach Datadog."""
    assert problems(CLUSTER, DATADOG, {"network.nat_gateways": gateways}) == (
        "network.nat_gateways is 0: expected 1 or more with datadog, whose extension needs a way to the internet",
    )


@pytest.mark.parametrize("kind", [{**CLUSTER, **THERE}, EXISTING], ids=["cluster", "existing"])
def test_accepts_datadog_in_a_vpc_that_is_there(kind: Mapping[str, str | None]) -> None:
    """Whether a VPC that is there has a way out is for its owner to know."""
    assert accepted(kind, DATADOG, {"network.nat_gateways": None}).datadog is not None


# A database that is there


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_existing_database_is_passed_through(environment: str) -> None:
    """Without a cluster of its own, an environment hands on where the database is, in production too."""
    config = accepted(EXISTING, {"existing.secret_key_arn": f'"{KEY}"'}, environment=environment)

    assert not config.provision_aurora
    assert not config.keeps_nothing
    assert config.aurora is None
    assert config.existing == ExistingDatabase(
        host="db.example.org",
        port=5432,
        name="registrations",
        secret_arn=SECRET,
        secret_key_arn=KEY,
        security_group_id="sg-12345678",
    )


@pytest.mark.parametrize("provision", ["true", "false"])
def test_refuses_two_databases(provision: str) -> None:
    """An environment has a cluster of its own or somebody else's database, and never both."""
    unwanted, other = ("existing", "false") if provision == "true" else ("aurora", "true")

    # What is wrong in the table that has to go is nobody's concern.
    wrong = {"provision_aurora": provision, f"{unwanted}.colour": '"red"'}

    assert problems(CLUSTER, EXISTING, wrong) == (
        f"{unwanted} is set: expected only where provision_aurora is {other}",
    )


def test_refuses_a_database_of_the_other_kind() -> None:
    """An answer that contradicts the table is refused with both ways to mend it."""
    assert problems(CLUSTER, THERE, {"provision_aurora": "false"}) == (
        "aurora is set: expected only where provision_aurora is true",
        f"existing is missing: expected {KINDS['existing']}",
    )
    assert problems(EXISTING, {"provision_aurora": "true"}) == (
        "existing is set: expected only where provision_aurora is false",
        f"aurora is missing: expected {KINDS['aurora']}",
    )


def test_a_database_alone_needs_the_answer_alone() -> None:
    """A file that has one of the two and does not say which is not asked for the other one."""
    missing = (f"provision_aurora is missing: expected {ABOUT_FLAG}",)

    assert problems(EXISTING, {"provision_aurora": None}) == missing
    assert problems(CLUSTER, {"provision_aurora": None}) == missing


@pytest.mark.parametrize("subnets", [None, SUBNETS])
def test_refuses_an_existing_database_without_its_vpc(subnets: str | None) -> None:
    """The application has to be where the database is; that is said once."""
    group = "network.secrets_endpoint_security_group_id"
    changes = {"network.vpc_id": None, "network.subnet_ids": subnets, group: None}

    assert problems(EXISTING, changes) == (
        "network.vpc_id is missing: expected the VPC of the existing database, as provision_aurora is false",
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [("backup.central_account", '"999999999999"'), ("backup.own_plan", "true"), ("alarms.email", '"a@example.org"')],
)
def test_refuses_care_for_a_database_that_is_somebody_elses(key: str, value: str) -> None:
    """Backups and alarms that would not be made are refused, before anybody counts on them."""
    assert problems(EXISTING, {key: value}) == (f"{key} is {value}: expected only where provision_aurora is true",)
    assert value_of(accepted(CLUSTER, {key: value}), key) == tomllib.loads(f"value = {value}")["value"]


# Backups


@pytest.mark.parametrize("own_plan", ["false", None])
def test_refuses_a_copy_without_a_plan(own_plan: str | None) -> None:
    """A copy is made by the plan of this stack, so that it needs one."""
    assert problems(CLUSTER, {"backup.copy_to_vault_arn": f'"{VAULT}"', "backup.own_plan": own_plan}) == (
        "backup.copy_to_vault_arn is set: expected only where backup.own_plan is true",
    )


def test_the_backup_tag_is_fixed() -> None:
    """Every cluster is selected for backup by the same tag, which no key of a file changes."""
    assert BACKUP_TAG == ("backup", "enabled")
    assert not any("tag" in key for key in ALONE)


# Made in code


def test_what_is_made_in_code_is_checked_too() -> None:
    """An environment is refused when it is made without a file, with the same words."""
    config = load(SHIPPED / "prod.toml")
    assert config.aurora is not None

    with pytest.raises(InfraConfigError) as refused:
        replace(config, account="1", aurora=replace(config.aurora, max_capacity=0.5, force_ssl=False))

    assert str(refused.value) == (
        "the environment prod is wrong:\n"
        f'  - account is "1": expected {ABOUT_ACCOUNT}\n'
        "  - aurora.max_capacity is 0.5: expected 1 to 256 ACU in steps of 0.5\n"
        "  - aurora.force_ssl is false: expected true in prod"
    )


def test_an_environment_needs_a_database() -> None:
    """An environment that is made with neither a cluster nor a database, or with both, is refused."""
    config, existing = accepted(CLUSTER, THERE), accepted(EXISTING).existing

    with pytest.raises(InfraConfigError, match=r"\n  - existing is missing: expected a table \[existing\]"):
        EnvironmentConfig(name="dev", account=config.account, region=config.region, network=config.network)
    with pytest.raises(
        InfraConfigError, match=r"\n  - existing is set: expected only where provision_aurora is false$"
    ):
        replace(config, existing=existing)
    assert not replace(config, aurora=None, existing=existing).provision_aurora


@pytest.mark.parametrize("key", ["log_retention_days", "account", "region"])
def test_nothing_is_no_value(key: str) -> None:
    """`None` in the place of a value is refused, and is not taken for the default."""
    made: dict[str, Any] = {key: None}

    with pytest.raises(InfraConfigError) as refused:
        replace(accepted(CLUSTER), **made)

    assert refused.value.problems == (f"{key} is None: expected {ALONE[key][0]}",)


@pytest.mark.parametrize("key", ["aurora.min_capacity", "aurora.force_ssl", "aurora.proxy", "network.nat_gateways"])
def test_nothing_is_no_value_of_a_table(key: str) -> None:
    """`None` in the place of a table's value is refused, and is not taken for the default."""
    config, (table, name) = accepted(CLUSTER), key.split(".")
    nothing: dict[str, Any] = {name: None}
    made: dict[str, Any] = {table: replace(getattr(config, table), **nothing)}

    with pytest.raises(InfraConfigError) as refused:
        replace(config, **made)

    assert refused.value.problems == (f"{key} is None: expected {ALONE[key][0]}",)


@pytest.mark.parametrize("made", [None, 5, {"availability_zones": ["eu-central-1a", "eu-central-1b"]}, "network"])
def test_refuses_what_is_no_table_in_code(made: Any) -> None:
    """Anything but a `NetworkConfig` is refused, a dictionary that holds the same included."""
    with pytest.raises(InfraConfigError) as refused:
        replace(accepted(CLUSTER), network=made)

    assert refused.value.problems == (f"network is of type {type(made).__name__}: expected NetworkConfig",)


def test_a_configuration_never_changes() -> None:
    """What was checked cannot be changed afterwards."""
    config = load(SHIPPED / "prod.toml")
    assert config.aurora is not None

    with pytest.raises(FrozenInstanceError):
        config.name = "dev"  # type: ignore[misc]  # the assignment is what is refused
    with pytest.raises(FrozenInstanceError):
        config.aurora.force_ssl = False  # type: ignore[misc]  # the same
    with pytest.raises(FrozenInstanceError):
        config.network.nat_gateways = 1  # type: ignore[misc]  # the same
    # Nothing in it can be changed either, or it would have no hash.
    assert hash(config) == hash(load(SHIPPED / "prod.toml"))
    existing = {**EXISTING, **DATADOG, "network.nat_gateways": "0"}
    assert hash(accepted(existing)) == hash(accepted(existing))


# Anything at all

SCALARS = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.dates()
    | st.times()
    | st.datetimes()
    | st.sampled_from(
        [tomllib.loads(f"value = {each}")["value"] for _, edge, beyond in ALONE.values() for each in (*edge, *beyond)]
    )
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def tables() -> Iterator[tuple[str, st.SearchStrategy[Any]]]:
    """Yield each key above the tables, and each table with keys of its own, strange keys and strange values."""
    for key in TOP:
        yield key, VALUES
    for table, keys in TABLES.items():
        names = st.sampled_from(sorted(keys)) | st.text(max_size=5)
        yield table, st.dictionaries(names, VALUES, max_size=5) | VALUES


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(
    environment=st.sampled_from(ENVIRONMENTS) | st.text(),
    kind=st.sampled_from([CLUSTER, EXISTING, {}]),
    changes=st.fixed_dictionaries({}, optional=dict(tables())),
    others=st.dictionaries(st.text(max_size=5), VALUES, max_size=2),
)
def test_anything_is_read_or_refused(
    environment: str, kind: Mapping[str, str | None], changes: dict[str, Any], others: dict[str, Any]
) -> None:
    """Whatever a file holds becomes an environment or one error with messages of one line; nothing else happens."""
    values = document(kind)
    for key, change in changes.items():
        merged = isinstance(change, dict) and isinstance(values.get(key), dict)
        values[key] = {**values[key], **change} if merged else change
    made: EnvironmentConfig | InfraConfigError
    try:
        made = parse(environment, {**others, **values}, source=SOURCE)
    except InfraConfigError as error:
        made = error

    if isinstance(made, InfraConfigError):
        assert made.problems
        assert len(str(made).split("\n")) == 1 + len(made.problems)
    else:
        assert made.name == environment
        assert replace(made) == made


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(content=st.binary(max_size=40) | st.text(alphabet='[]{}"=.\n#ab1-', max_size=40).map(str.encode))
def test_any_file_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """A file of any octets is refused with one error and without a traceback."""
    path = tmp_path_factory.getbasetemp() / "dev.toml"
    path.write_bytes(content)

    with pytest.raises(InfraConfigError):
        load(path)


@pytest.mark.parametrize("name", ["half a character: \ud800", "NUL: \0"])
def test_a_name_that_cannot_be_sent_is_refused(name: str) -> None:
    """A name that is no text for PostgreSQL is refused like any other wrong one."""
    values = document(EXISTING)
    values["existing"]["name"] = name

    (problem,) = problems_of(values)

    assert problem.endswith(f": expected {ALONE['existing.name'][0]}")


@pytest.mark.parametrize(
    "path",
    sorted((INFRA / "registration_infra").rglob("*.py")),
    ids=lambda path: path.relative_to(INFRA).as_posix(),
)
def test_stands_without_the_package(path: Path) -> None:
    """No module imports the package, so that the infrastructure is made without what runs on it."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])

    assert imported or path.name == "__init__.py"
    assert "registration_persistence" not in imported
