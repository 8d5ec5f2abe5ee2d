"""`registration_infra.config`: which environment files are read, and which are refused with what words."""

import ast
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from registration_infra import (
    BACKUP_TAG,
    ENVIRONMENTS,
    AuroraConfig,
    EnvironmentConfig,
    ExistingDatabase,
    InfraConfigError,
    load,
)

from registration_persistence import DatabaseSettings

INFRA = Path(__file__).parents[2]
SHIPPED = INFRA / "environments"
ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:registration-AbCdEf"
CLUSTER = {
    "provision_aurora": "true",
    "database_name": '"registrations"',
    "deletion_protection": "true",
    "force_ssl": "true",
}
EXISTING = {"host": '"db.example.org"', "port": "5432", "name": '"registrations"', "secret_arn": f'"{ARN}"'}
ABOUT_CAPACITY = "ACU in steps of 0.5"
ABOUT_PAUSE = "a whole number of seconds, 300 to 86400"
ABOUT_RETENTION = "a whole number of days, 1 to 35"
ABOUT_NAME = "a letter, then up to 62 letters, digits or underscores"
ABOUT_ARN = "arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME, in partition aws, aws-cn or aws-us-gov"


class Folder:
    """A folder of environment files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, text: str, *, environment: str = "dev") -> Path:
        """Write a file named after *environment*."""
        path = self.path / f"{environment}.toml"
        path.write_text(text, encoding="utf-8")
        return path

    def cluster(self, changes: Mapping[str, str | None], *, environment: str = "dev") -> Path:
        """Write a file that provisions a cluster, with *changes* in TOML; `None` leaves a key out."""
        return self.file(toml({**CLUSTER, **changes}), environment=environment)

    def existing(self, changes: Mapping[str, str | None], *, environment: str = "dev", above: str = "") -> Path:
        """Write a file that names a database that is there, with *changes* in its table and *above* before it."""
        text = f"provision_aurora = false\n{above}\n[existing]\n{toml({**EXISTING, **changes})}"
        return self.file(text, environment=environment)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return an empty folder."""
    return Folder(tmp_path)


def toml(values: Mapping[str, str | None]) -> str:
    """Return *values* as lines of TOML."""
    return "".join(f"{key} = {value}\n" for key, value in values.items() if value is not None)


def problems_of(path: Path) -> tuple[str, ...]:
    """Return what is wrong with the file at *path*."""
    with pytest.raises(InfraConfigError) as refused:
        load(path)
    assert refused.value.source == str(path)
    return refused.value.problems


def aurora(path: Path) -> AuroraConfig:
    """Return the cluster that the file at *path* provisions."""
    database = load(path).database
    assert isinstance(database, AuroraConfig)
    return database


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_shipped_file_loads(environment: str) -> None:
    """Every environment has a file that is accepted, and provisions a cluster of 0.5 to 1 ACU that forces TLS."""
    config = load(SHIPPED / f"{environment}.toml")

    assert config.name == environment
    assert config.provision_aurora
    assert isinstance(config.database, AuroraConfig)
    assert (config.database.min_capacity, config.database.max_capacity) == (0.5, 1)
    assert config.database.force_ssl
    assert config.database.deletion_protection == (environment != "dev")


def test_no_other_file_is_shipped() -> None:
    """The folder of environments holds one file for each environment and nothing else."""
    assert {path.name for path in SHIPPED.iterdir()} == {f"{environment}.toml" for environment in ENVIRONMENTS}


def test_what_a_file_leaves_out_has_its_default(folder: Folder) -> None:
    """A cluster has 0.5 to 1 ACU, one day of backups and no pause unless its file says otherwise."""
    assert aurora(folder.cluster({})) == AuroraConfig(
        database_name="registrations",
        deletion_protection=True,
        force_ssl=True,
        min_capacity=0.5,
        max_capacity=1,
        auto_pause_seconds=None,
        backup_retention_days=1,
        retention_reason=None,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"min_capacity": "0", "auto_pause_seconds": "300"},
        {"min_capacity": "0.0", "auto_pause_seconds": "86400"},
        {"min_capacity": "256", "max_capacity": "256"},
        {"min_capacity": "1.5", "max_capacity": "2.5"},
        {"backup_retention_days": "1"},
        {"backup_retention_days": "35"},
        {"deletion_protection": "false", "force_ssl": "false"},
        {"database_name": f'"{"n" * 63}"'},
    ],
)
def test_the_limits_themselves_are_accepted(folder: Folder, changes: Mapping[str, str]) -> None:
    """A value at the edge of what AWS accepts is accepted."""
    config = aurora(folder.cluster(changes))

    for key, value in changes.items():
        assert str(getattr(config, key)).lower() == value.strip('"')


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        *(("min_capacity", value, f"0 to 256 {ABOUT_CAPACITY}") for value in ("-0.5", "0.7", "256.5", "true", "nan")),
        *(("max_capacity", value, f"1 to 256 {ABOUT_CAPACITY}") for value in ("0", "0.5", "1.2", "256.5", '"1"')),
        *(("backup_retention_days", value, ABOUT_RETENTION) for value in ("0", "36", "7.0", "true", '"7"')),
        *(("deletion_protection", value, "true or false") for value in ("1", '"yes"')),
        *(("force_ssl", value, "true or false") for value in ("0", '"true"')),
        *(("database_name", value, ABOUT_NAME) for value in ('""', '"1st"', '"a-b"', f'"{"n" * 64}"', "7", '"é"')),
        *(("retention_reason", value, "a sentence") for value in ('""', '"  "', "true")),
        ("provision_aurora", '"yes"', "true or false"),
        ("provision_aurora", "1", "true or false"),
    ],
)
def test_refuses_a_wrong_value(folder: Folder, key: str, value: str, expected: str) -> None:
    """A value that AWS would not accept is refused with the key, the value and what was expected."""
    shown = value.replace("nan", "NaN")

    assert problems_of(folder.cluster({key: value})) == (f"{key} is {shown}: expected {expected}",)


@pytest.mark.parametrize("value", ["299", "86401", "300.0", "true", '"300"'])
def test_refuses_a_wrong_pause(folder: Folder, value: str) -> None:
    """A pause that is not 300 to 86400 whole seconds is refused, and is not called missing."""
    path = folder.cluster({"min_capacity": "0", "auto_pause_seconds": value})

    assert problems_of(path) == (f"auto_pause_seconds is {value}: expected {ABOUT_PAUSE}",)


def test_refuses_a_minimum_of_zero_without_a_pause(folder: Folder) -> None:
    """A cluster that may go down to 0 ACU has to say after how long."""
    assert problems_of(folder.cluster({"min_capacity": "0"})) == (
        f"auto_pause_seconds is missing: expected {ABOUT_PAUSE}, as min_capacity is 0",
    )


def test_refuses_a_pause_above_zero(folder: Folder) -> None:
    """A pause is refused where the cluster never goes down to 0 ACU, the default minimum included."""
    assert problems_of(folder.cluster({"auto_pause_seconds": "300"})) == (
        "auto_pause_seconds is 300: expected only where min_capacity is 0, and it is 0.5",
    )


def test_refuses_a_minimum_above_the_maximum(folder: Folder) -> None:
    """The least capacity may not exceed the greatest, the default maximum included."""
    assert problems_of(folder.cluster({"min_capacity": "1.5"})) == (
        "min_capacity is 1.5: expected max_capacity, 1, or less",
    )


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("provision_aurora", "true or false"),
        ("database_name", ABOUT_NAME),
        ("deletion_protection", "true or false"),
        ("force_ssl", "true or false"),
    ],
)
def test_refuses_a_missing_key(folder: Folder, key: str, expected: str) -> None:
    """What has no default has to be in the file."""
    assert problems_of(folder.cluster({key: None})) == (f"{key} is missing: expected {expected}",)


@pytest.mark.parametrize("key", ["max_capcity", "backup_tag", "password"])
def test_refuses_an_unknown_key(folder: Folder, key: str) -> None:
    """A key that means nothing is refused with those that do, and its value, maybe a password, is not repeated."""
    (problem,) = problems_of(folder.cluster({key: '"hunter2"'}))

    assert problem.startswith(f"{key} is not a key: expected one of provision_aurora, existing, database_name, ")
    assert "hunter2" not in problem


def test_names_every_problem_and_the_file(folder: Folder) -> None:
    """One error names the file and everything that is wrong with it, in the file's own terms."""
    path = folder.cluster({"max_capacity": "300", "force_ssl": None, "colour": '"red"', "backup_retention_days": "0"})

    with pytest.raises(InfraConfigError) as refused:
        load(path)

    headline, *listed = str(refused.value).splitlines()
    assert headline == f"{path} is wrong:"
    assert [line.split(":")[0] for line in listed] == [
        "  - colour is not a key",
        "  - force_ssl is missing",
        "  - max_capacity is 300",
        "  - backup_retention_days is 0",
    ]


@pytest.mark.parametrize("content", [b"force_ssl = yes\n", b"a = 1\na = 2\n", b'database_name = "\xff"\n', None])
def test_refuses_what_is_no_toml(tmp_path: Path, content: bytes | None) -> None:
    """A file that is absent, not TOML or not UTF-8 is refused with the same kind of error."""
    path = tmp_path / "dev.toml"
    if content is not None:
        path.write_bytes(content)

    (problem,) = problems_of(path)

    assert problem.startswith("it cannot be read as TOML: ")


@pytest.mark.parametrize("environment", ["qa", "production", "PROD"])
def test_refuses_an_unknown_environment(folder: Folder, environment: str) -> None:
    """A file that is named after no environment is refused, so that no name escapes the rules of production."""
    expected = (f'the environment is named "{environment}": expected one of dev, staging, prod',)

    assert problems_of(folder.cluster({}, environment=environment)) == expected
    assert problems_of(folder.existing({}, environment=environment)) == expected


@pytest.mark.parametrize("key", ["force_ssl", "deletion_protection"])
def test_production_forces_tls_and_protects_from_deletion(folder: Folder, key: str) -> None:
    """Production may neither accept connections without TLS nor be deleted; another environment may."""
    changes = {key: "false", "backup_retention_days": "7"}

    assert problems_of(folder.cluster(changes, environment="prod")) == (f"{key} is false: expected true in prod",)
    assert getattr(aurora(folder.cluster(changes, environment="staging")), key) is False


@pytest.mark.parametrize(("changes", "days"), [({"backup_retention_days": "6"}, 6), ({}, 1)])
def test_production_keeps_backups_for_a_week(folder: Folder, changes: Mapping[str, str], days: int) -> None:
    """Production without a reason keeps backups for 7 days or more, and the default of one day is too short."""
    (problem,) = problems_of(folder.cluster(changes, environment="prod"))

    assert problem == (
        f"backup_retention_days is {days}: expected 7 or more in prod, "
        "or a retention_reason that says why fewer are enough"
    )


@pytest.mark.parametrize("days", [7, 8])
def test_production_accepts_a_week(folder: Folder, days: int) -> None:
    """Seven days are enough for production without a reason."""
    path = folder.cluster({"backup_retention_days": str(days)}, environment="prod")

    assert aurora(path).backup_retention_days == days


@pytest.mark.parametrize(
    "reason", ["The central account keeps copies for a year.", "The central account\nkeeps copies."]
)
def test_production_accepts_a_reason(folder: Folder, reason: str) -> None:
    """Production may keep backups for less than a week where the file says why, on one line or more."""
    config = aurora(folder.cluster({"retention_reason": f'"""{reason}"""'}, environment="prod"))

    assert (config.backup_retention_days, config.retention_reason) == (1, reason)


def test_production_accepts_no_blank_reason(folder: Folder) -> None:
    """A reason that says nothing is refused and excuses nothing."""
    problems = problems_of(folder.cluster({"retention_reason": '" "'}, environment="prod"))

    assert [problem.split(":")[0] for problem in problems] == ['retention_reason is " "', "backup_retention_days is 1"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_existing_database_is_passed_through(folder: Folder, environment: str) -> None:
    """Without a cluster of its own, an environment hands on where the database is, as the package reads it."""
    config = load(folder.existing({}, environment=environment))

    assert not config.provision_aurora
    assert isinstance(config.database, ExistingDatabase)
    assert config.database.environment_variables == {
        "APP_DATABASE_HOST": "db.example.org",
        "APP_DATABASE_PORT": "5432",
        "APP_DATABASE_NAME": "registrations",
        "APP_DATABASE_SECRET_ARN": ARN,
    }
    settings = DatabaseSettings.from_env(config.database.environment_variables)
    assert (settings.host, settings.port, settings.name) == ("db.example.org", 5432, "registrations")
    assert settings.secret_arn == ARN


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("host", '"2001:db8::1"'),
        ("port", "1"),
        ("port", "65535"),
        ("name", '"my-db 2"'),
        ("name", f'"{"é" * 31}"'),
        ("secret_arn", '"arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:prod/db"'),
    ],
)
def test_accepts_what_the_package_accepts(folder: Folder, key: str, value: str) -> None:
    """An existing database may have any name and any port, and be in any of the three partitions."""
    database = load(folder.existing({key: value})).database

    assert isinstance(database, ExistingDatabase)
    assert str(getattr(database, key)) == value.strip('"')
    assert str(getattr(DatabaseSettings.from_env(database.environment_variables), key)) == value.strip('"')


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        *(("host", value, "one host name or IP address") for value in ('""', '"a b"', '"a,b"', '"/tmp"', "5")),
        *(("port", value, "a whole number, 1 to 65535") for value in ("0", "65536", '"5432"', "true")),
        *(
            ("name", value, "the name of the database, 1 to 63 octets")
            for value in ('""', f'"{"é" * 32}"', '"a\\u0000"', "5")
        ),
        *(
            ("secret_arn", value, ABOUT_ARN)
            for value in (
                '"registration"',
                f'"{ARN.replace(":aws:", ":aws-iso:")}"',
                f'"{ARN.replace("123456789012", "12345678901")}"',
                f'"{ARN.replace("123456789012", "12345678901٢")}"',
                f'"{ARN} "',
            )
        ),
    ],
)
def test_refuses_a_wrong_existing_database(folder: Folder, key: str, value: str, expected: str) -> None:
    """A value that the package would refuse when it starts is refused here already."""
    assert problems_of(folder.existing({key: value})) == (f"existing.{key} is {value}: expected {expected}",)


@pytest.mark.parametrize("key", EXISTING)
def test_refuses_an_incomplete_existing_database(folder: Folder, key: str) -> None:
    """Host, port, name and secret of an existing database all have to be given."""
    (problem,) = problems_of(folder.existing({key: None}))

    assert problem.startswith(f"existing.{key} is missing: expected ")


def test_refuses_an_unknown_key_of_an_existing_database(folder: Folder) -> None:
    """A password has no place in an environment file, and is not repeated."""
    (problem,) = problems_of(folder.existing({"password": '"hunter2"'}))

    assert problem == (
        "existing.password is not a key: "
        "expected one of existing.host, existing.port, existing.name, existing.secret_arn"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "existing is missing: expected a table of host, port, name, secret_arn, as provision_aurora is false"),
        ("existing = 5\n", "existing is 5: expected a table of host, port, name, secret_arn"),
    ],
)
def test_refuses_no_database_at_all(folder: Folder, text: str, problem: str) -> None:
    """An environment that provisions nothing has to name a database that is there."""
    assert problems_of(folder.file(f"provision_aurora = false\n{text}")) == (problem,)


def test_refuses_two_databases(folder: Folder) -> None:
    """An environment that provisions a cluster may not name another database too."""
    path = folder.file(f"{toml(CLUSTER)}[existing]\n{toml(EXISTING)}")

    assert problems_of(path) == ("existing is set: expected only where provision_aurora is false",)


def test_refuses_keys_of_a_cluster_that_is_not_provisioned(folder: Folder) -> None:
    """A key that would have no effect on a database of somebody else's is refused."""
    path = folder.existing({}, above='force_ssl = true\nmin_capacity = 0.5\ndatabase_name = "registrations"')

    assert problems_of(path) == (
        'database_name is "registrations": expected only where provision_aurora is true',
        "force_ssl is true: expected only where provision_aurora is true",
        "min_capacity is 0.5: expected only where provision_aurora is true",
    )


def test_an_existing_database_alone_needs_the_answer_alone(folder: Folder) -> None:
    """A file that names a database and does not say whether to provision one is not asked for a cluster's keys."""
    path = folder.file(f"[existing]\n{toml(EXISTING)}")

    assert problems_of(path) == ("provision_aurora is missing: expected true or false",)


@pytest.mark.parametrize(
    ("least", "most", "connections"),
    [
        (0.5, 1, 189),
        (0.5, 3.5, 189),
        (0.5, 4, 823),
        (0.5, 8, 1669),
        (0.5, 16, 2000),
        (1, 16, 3360),
        (1, 32, 5000),
        (1, 256, 5000),
    ],
)
def test_connections_follow_the_maximum_capacity(least: float, most: float, connections: int) -> None:
    """The connections are those that AWS lists for the greatest capacity, at most 2000 from half an ACU."""
    cluster = replace(aurora(SHIPPED / "prod.toml"), min_capacity=least, max_capacity=most)

    assert cluster.max_connections == connections


@pytest.mark.parametrize(("most", "connections"), [(8, 1669), (64, 2000)])
def test_connections_are_capped_where_the_cluster_pauses(folder: Folder, most: int, connections: int) -> None:
    """A cluster that pauses allows at most 2000 connections."""
    path = folder.cluster({"min_capacity": "0", "max_capacity": str(most), "auto_pause_seconds": "300"})

    assert aurora(path).max_connections == connections


def test_what_is_made_in_code_is_checked_too() -> None:
    """A cluster, an existing database and an environment are refused when they are made without a file."""
    cluster = AuroraConfig(database_name="registrations", deletion_protection=False, force_ssl=False)

    with pytest.raises(InfraConfigError, match=r"(?s)AuroraConfig is wrong.*max_capacity is 0\.5"):
        replace(cluster, max_capacity=0.5)
    with pytest.raises(InfraConfigError, match=r"(?s)ExistingDatabase is wrong.*port is 0"):
        ExistingDatabase(host="db.example.org", port=0, name="registrations", secret_arn=ARN)
    with pytest.raises(InfraConfigError, match=r"(?s)EnvironmentConfig is wrong.*force_ssl.*deletion_protection"):
        EnvironmentConfig("prod", cluster)


def test_a_configuration_never_changes() -> None:
    """What was checked cannot be changed afterwards."""
    config = load(SHIPPED / "prod.toml")

    with pytest.raises(FrozenInstanceError):
        config.name = "dev"  # type: ignore[misc]  # the assignment is what is refused
    with pytest.raises(FrozenInstanceError):
        config.database.force_ssl = False  # type: ignore[misc, union-attr]  # the same


def test_the_backup_tag_is_fixed() -> None:
    """Every cluster is selected for backup by the same tag."""
    assert BACKUP_TAG == ("backup", "enabled")


@pytest.mark.parametrize("path", sorted((INFRA / "registration_infra").rglob("*.py")), ids=lambda path: path.name)
def test_stands_without_the_package(path: Path) -> None:
    """No module imports the package, which the virtual environment of the infrastructure does not have."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])

    assert imported
    assert "registration_persistence" not in imported
