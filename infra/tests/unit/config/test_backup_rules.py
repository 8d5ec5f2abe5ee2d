"""`config.backup_rules`: copies go to another account or vault."""

import pytest
from environment_files import CLUSTER, EXISTING, accepted, problems, value_of

OWN = "arn:aws:backup:eu-central-1:123456789012:backup-vault:registration-dev"
PLAN = {"backup.own_plan": "true"}


def test_the_own_account_is_no_central_account() -> None:
    """A central account protects against the loss of the own account, so it must be another one."""
    assert problems(CLUSTER, {"backup.central_account": '"123456789012"'}) == (
        (
            'backup.central_account is "123456789012": expected another account, '
            "because a copy in this account is lost together with it"
        ),
    )


def test_the_vault_of_the_plan_cannot_be_its_copy() -> None:
    """The plan cannot copy a backup into the vault that contains it."""
    assert problems(CLUSTER, PLAN, {"backup.copy_to_vault_arn": f'"{OWN}"'}) == (
        (
            f'backup.copy_to_vault_arn is "{OWN}": expected another vault, '
            "because it is the vault that backup.own_plan writes to"
        ),
    )


@pytest.mark.parametrize("environment", ["staging", "dev"])
def test_the_own_account_and_the_own_vault_are_reported_together(environment: str) -> None:
    """Both problems are in one error; the vault is that of the environment with the name of the file."""
    vault = OWN.replace("-dev", f"-{environment}")
    changes = {"backup.central_account": '"123456789012"', "backup.copy_to_vault_arn": f'"{vault}"'}

    found = problems(CLUSTER, PLAN, changes, environment=environment)

    assert [each.partition(" is ")[0] for each in found] == ["backup.central_account", "backup.copy_to_vault_arn"]


@pytest.mark.parametrize(
    "vault",
    [
        OWN.replace("eu-central-1", "eu-west-1"),
        OWN.replace("123456789012", "999999999999"),
        OWN.replace("-dev", "-copies"),
    ],
)
def test_another_vault_is_accepted(vault: str) -> None:
    """A vault in another region, in another account, or with another name is a copy."""
    config = accepted(CLUSTER, PLAN, {"backup.copy_to_vault_arn": f'"{vault}"'})

    assert value_of(config, "backup.copy_to_vault_arn") == vault


def test_a_restore_test_needs_the_own_plan() -> None:
    """Without the vault of the plan there is nothing to restore, and an existing database has no plan."""
    needed = "backup.restore_test is true: expected only if backup.own_plan is true, "
    assert problems(CLUSTER, {"backup.restore_test": "true"}) == (
        f"{needed}because it restores from the vault of that plan",
    )
    assert problems(EXISTING, {"backup.restore_test": "true", **PLAN}) == (
        "backup.own_plan is true: expected only if provision_aurora is true",
    )
    assert accepted(CLUSTER, {"backup.restore_test": "true", **PLAN}).backup.restore_test
