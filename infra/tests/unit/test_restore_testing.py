"""`registration_infra.stacks.restore_testing`: what the restore test reaches, may do, and reports."""

from typing import Any

import pytest
from policies import connections, granted, plain
from policy_evaluation import Request, allows, resolved
from templates import VARIANTS, Template, templates_of, text_of

NAMES = {"AWS::AccountId": "333333333333", "AWS::Region": "eu-central-1", "AWS::Partition": "aws"}
RDS = "arn:aws:rds:eu-central-1:333333333333:"
RESTORED = "awsbackup-restore-test-1a2b"
CHANGES = ("rds:ModifyDBCluster", "rds:DeleteDBCluster", "rds:CreateDBInstance", "rds:DeleteDBInstance")


@pytest.fixture(scope="module")
def template() -> Template:
    """The template of the stack in production."""
    return templates_of(*VARIANTS["everything"]).restore_testing


def statements(template: Template, role: str) -> list[dict[str, Any]]:
    """Return the statements of a role, with the values of production."""
    found = resolved(template.statements(role), NAMES)
    assert isinstance(found, list)
    return found


def test_there_is_no_stack_by_default() -> None:
    """The stack exists only if the file asks for it."""
    assert not [name for name in templates_of("prod").stacks if name.endswith("restore-testing")]


def test_the_newest_backup_is_restored_every_month(template: Template) -> None:
    """The plan takes the newest snapshot of the own vault on the first day; the copy is in the closed group."""
    plan, selection = template.one("Backup::RestoreTestingPlan"), template.one("Backup::RestoreTestingSelection")
    points = plan["RecoveryPointSelection"]

    assert plan["ScheduleExpression"] == "cron(0 5 1 * ? *)"
    assert (points["Algorithm"], points["RecoveryPointTypes"]) == ("LATEST_WITHIN_WINDOW", ["SNAPSHOT"])
    assert [text_of(resolved(each, NAMES)) for each in points["IncludeVaults"]] == [
        "arn:aws:backup:eu-central-1:333333333333:backup-vault:registration-prod"
    ]
    assert resolved(selection["ProtectedResourceArns"], NAMES) == [f"{RDS}cluster:registration-prod"]
    metadata = {name: text_of(value) for name, value in selection["RestoreMetadataOverrides"].items()}
    ((group, _),) = ((name, _) for name, _ in template.all("EC2::SecurityGroup").items() if name.startswith("Restored"))
    assert metadata == {
        "dbSubnetGroupName": "registration-prod",
        "vpcSecurityGroupIds": f'["{{{group}.GroupId}}"]',
        "dbClusterParameterGroupName": "registration-prod-18",
    }


def test_the_check_reaches_only_the_restored_cluster_and_secrets_manager(template: Template) -> None:
    """No rule leads to the security group of production, and none from the restored cluster."""
    names = {name[:5]: f"{{{name}.GroupId}}" for name in template.all("EC2::SecurityGroup")}
    ((endpoint, _),) = (
        (name, one) for name, one in template.body["Parameters"].items() if "endpoint_security_group_id" in str(one)
    )

    expected = {(names["Check"], names["Resto"], 5432), (names["Check"], f"{{{endpoint}}}", 443)}
    assert connections(template, "Egress") == expected
    assert {(client, server, port) for server, client, port in connections(template, "Ingress")} == expected
    assert "/registration/prod/database/security_group_id" not in str(template.body["Parameters"])


def test_the_check_reads_only_secrets_of_restored_clusters(template: Template) -> None:
    """The role cannot read a secret of production; RDS tags the secret of a cluster with its ARN."""
    (statement,) = (plain(each) for each in granted(template, "CheckRole"))
    assert statement["Action"] == "secretsmanager:GetSecretValue"
    start = "arn:aws:secretsmanager:eu-central-1:333333333333:secret:"

    def may_read(secret: str, cluster: str) -> bool:
        tag = {"aws:ResourceTag/aws:rds:primaryDBClusterArn": f"{RDS}cluster:{cluster}"}
        request = Request(action=statement["Action"], resource=start + secret, context=tag)
        return allows(statements(template, "CheckRole"), request)

    assert may_read("rds!cluster-0a1b-AbCdEf", RESTORED)
    assert not may_read("rds!cluster-0a1b-AbCdEf", "billing")
    assert not may_read("registration/prod/cluster-AbCdEf", RESTORED)
    untagged = Request(action=statement["Action"], resource=f"{start}rds!cluster-0a1b-AbCdEf")
    assert not allows(statements(template, "CheckRole"), untagged)


@pytest.mark.parametrize("role", ["WorkflowRole", "RestoreRole"])
def test_no_role_changes_production(template: Template, role: str) -> None:
    """The state machine changes and deletes restored clusters and their instances; AWS Backup only restores."""
    own = statements(template, role)

    for action in (*CHANGES, "rds:RestoreDBClusterFromSnapshot"):
        kind = "db" if action == "rds:DeleteDBInstance" else "cluster"
        assert not allows(own, Request(action=action, resource=f"{RDS}{kind}:registration-prod")), action
        assert not allows(own, Request(action=action, resource=f"{RDS}{kind}:registration-prod-writer")), action
        expected = (role == "WorkflowRole") == (action in CHANGES) or action == "rds:DeleteDBCluster"
        assert allows(own, Request(action=action, resource=f"{RDS}{kind}:{RESTORED}")) is expected, action
    assert not allows(own, Request(action="secretsmanager:GetSecretValue", resource="*"))


def test_each_end_of_a_restore_and_each_month_start_the_state_machine(template: Template) -> None:
    """One rule starts it for this plan, also if the restore fails, and one the day after the test."""
    ((plan, _),) = template.all("Backup::RestoreTestingPlan").items()
    ((machine, _),) = template.all("StepFunctions::StateMachine").items()
    rules = template.all("Events::Rule").values()

    assert all(rule["Targets"][0]["Arn"] == {"Ref": machine} for rule in rules)
    (pattern,) = (rule["EventPattern"] for rule in rules if "EventPattern" in rule)
    assert pattern["detail"] == {
        "restoreTestingPlanArn": [{"Fn::GetAtt": [plan, "RestoreTestingPlanArn"]}],
        "status": ["ABORTED", "COMPLETED", "FAILED"],
    }
    assert [rule["ScheduleExpression"] for rule in rules if "ScheduleExpression" in rule] == ["cron(0 5 2 * ? *)"]


def test_a_failed_execution_and_a_failed_start_raise_the_alarm(template: Template) -> None:
    """The alarm is for the topic of the database, and a missing metric counts as 0."""
    alarm = template.one("CloudWatch::Alarm")
    metrics = {each["Id"]: each for each in alarm["Metrics"]}

    assert text_of(resolved(alarm["AlarmActions"][0], NAMES)).endswith(":registration-prod-database")
    (expression,) = (each["Expression"] for each in metrics.values() if "Expression" in each)
    used = {name for name, each in metrics.items() if "MetricStat" in each}
    assert expression == " + ".join(f"FILL({name}, 0)" for name in ("failed", "late", "aborted", "lost0", "lost1"))
    assert used == {"failed", "late", "aborted", "lost0", "lost1"}
    assert (alarm["Threshold"], alarm["TreatMissingData"]) == (0, "notBreaching")
