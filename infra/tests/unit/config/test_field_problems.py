"""`config.field_problems`: the message for each key with an invalid value, and for unknown and missing keys."""

import tomllib
from collections.abc import Mapping

import pytest
from environment_files import (
    CLUSTER,
    DATADOG,
    EXISTING,
    EXISTING_VPC,
    PAUSE,
    VAULT,
    WEEK,
    accepted,
    document,
    problems,
    problems_of,
    value_of,
)
from key_values import ACCEPTED, EXPECTED, REFUSED, TABLES, VALUES, around

REQUIRED = [
    "provision_aurora",
    "account",
    "region",
    "network.availability_zones",
    "aurora.database_name",
    "aurora.deletion_protection",
    "aurora.force_ssl",
    "existing.host",
    "existing.name",
    "datadog.site",
    "datadog.api_key_secret_arn",
]
# `test_existing_rules.py` tests when these are required.
DEPENDENT = ["existing.secret_arn", "existing.security_group_id"]


@pytest.mark.parametrize(("key", "value"), ACCEPTED)
def test_a_value_at_the_limit_is_accepted(key: str, value: str) -> None:
    """A value at the limit of what AWS accepts is accepted, and the environment has it."""
    config = accepted(around(key), {key: value})

    expected = tomllib.loads(f"value = {value}")["value"]
    assert value_of(config, key) == (tuple(expected) if isinstance(expected, list) else expected)


@pytest.mark.parametrize(("key", "value"), REFUSED)
def test_an_invalid_value_is_refused(key: str, value: str) -> None:
    """A value that AWS would refuse gives one message, with the key, the value and the expected values."""
    assert problems(around(key), {key: value}) == (f"{key} is {value}: expected {EXPECTED[key]}",)


@pytest.mark.parametrize("key", [key for key in VALUES if not key.startswith("existing")])
def test_nothing_follows_from_an_invalid_value(key: str) -> None:
    """If other keys depend on a key with an invalid value, only the invalid value is reported."""
    fullest = {
        **CLUSTER,
        **EXISTING_VPC,
        **PAUSE,
        **DATADOG,
        "network.nat_gateways": "0",
        "network.secrets_endpoint_security_group_id": '"sg-12345678"',
        "backup.own_plan": "true",
        "backup.copy_to_vault_arn": f'"{VAULT}"',
    }
    expected, _, wrong = VALUES[key]
    assert accepted(fullest).datadog is not None

    assert problems(fullest, {key: wrong[0]}) == (f"{key} is {wrong[0]}: expected {expected}",)


@pytest.mark.parametrize("key", VALUES)
def test_a_value_of_another_type_is_refused(key: str) -> None:
    """Each key refuses a table, a list, a time and a huge number, and the message does not repeat nested values."""
    for value, shown in {
        "[[1], [2]]": "a list of tables or lists",
        '[{password = "hunter2"}]': "a list of tables or lists",
        '{password = "hunter2"}': "a table",
        "07:32:00": "07:32:00",
        "1979-05-27T07:32:00Z": "1979-05-27 07:32:00+00:00",
        f"0x{'f' * 5000}": "a number of more than 64 bits",
        "[nan, true]": "[nan, true]",
    }.items():
        assert problems(around(key), {key: value}) == (f"{key} is {shown}: expected {EXPECTED[key]}",)


@pytest.mark.parametrize("name", ["half a character: \ud800", "NUL: \0"])
def test_a_name_that_cannot_be_encoded_is_refused(name: str) -> None:
    """A database name that cannot be sent to PostgreSQL is refused."""
    values = document(EXISTING)
    values["existing"]["name"] = name

    (problem,) = problems_of(values)

    assert problem.endswith(f": expected {EXPECTED['existing.name']}")


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_refused(key: str) -> None:
    """A key without a default is required."""
    assert problems(around(key), {key: None}) == (f"{key} is missing: expected {EXPECTED[key]}",)


@pytest.mark.parametrize("key", [key for key in VALUES if key not in REQUIRED and key not in DEPENDENT])
def test_any_other_key_may_be_left_out(key: str) -> None:
    """A key with a default may be left out of a file with nothing that needs it."""
    known = {"existing.host": '"d.cluster-abc.eu-central-1.rds.amazonaws.com"'}
    base = {**EXISTING, **known} if key.startswith("existing") else CLUSTER

    assert accepted(base, {key: None}).name == "dev"


def test_an_unknown_key_is_refused() -> None:
    """An unknown key outside the tables is refused with a list of the known keys."""
    known = (
        "provision_aurora, account, region, log_retention_days, "
        "github_repository, network, aurora, existing, backup, application, alarms, datadog"
    )

    assert problems(CLUSTER, {"backup_tag": '"hunter2"'}) == (f"backup_tag is not a key: expected one of {known}",)
    assert problems(CLUSTER, {"net.cidr": '"hunter2"'}) == (f"net is not a key: expected one of {known}",)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("provisionAurora", "provision_aurora"),
        ("ProvisionAurora", "provision_aurora"),
        ("provision-aurora", "provision_aurora"),
        ("provision_arora", "provision_aurora"),
        ("logRetentionDays", "log_retention_days"),
        ("nework", "network"),
        ("aurora.minCapacity", "aurora.min_capacity"),
        ("aurora.MIN_CAPACITY", "aurora.min_capacity"),
        ("aurora.databaseName", "aurora.database_name"),
        ("network.vpcId", "network.vpc_id"),
        ("network.availabilityZones", "network.availability_zones"),
        ("backup.copyToVaultArn", "backup.copy_to_vault_arn"),
        ("application.reservedConcurrency", "application.reserved_concurrency"),
        ("datadog.apiKeySecretArn", "datadog.api_key_secret_arn"),
        ("minCapacity", "aurora.min_capacity"),
        ("central_account", "backup.central_account"),
    ],
)
def test_a_misspelled_key_is_refused_with_the_right_one(key: str, meant: str) -> None:
    """A key in another spelling or table is reported once, with the key that was meant, and without its value."""
    base = around(meant) if meant in VALUES else CLUSTER

    assert problems(base, {meant: None, key: '"hunter2"'}) == (f"{key} is not a key: did you mean {meant}?",)


@pytest.mark.parametrize("table", ["Aurora", "network", "Existing"])
def test_a_misspelled_table_is_reported_once(table: str) -> None:
    """A table in another spelling is not also reported as missing."""
    values = document(EXISTING if table == "Existing" else CLUSTER)
    values[f"{table}s"] = values.pop(table.lower())

    assert problems_of(values) == (f"{table}s is not a key: did you mean {table.lower()}?",)


def test_all_problems_of_a_table_are_reported_together() -> None:
    """Misspelled, missing and invalid keys of one table are next to each other, before those of the next table."""
    changes = {
        "aurora.database_name": None,
        "aurora.minCapacity": "300",
        "aurora.max_capacity": "300",
        "aurora.force_ssl": "false",
        "network.availability_zones": '["eu-west-1a", "eu-west-1b"]',
        "network.natGateways": "1",
    }

    found = problems(CLUSTER, changes, WEEK, environment="prod")

    assert [problem.partition(":")[0] for problem in found] == [
        "network.natGateways is not a key",
        'network.availability_zones has "eu-west-1a"',
        'network.availability_zones has "eu-west-1b"',
        "aurora.database_name is missing",
        "aurora.max_capacity is 300",
        "aurora.minCapacity is not a key",
        "aurora.force_ssl is false",
    ]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("value", ['"hunter2"', '{password = "hunter2"}', '[{password = "hunter2"}]'])
def test_an_unknown_key_of_a_table_is_refused(table: str, value: str) -> None:
    """An unknown key is refused with a list of the known keys, without its value, which may be a password."""
    key = f"{table}.password"
    known = [each for each in VALUES if each.startswith(f"{table}.")]

    (problem,) = problems(around(key), {key: value})

    assert "hunter2" not in problem
    before, listed = problem.split(": expected one of ")
    assert before == f"{key} is not a key"
    assert sorted(listed.split(", ")) == sorted(known)


@pytest.mark.parametrize(
    ("key", "shown"),
    [("a\n  - all is well", '"a\\n  - all is well"'), ("", '""'), ("é", '"é"'), ("k" * 64, f'"{"k" * 64}"')],
)
def test_an_unusual_key_is_shown_in_quotes(key: str, shown: str) -> None:
    """A key that needs quotes in TOML has them in the message, so that it cannot look like another message."""
    found = problems_of({**document(CLUSTER), key: 1})

    assert [problem.partition(" is not a key: ")[0] for problem in found] == [shown]


@pytest.mark.parametrize("table", TABLES)
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
def test_a_value_in_place_of_a_table_is_refused(table: str, value: object, shown: str) -> None:
    """A value in place of a table gives one message, with the header and the required keys of the table."""
    base = document(EXISTING if table == "existing" else CLUSTER)

    assert problems_of({**base, table: value}) == (f"{table} is {shown}: expected {TABLES[table]}",)


@pytest.mark.parametrize(("table", "kind"), [("network", CLUSTER), ("aurora", CLUSTER), ("existing", EXISTING)])
def test_a_missing_table_is_refused(table: str, kind: Mapping[str, str | None]) -> None:
    """A table with required keys is required."""
    values = document(kind)
    del values[table]

    assert problems_of(values) == (f"{table} is missing: expected {TABLES[table]}",)
