"""`config.rules`: backups, and keys without effect on an existing database."""

import tomllib

import pytest
from environment_files import CLUSTER, EXISTING, VAULT, accepted, problems, value_of
from key_values import VALUES
from registration_infra import BACKUP_TAG


@pytest.mark.parametrize(
    ("key", "value"),
    [("backup.central_account", '"999999999999"'), ("backup.own_plan", "true"), ("alarms.email", '"a@example.org"')],
)
def test_backups_and_alarms_need_our_own_cluster(key: str, value: str) -> None:
    """Backups and alarms of an existing database would not be created, so they are refused."""
    assert problems(EXISTING, {key: value}) == (f"{key} is {value}: expected only if provision_aurora is true",)
    assert value_of(accepted(CLUSTER, {key: value}), key) == tomllib.loads(f"value = {value}")["value"]


@pytest.mark.parametrize("own_plan", ["false", None])
def test_a_copy_needs_a_plan(own_plan: str | None) -> None:
    """The copy is made by the plan of this stack."""
    assert problems(CLUSTER, {"backup.copy_to_vault_arn": f'"{VAULT}"', "backup.own_plan": own_plan}) == (
        "backup.copy_to_vault_arn is set: expected only if backup.own_plan is true",
    )


def test_the_backup_tag_is_fixed() -> None:
    """Every cluster has the same tag for backups, which no key of a file changes."""
    assert BACKUP_TAG == ("backup", "enabled")
    assert not any("tag" in key for key in VALUES)
