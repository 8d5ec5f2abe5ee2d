"""`config.database_kind`: an environment has a cluster or an existing database."""

import pytest
from environment_files import CLUSTER, EXISTING, EXISTING_VPC, KEY, SECRET, SUBNETS, accepted, problems
from key_values import FLAG_WORDS, TABLES
from registration_infra import ENVIRONMENTS, ExistingDatabase


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_existing_database_is_passed_through(environment: str) -> None:
    """An environment without a cluster has the values of [existing], in production too."""
    config = accepted(EXISTING, {"existing.secret_key_arn": f'"{KEY}"'}, environment=environment)

    assert not config.provision_aurora
    assert not config.deletes_all_data
    assert config.aurora is None
    assert config.existing == ExistingDatabase(
        host="db.example.org",
        sslmode="require",
        port=5432,
        name="registrations",
        secret_arn=SECRET,
        secret_key_arn=KEY,
        security_group_id="sg-12345678",
    )


@pytest.mark.parametrize("provision", ["true", "false"])
def test_two_databases_are_refused(provision: str) -> None:
    """An environment has either a cluster or an existing database."""
    unwanted, other = ("existing", "false") if provision == "true" else ("aurora", "true")

    # A mistake in the unwanted table is not reported, because the table must be removed anyway.
    wrong = {"provision_aurora": provision, f"{unwanted}.colour": '"red"'}

    assert problems(CLUSTER, EXISTING, wrong) == (f"{unwanted} is set: expected only if provision_aurora is {other}",)


def test_a_database_of_the_other_kind_is_refused() -> None:
    """If `provision_aurora` contradicts the table, the messages show both ways to correct the file."""
    assert problems(CLUSTER, EXISTING_VPC, {"provision_aurora": "false"}) == (
        "aurora is set: expected only if provision_aurora is true",
        f"existing is missing: expected {TABLES['existing']}",
    )
    assert problems(EXISTING, {"provision_aurora": "true"}) == (
        "existing is set: expected only if provision_aurora is false",
        f"aurora is missing: expected {TABLES['aurora']}",
    )


def test_a_database_without_an_answer_needs_only_the_answer() -> None:
    """If `provision_aurora` is missing, the file is not asked for the table of the other database."""
    missing = (f"provision_aurora is missing: expected {FLAG_WORDS}",)

    assert problems(EXISTING, {"provision_aurora": None}) == missing
    assert problems(CLUSTER, {"provision_aurora": None}) == missing


@pytest.mark.parametrize("subnets", [None, SUBNETS])
def test_an_existing_database_needs_its_vpc(subnets: str | None) -> None:
    """The application must be in the VPC of the database; there is one message for it."""
    group = "network.secrets_endpoint_security_group_id"
    changes = {"network.vpc_id": None, "network.subnet_ids": subnets, group: None}

    assert problems(EXISTING, changes) == (
        "network.vpc_id is missing: expected the VPC of the existing database, because provision_aurora is false",
    )
