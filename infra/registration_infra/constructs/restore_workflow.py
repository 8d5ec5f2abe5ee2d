"""The state machine of the restore test, the events that start it, and its alarm."""

from collections.abc import Iterator

from aws_cdk import Aws, Duration
from aws_cdk import aws_backup as backup
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from registration_infra.config import EnvironmentConfig
from registration_infra.constructs.key import key_use
from registration_infra.constructs.principals import service_in_this_account
from registration_infra.constructs.restored_clusters import DEFINITION, RESTORED, rds_arn

# One day after the test; the state machine looks for a successful test of the month.
_SCHEDULE = events.Schedule.cron(day="2", hour="5", minute="0")
_FINISHED = ["ABORTED", "COMPLETED", "FAILED"]
_PERIOD = Duration.minutes(5)
_IN_REGION = {"StringEquals": {"aws:RequestedRegion": Aws.REGION}}


class RestoreWorkflow(Construct):
    """Checks each restored cluster of the plan and deletes it, and raises an alarm if a month has no successful test.

    Args:
        scope: The parent construct.
        construct_id: The id within *scope*.
        config: The environment.
        key_arn: The ARN of the key that encrypts the cluster.
        plan: The restore testing plan.
        check: The function that checks a restored cluster.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: EnvironmentConfig,
        key_arn: str,
        plan: backup.CfnRestoreTestingPlan,
        check: lambda_.IFunction,
    ) -> None:
        super().__init__(scope, construct_id)
        self._name = f"{config.prefix}-restore-test"
        role = iam.Role(
            self, "Role", assumed_by=service_in_this_account("states.amazonaws.com"), description=self._name
        )
        for statement in _statements(config, key_arn, check.function_arn):
            role.add_to_policy(statement)
        machine = stepfunctions.StateMachine(
            self,
            "Machine",
            state_machine_name=self._name,
            role=role.without_policy_updates(),
            definition_body=stepfunctions.DefinitionBody.from_string(DEFINITION.read_text(encoding="utf-8")),
            definition_substitutions={
                "FunctionArn": check.function_arn,
                "PlanArn": plan.attr_restore_testing_plan_arn,
            },
        )
        machine.node.add_dependency(role)
        self._alarm(machine, self._start(machine, plan), config)

    def _start(self, machine: stepfunctions.StateMachine, plan: backup.CfnRestoreTestingPlan) -> list[events.Rule]:
        role = iam.Role(self, "Starter", assumed_by=service_in_this_account("events.amazonaws.com"))
        role.add_to_policy(
            iam.PolicyStatement(actions=["states:StartExecution"], resources=[machine.state_machine_arn])
        )
        target = targets.SfnStateMachine(machine, role=role.without_policy_updates())
        pattern = events.EventPattern(
            source=["aws.backup"],
            detail_type=["Restore Job State Change"],
            detail={"restoreTestingPlanArn": [plan.attr_restore_testing_plan_arn], "status": _FINISHED},
        )
        return [
            events.Rule(self, name, description=text, event_pattern=pattern, schedule=schedule, targets=[target])
            for name, text, pattern, schedule in (
                ("Restored", "A restore test has ended", pattern, None),
                ("Monthly", "Was there a successful restore test?", None, _SCHEDULE),
            )
        ]

    def _alarm(self, machine: stepfunctions.StateMachine, rules: list[events.Rule], config: EnvironmentConfig) -> None:
        metrics = {
            "failed": machine.metric_failed(period=_PERIOD, statistic="Sum"),
            "late": machine.metric_timed_out(period=_PERIOD, statistic="Sum"),
            "aborted": machine.metric_aborted(period=_PERIOD, statistic="Sum"),
            **{f"lost{number}": _failed_starts(rule) for number, rule in enumerate(rules)},
        }
        alarm = cloudwatch.Alarm(
            self,
            "Alarm",
            alarm_name=self._name,
            alarm_description=f"The restore test of the database {config.prefix} failed, or there was none this month: "
            "read docs/runbooks/repair-a-failed-restore-test.md",
            metric=cloudwatch.MathExpression(
                # A sum with a missing value is missing.
                expression=" + ".join(f"FILL({name}, 0)" for name in metrics),
                using_metrics=metrics,
                period=_PERIOD,
            ),
            threshold=0,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        # The topic of the database stack has this name.
        arn = f"arn:{Aws.PARTITION}:sns:{Aws.REGION}:{Aws.ACCOUNT_ID}:{config.prefix}-database"
        alarm.add_alarm_action(actions.SnsAction(sns.Topic.from_topic_arn(self, "Topic", arn)))


def _failed_starts(rule: events.Rule) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace="AWS/Events",
        metric_name="FailedInvocations",
        dimensions_map={"RuleName": rule.rule_name},
        period=_PERIOD,
        statistic="Sum",
    )


def _statements(config: EnvironmentConfig, key_arn: str, check_arn: str) -> Iterator[iam.PolicyStatement]:
    """Yield what the state machine may do: change, use and delete only resources with the name of a restore test."""
    cluster, instance = rds_arn("cluster", f"{RESTORED}*"), rds_arn("db", f"{RESTORED}*")
    yield iam.PolicyStatement(
        actions=["rds:DeleteDBCluster", "rds:DescribeDBClusters", "rds:ModifyDBCluster"], resources=[cluster]
    )
    yield iam.PolicyStatement(
        actions=["rds:CreateDBInstance"],
        resources=[cluster, instance, rds_arn("subgrp", config.prefix), rds_arn("pg", "default.*")],
    )
    yield iam.PolicyStatement(actions=["rds:DeleteDBInstance", "rds:DescribeDBInstances"], resources=[instance])
    yield iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[check_arn])
    # AWS Backup offers no resources for these actions.
    yield iam.PolicyStatement(
        actions=["backup:ListRestoreJobs", "backup:PutRestoreValidationResult"], resources=["*"], conditions=_IN_REGION
    )
    yield from _password_statements()
    yield iam.PolicyStatement(actions=["kms:DescribeKey"], resources=[key_arn])
    yield key_use(key_arn, ["kms:CreateGrant"], service="rds")


def _password_statements() -> Iterator[iam.PolicyStatement]:
    """Yield what RDS requires of a caller that lets it manage the password of a cluster in Secrets Manager."""
    start = f"{Aws.REGION}:{Aws.ACCOUNT_ID}"
    yield iam.PolicyStatement(
        actions=["secretsmanager:CreateSecret", "secretsmanager:TagResource"],
        resources=[f"arn:{Aws.PARTITION}:secretsmanager:{start}:secret:rds!cluster-*"],
    )
    yield iam.PolicyStatement(
        actions=["kms:DescribeKey"],
        resources=[f"arn:{Aws.PARTITION}:kms:{start}:key/*"],
        conditions={"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/aws/secretsmanager"}},
    )
