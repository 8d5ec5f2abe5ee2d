"""`config.production_gaps`: the optional settings that production needs."""

import re
import tomllib

import pytest
from environment_files import CLUSTER, DATADOG, EXISTING, SHIPPED, WEEK, accepted
from registration_infra import load, parse, production_gaps

ALARMS = "alarms.email is missing: nobody receives an alarm until someone subscribes to the topic"
BACKUP = (
    "backup.central_account is missing: no account outside of production can copy the backups, "
    "so they are lost together with the account"
)
NO_DATADOG = "datadog.site and datadog.api_key_secret_arn are missing: Datadog receives neither traces nor logs"
EMAIL = {"alarms.email": '"operators@example.org"'}
CENTRAL = {"backup.central_account": '"999999999999"'}


def test_production_reports_each_missing_setting() -> None:
    """The shipped file of production has no receiver, no central copies and no Datadog, and each is reported."""
    assert production_gaps(load(SHIPPED / "prod.toml")) == (ALARMS, BACKUP, NO_DATADOG)
    assert production_gaps(accepted(CLUSTER, WEEK, EMAIL, environment="prod")) == (BACKUP, NO_DATADOG)
    assert production_gaps(accepted(CLUSTER, WEEK, EMAIL, CENTRAL, DATADOG, environment="prod")) == ()


def test_a_vault_of_another_account_is_a_central_copy() -> None:
    """A plan that copies to another account replaces the central account; a vault of this account does not."""
    vault = "arn:aws:backup:eu-west-1:{}:backup-vault:central"
    for account, gaps in (("999999999999", ()), ("123456789012", (BACKUP,))):
        plan = {"backup.own_plan": "true", "backup.copy_to_vault_arn": f'"{vault.format(account)}"'}

        assert production_gaps(accepted(CLUSTER, WEEK, EMAIL, DATADOG, plan, environment="prod")) == gaps


def test_an_existing_database_needs_only_datadog() -> None:
    """The alarms and backups of an existing database are configured elsewhere."""
    assert production_gaps(accepted(EXISTING, environment="prod")) == (NO_DATADOG,)


@pytest.mark.parametrize("environment", ["dev", "staging"])
def test_other_environments_need_nothing(environment: str) -> None:
    """Only production is checked."""
    assert production_gaps(accepted(CLUSTER, environment=environment)) == ()


def test_the_lines_to_fill_in_are_complete() -> None:
    """If the comments at the end of prod.toml are filled in, nothing is reported."""
    text = (SHIPPED / "prod.toml").read_text(encoding="utf-8")
    before, _, comments = text.partition("prints a warning for each.\n")
    filled = before + "\n" + re.sub("(?m)^# ?", "", comments)
    values = tomllib.loads(filled)
    values["network"]["nat_gateways"] = 1

    assert production_gaps(parse("prod", values, source="prod.toml")) == ()
