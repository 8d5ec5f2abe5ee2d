"""`config.aurora_rules`: the rules of production."""

import pytest
from environment_files import CLUSTER, WEEK, accepted, problems, value_of


@pytest.mark.parametrize("key", ["force_ssl", "deletion_protection"])
def test_production_needs_tls_and_deletion_protection(key: str) -> None:
    """Production needs forced TLS and deletion protection; other environments may go without."""
    changes = {**WEEK, f"aurora.{key}": "false"}

    assert problems(CLUSTER, changes, environment="prod") == (f"aurora.{key} is false: expected true in prod",)
    assert value_of(accepted(CLUSTER, changes, environment="staging"), f"aurora.{key}") is False


def test_production_keeps_its_data() -> None:
    """The data of production must not be deleted with the stack; in other environments it may."""
    changes = {**WEEK, "aurora.removal": '"destroy"'}

    assert problems(CLUSTER, changes, environment="prod") == (
        'aurora.removal is "destroy": expected "snapshot" in prod',
    )
    assert accepted(CLUSTER, changes, environment="staging").deletes_all_data


@pytest.mark.parametrize("removal", ['"snapshot"', None])
def test_production_accepts_a_final_snapshot(removal: str | None) -> None:
    """A final snapshot is accepted in production, explicitly and as the default."""
    assert not accepted(CLUSTER, WEEK, {"aurora.removal": removal}, environment="prod").deletes_all_data


@pytest.mark.parametrize(("written", "days"), [("6", 6), ("1", 1), (None, 1)])
def test_production_needs_a_reason_for_short_backups(written: str | None, days: int) -> None:
    """Without a reason, production needs 7 days of backups; the default of one day is refused."""
    assert problems(CLUSTER, {"aurora.backup_retention_days": written}, environment="prod") == (
        (
            f"aurora.backup_retention_days is {days}: expected 7 or more in prod, "
            "or an aurora.retention_reason that says why fewer are enough"
        ),
    )


@pytest.mark.parametrize("days", [7, 8, 35])
def test_production_accepts_a_week_of_backups(days: int) -> None:
    """Seven days of backups need no reason."""
    config = accepted(CLUSTER, {"aurora.backup_retention_days": str(days)}, environment="prod")

    assert value_of(config, "aurora.backup_retention_days") == days


@pytest.mark.parametrize("reason", ["The central account keeps copies.", "The central account\nkeeps copies."])
def test_production_accepts_a_reason(reason: str) -> None:
    """With a reason of one or more lines, production may keep backups for less than 7 days."""
    config = accepted(CLUSTER, {"aurora.retention_reason": f'"""{reason}"""'}, environment="prod")

    assert value_of(config, "aurora.retention_reason") == reason
    assert value_of(config, "aurora.backup_retention_days") == 1


def test_production_refuses_a_blank_reason() -> None:
    """A blank reason is refused, and does not permit a short retention period."""
    found = problems(CLUSTER, {"aurora.retention_reason": '" "'}, environment="prod")

    assert [problem.partition(":")[0] for problem in found] == [
        'aurora.retention_reason is " "',
        "aurora.backup_retention_days is 1",
    ]


def test_production_ignores_the_default_of_an_invalid_value() -> None:
    """If the retention period is invalid, the message names it, and the default is not checked instead."""
    assert problems(CLUSTER, {"aurora.backup_retention_days": "0"}, environment="prod") == (
        "aurora.backup_retention_days is 0: expected a whole number of days, 1 to 35",
    )


@pytest.mark.parametrize("environment", ["dev", "staging"])
def test_other_environments_have_no_rules_of_production(environment: str) -> None:
    """Other environments accept everything that production refuses, also together."""
    changes = {"aurora.force_ssl": "false", "aurora.deletion_protection": "false", "aurora.removal": '"destroy"'}

    assert accepted(CLUSTER, changes, environment=environment).deletes_all_data
