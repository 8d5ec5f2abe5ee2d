"""`registration_infra.constructs.backup`: the tag of the cluster, and the backup plan."""

from typing import Any

import pytest
from templates import CLUSTERS, EVERYTHING, VARIANTS, templates_of


def tags_of(properties: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the tags of a resource, which are a mapping or a list."""
    tags = properties.get("Tags", [])
    return list(tags.items()) if isinstance(tags, dict) else [(tag["Key"], tag["Value"]) for tag in tags]


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_the_cluster_has_the_backup_tag(variant: str) -> None:
    """Only the cluster is tagged `backup: enabled`, because plans back up everything with the tag."""
    tagged = [
        resource["Type"]
        for template in templates_of(*VARIANTS[variant]).stacks.values()
        for resource in template.body["Resources"].values()
        if ("backup", "enabled") in tags_of(resource.get("Properties", {}))
    ]

    assert (["AWS::RDS::DBCluster"] if variant in CLUSTERS else []) == tagged


def test_own_plan_backs_up_tagged_resources() -> None:
    """The plan runs daily at 04:00, and the file sets retention and copies; by default there is no plan."""
    template = templates_of("prod", EVERYTHING).database
    (rule,) = template.one("Backup::BackupPlan")["BackupPlan"]["BackupPlanRule"]
    selection = template.one("Backup::BackupSelection")["BackupSelection"]

    assert ("cron(0 4 * * ? *)", {"DeleteAfterDays": 35}) == (rule["ScheduleExpression"], rule["Lifecycle"])
    (copy,) = rule["CopyActions"]
    assert copy["DestinationBackupVaultArn"] == "arn:aws:backup:eu-west-1:999999999999:backup-vault:central"
    assert [{"ConditionKey": "backup", "ConditionType": "STRINGEQUALS", "ConditionValue": "enabled"}] == selection[
        "ListOfTags"
    ]
    assert {} == templates_of("prod").database.all("Backup::BackupPlan")
