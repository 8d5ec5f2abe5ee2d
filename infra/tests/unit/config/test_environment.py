"""`config.environment`: defaults, environments that are made in code, and random content."""

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from environment_files import (
    CLUSTER,
    DATADOG,
    EXISTING,
    EXISTING_VPC,
    SECRET,
    SHIPPED,
    SOURCE,
    accepted,
    changed,
    document,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from key_values import ACCOUNT_WORDS, EXPECTED, TABLES, VALUES
from pydantic import ValidationError
from registration_infra import (
    ENVIRONMENTS,
    AlarmsConfig,
    ApplicationConfig,
    AuroraConfig,
    BackupConfig,
    DatadogConfig,
    EnvironmentConfig,
    InfraConfigError,
    NetworkConfig,
    load,
    parse,
)
from registration_infra.config.table import tables_of


def test_defaults() -> None:
    """A cluster has 0.5 to 1 ACU, one day of backups and no pause by default."""
    assert accepted(CLUSTER) == EnvironmentConfig(
        name="dev",
        provision_aurora=True,
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
            engine_version="18.4",
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
        backup=BackupConfig(
            central_account=None,
            own_plan=False,
            own_plan_retention_days=35,
            copy_to_vault_arn=None,
            restore_test=False,
            restore_test_min_registrations=1,
        ),
        application=ApplicationConfig(reserved_concurrency=50, connections=1),
        alarms=AlarmsConfig(email=None),
        datadog=None,
    )


def test_defaults_of_datadog() -> None:
    """A file with Datadog needs only the site and the API key."""
    assert accepted(CLUSTER, DATADOG).datadog == DatadogConfig(
        site="datadoghq.eu",
        api_key_secret_arn=SECRET,
        python_layer_version=120,
        extension_layer_version=90,
        event_metrics=False,
        database_monitoring=True,
    )


def test_every_key_has_test_values() -> None:
    """`key_values.VALUES` has each key, with accepted and with refused values."""
    tables = tables_of(EnvironmentConfig)
    top = EnvironmentConfig.file_keys().keys() - tables.keys()

    assert set(VALUES) == {*top, *(f"{table}.{key}" for table, model in tables.items() for key in model.file_keys())}
    assert all(accepted_values and refused_values for _, accepted_values, refused_values in VALUES.values())


def test_an_environment_made_in_code_is_checked() -> None:
    """An environment that is made without a file has the same messages."""
    config = load(SHIPPED / "prod.toml")
    assert config.aurora is not None
    aurora = {**dict(config.aurora), "max_capacity": 0.5, "force_ssl": False}
    problems = (
        "the environment prod is wrong:\n"
        f'  - account is "1": expected {ACCOUNT_WORDS}\n'
        "  - aurora.max_capacity is 0.5: expected 1 to 256 ACU in steps of 0.5\n"
        "  - aurora.force_ssl is false: expected true in prod"
    )

    # A table as a dictionary, and one that pydantic has copied without a check.
    for table in (aurora, config.aurora.model_copy(update=aurora)):
        with pytest.raises(InfraConfigError) as refused:
            changed(config, account="1", aurora=table)
        assert str(refused.value) == problems
        with pytest.raises(InfraConfigError) as refused:
            EnvironmentConfig.model_validate(config.model_copy(update={"account": "1", "aurora": table}))
        assert str(refused.value) == problems


def test_an_error_does_not_keep_the_values() -> None:
    """Neither the error of an environment nor that of a table repeats a value that may be a password."""
    with pytest.raises(InfraConfigError) as refused:
        changed(accepted(CLUSTER), password="hunter2", network={"password": "hunter2"})
    with pytest.raises(ValidationError) as of_table:
        AuroraConfig.model_validate({"password": "hunter2"})

    assert "hunter2" not in str(refused.value)
    assert refused.value.__context__ is None
    assert "hunter2" not in str(of_table.value)


def test_an_environment_needs_one_database() -> None:
    """An environment that is made in code needs a cluster or an existing database, and not both."""
    config, existing = accepted(CLUSTER, EXISTING_VPC), accepted(EXISTING).existing

    with pytest.raises(InfraConfigError, match=r"\n  - existing is missing: expected a table \[existing\]"):
        EnvironmentConfig(
            name="dev",
            provision_aurora=False,
            account=config.account,
            region=config.region,
            network=config.network,
        )
    with pytest.raises(InfraConfigError, match=r"\n  - aurora is missing: expected a table \[aurora\]"):
        changed(config, aurora=None)
    with pytest.raises(InfraConfigError, match=r"\n  - existing is set: expected only if provision_aurora is false$"):
        changed(config, existing=existing)
    assert not changed(config, provision_aurora=False, aurora=None, existing=existing).provision_aurora


def test_an_environment_needs_a_name() -> None:
    """An environment that is made in code needs its name."""
    nameless = {key: value for key, value in accepted(CLUSTER) if key != "name"}

    with pytest.raises(InfraConfigError) as refused:
        EnvironmentConfig.model_validate(nameless)

    assert refused.value.problems == ("the environment is named None: expected one of dev, staging, prod",)


def test_a_value_in_place_of_an_environment_is_refused() -> None:
    """Neither a dictionary nor an environment: that is an error of the caller, not of a file."""
    with pytest.raises(ValidationError, match="Input should be a valid dictionary or instance of EnvironmentConfig"):
        EnvironmentConfig.model_validate(5)


@pytest.mark.parametrize("key", ["log_retention_days", "account", "region"])
def test_none_is_not_a_value(key: str) -> None:
    """`None` is refused as the value of a key, and is not taken for the default."""
    with pytest.raises(InfraConfigError) as refused:
        changed(accepted(CLUSTER), **{key: None})

    assert refused.value.problems == (f"{key} is None: expected {EXPECTED[key]}",)


@pytest.mark.parametrize("key", ["aurora.min_capacity", "aurora.force_ssl", "aurora.proxy", "network.nat_gateways"])
def test_none_is_not_a_value_in_a_table(key: str) -> None:
    """`None` is refused as the value of a key of a table, and is not taken for the default."""
    config, (table, name) = accepted(CLUSTER), key.split(".")

    with pytest.raises(InfraConfigError) as refused:
        changed(config, **{table: {**dict(getattr(config, table)), name: None}})

    assert refused.value.problems == (f"{key} is None: expected {EXPECTED[key]}",)


@pytest.mark.parametrize(
    ("made", "state"),
    [(None, "is missing"), (5, "is 5"), ("network", 'is "network"'), (BackupConfig(), "is a table")],
)
def test_a_value_in_place_of_a_table_in_code_is_refused(made: object, state: str) -> None:
    """Anything but a `NetworkConfig` or a dictionary with its keys is refused, also a table of another kind."""
    with pytest.raises(InfraConfigError) as refused:
        changed(accepted(CLUSTER), network=made)

    assert refused.value.problems == (f"network {state}: expected {TABLES['network']}",)


def test_a_configuration_is_frozen() -> None:
    """A checked environment cannot be changed."""
    config = load(SHIPPED / "prod.toml")
    assert config.aurora is not None
    assert config.network is not None

    with pytest.raises(ValidationError, match="Instance is frozen"):
        config.name = "dev"
    with pytest.raises(ValidationError, match="Instance is frozen"):
        config.aurora.force_ssl = False
    with pytest.raises(ValidationError, match="Instance is frozen"):
        config.network.nat_gateways = 1
    assert config == load(SHIPPED / "prod.toml")
    # An object with a mutable part would have no hash.
    assert hash(config) == hash(load(SHIPPED / "prod.toml"))
    existing = {**EXISTING, **DATADOG, "network.nat_gateways": "0"}
    assert hash(accepted(existing)) == hash(accepted(existing))


SCALARS = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.dates()
    | st.times()
    | st.datetimes()
    | st.sampled_from(
        [tomllib.loads(f"value = {each}")["value"] for _, edge, beyond in VALUES.values() for each in (*edge, *beyond)]
    )
)
CONTENT = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def keys_and_tables() -> Iterator[tuple[str, st.SearchStrategy[Any]]]:
    """Yield each key and table with a strategy: any content, and for tables also known and unknown keys with it."""
    tables = tables_of(EnvironmentConfig)
    for key in EnvironmentConfig.file_keys():
        if key in tables:
            names = st.sampled_from(sorted(tables[key].file_keys())) | st.text(max_size=5)
            yield key, st.dictionaries(names, CONTENT, max_size=5) | CONTENT
        else:
            yield key, CONTENT


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(
    environment=st.sampled_from(ENVIRONMENTS) | st.text(),
    kind=st.sampled_from([CLUSTER, EXISTING, {}]),
    changes=st.fixed_dictionaries({}, optional=dict(keys_and_tables())),
    others=st.dictionaries(st.text(max_size=5), CONTENT, max_size=2),
)
def test_any_content_is_read_or_refused(
    environment: str, kind: Mapping[str, str | None], changes: dict[str, Any], others: dict[str, Any]
) -> None:
    """Any content of a file becomes an environment or one error with messages of one line; nothing else happens."""
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
        assert EnvironmentConfig.model_validate(made) == made
