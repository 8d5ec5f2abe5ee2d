"""`config.loading`: files that are read, files that cannot be read, and the names of environments."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from environment_files import CLUSTER, EXISTING, SHIPPED, VAULT, accepted, document, problems, problems_of
from hypothesis import given, settings
from hypothesis import strategies as st
from key_values import ACCOUNT_WORDS, FLAG_WORDS, REGION_WORDS, TABLES
from registration_infra import ENVIRONMENTS, InfraConfigError, load


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_shipped_file_loads(environment: str) -> None:
    """Each environment has a valid file, which provisions a cluster of 0.5 to 1 ACU that forces TLS."""
    config = load(SHIPPED / f"{environment}.toml")

    assert config.name == environment
    assert config.provision_aurora
    assert config.aurora is not None
    assert (config.aurora.min_capacity, config.aurora.max_capacity) == (0.5, 1)
    assert config.aurora.force_ssl
    assert config.aurora.deletion_protection == (environment != "dev")
    assert config.deletes_all_data == (environment == "dev")
    assert (config.prefix, config.path) == (f"registration-{environment}", f"registration/{environment}")


def test_no_other_file_is_shipped() -> None:
    """The folder of environments has one file for each environment and nothing else."""
    assert {path.name for path in SHIPPED.iterdir()} == {f"{environment}.toml" for environment in ENVIRONMENTS}


def test_an_error_names_the_path_of_the_file(tmp_path: Path) -> None:
    """The error starts with the path of the file, so that an operator can open it."""
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
            "it cannot be read as TOML: it begins with a byte order mark, but must be UTF-8 without one",
            id="byte order mark",
        ),
        pytest.param("a = 1\n".encode("utf-16"), "it cannot be read as TOML: 'utf-8' codec can't", id="UTF-16"),
        pytest.param(b"a = \x00", "it cannot be read as TOML: ", id="NUL"),
        pytest.param(b"a = " + b"[" * 5000 + b"]" * 5000, "it cannot be read as TOML: ", id="nested too deeply"),
        pytest.param(b"a = 1" + b"0" * 5000, "it cannot be read as TOML: ", id="a number without end"),
        pytest.param(None, "it cannot be read: No such file or directory", id="missing"),
    ],
)
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """A file that is missing, not TOML or not UTF-8 is refused with an `InfraConfigError`."""
    path = tmp_path / "dev.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InfraConfigError) as refused:
        load(path)

    assert str(refused.value).startswith(f"{path} is wrong:\n  - {problem}")
    assert len(refused.value.problems) == 1


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder instead of a file is refused with an `InfraConfigError`."""
    with pytest.raises(InfraConfigError) as refused:
        load(tmp_path)

    assert refused.value.problems == ("it cannot be read: Is a directory",)


def test_an_impossible_path_is_refused(tmp_path: Path) -> None:
    """A path that the operating system does not accept is refused with an `InfraConfigError`."""
    with pytest.raises(InfraConfigError, match="it cannot be read"):
        load(tmp_path / "dev\0.toml")


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_an_empty_file_lists_everything_that_is_required(tmp_path: Path, text: str) -> None:
    """The error of an empty file lists each required key and table."""
    path = tmp_path / "dev.toml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(InfraConfigError) as refused:
        load(path)

    assert refused.value.problems == (
        f"provision_aurora is missing: expected {FLAG_WORDS}",
        f"account is missing: expected {ACCOUNT_WORDS}",
        f"region is missing: expected {REGION_WORDS}",
        f"aurora is missing: expected {TABLES['aurora']}",
        f"network is missing: expected {TABLES['network']}",
    )


@pytest.mark.parametrize("environment", ["qa", "production", "PROD", "", "prod\n"])
@pytest.mark.parametrize("kind", [CLUSTER, EXISTING], ids=["cluster", "existing"])
def test_an_unknown_environment_is_refused(environment: str, kind: Mapping[str, str | None]) -> None:
    """A file with another name is refused, so that no environment escapes the rules of production by its name."""
    shown = environment.replace("\n", "\\n")

    assert problems(kind, environment=environment) == (
        f'the environment is named "{shown}": expected one of dev, staging, prod',
    )


@pytest.mark.parametrize("value", ["dev", "prod", 5])
def test_the_name_is_not_a_key_of_a_file(value: object) -> None:
    """A file cannot set the name of its environment, whatever else is wrong with it."""
    named = {**document(CLUSTER), "name": value}
    problem = (
        "name is not a key: expected one of provision_aurora, account, region, log_retention_days, "
        "github_repository, network, aurora, existing, backup, application, alarms, datadog"
    )

    assert problems_of(named) == (problem,)
    assert problems_of({**named, "region": 5}) == (problem, f"region is 5: expected {REGION_WORDS}")
    assert accepted(CLUSTER).name == "dev"


def test_every_problem_is_in_one_error() -> None:
    """One error lists all invalid keys and violated rules by table, but nothing that follows from an invalid key."""
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
        "account is missing",
        "aurora.force_ssl is missing",
        "aurora.max_capacity is 300",
        "aurora.backup_retention_days is 0",
        "aurora.colour is not a key",
        'aurora.removal is "destroy"',
        "application.connections is 0",
        "colour is not a key",
        "backup.copy_to_vault_arn is set",
    ]


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(content=st.binary(max_size=40) | st.text(alphabet='[]{}"=.\n#ab1-', max_size=40).map(str.encode))
def test_any_file_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """A file of random bytes is refused with an `InfraConfigError`, without a traceback."""
    path = tmp_path_factory.getbasetemp() / "dev.toml"
    path.write_bytes(content)

    with pytest.raises(InfraConfigError):
        load(path)
