"""`registration_infra.constructs.alarms`: the alarms, and the other sources of the topic."""

import pytest
from policies import plain
from templates import EVERYTHING, PROXY, templates_of, text_of

FIVE, FIFTEEN = 300, 900
ALARMS = {
    "Capacity": ("ACUUtilization", "Maximum", FIVE, 3, ">", 90),
    "Cpu": ("CPUUtilization", "Maximum", FIVE, 3, ">", 90),
    "Connections": ("DatabaseConnections", "Maximum", FIVE, 1, ">", 151),
    "Memory": ("FreeableMemory", "Minimum", FIVE, 3, "<", 128 * 1024 * 1024),
    "Deadlocks": ("Deadlocks", "Sum", FIVE, 1, ">", 0),
    "TransactionIds": ("MaximumUsedTransactionIDs", "Maximum", FIVE, 1, ">", 1_000_000_000),
    "Migration": ("Errors", "Sum", FIFTEEN, 1, ">", 0),
}
SIGNS = {"GreaterThanThreshold": ">", "LessThanThreshold": "<"}


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_alarms(name: str) -> None:
    """Each alarm has its threshold, notifies the topic at start and end, and ignores missing data."""
    template = templates_of(name).database
    ((topic, _),) = template.all("SNS::Topic").items()
    found = {}

    for alarm in template.all("CloudWatch::Alarm").values():
        found[alarm["AlarmName"].removeprefix(f"registration-{name}-database-")] = (
            alarm["MetricName"],
            alarm["Statistic"],
            alarm["Period"],
            alarm["EvaluationPeriods"],
            SIGNS[alarm["ComparisonOperator"]],
            alarm["Threshold"],
        )
        assert [{"Ref": topic}] == alarm["AlarmActions"] == alarm["OKActions"]
        assert alarm["TreatMissingData"] == "notBreaching"
        (dimension,) = alarm["Dimensions"]
        expected = (
            ("FunctionName", "{Migrations")
            if alarm["Namespace"] == "AWS/Lambda"
            else ("DBClusterIdentifier", "{Aurora")
        )
        assert expected[0] == dimension["Name"]
        assert text_of(dimension["Value"]).startswith(expected[1])

    assert ALARMS == found


def test_thresholds_follow_the_configuration() -> None:
    """The connection alarm is at 80 % of the 823 connections of 4 ACU; readers add an alarm on their lag."""
    template = templates_of("prod", EVERYTHING).database

    assert template.named("CloudWatch::Alarm", "AlarmsConnections")["Threshold"] == 658
    lag = template.named("CloudWatch::Alarm", "AlarmsReplicaLag")
    assert ("AuroraReplicaLagMaximum", 1000) == (lag["MetricName"], lag["Threshold"])


def test_fixed_capacity_has_no_alarm() -> None:
    """A capacity that cannot change is always at its maximum."""
    alarms = templates_of("dev", {"aurora": {"min_capacity": 1}}).database.all("CloudWatch::Alarm")

    assert {alarm["AlarmName"].rpartition("-")[2] for alarm in alarms.values()} == ALARMS.keys() - {"Capacity"}


def test_topic_is_encrypted_and_requires_tls() -> None:
    """Only the alarm sources of this account may publish; a mailbox is subscribed if the file names one."""
    template = templates_of("dev").database
    deny, allow = template.one("SNS::TopicPolicy")["PolicyDocument"]["Statement"]

    assert ("Deny", {"Bool": {"aws:SecureTransport": "false"}}) == (deny["Effect"], deny["Condition"])
    assert ["cloudwatch.amazonaws.com", "events.rds.amazonaws.com"] == allow["Principal"]["Service"]
    assert {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}} == allow["Condition"]
    assert text_of(template.one("SNS::Topic")["KmsMasterKeyId"]).startswith("{Key")
    assert {} == template.all("SNS::Subscription")
    mail = templates_of("prod", EVERYTHING).database.one("SNS::Subscription")
    assert ("email", "operators@example.com") == (mail["Protocol"], mail["Endpoint"])


def test_rds_events_are_sent_to_the_topic() -> None:
    """Events of the cluster and of all instances are sent, including failover and failure."""
    template = templates_of("prod", EVERYTHING).database
    ((topic, _),) = template.all("SNS::Topic").items()
    cluster = template.named("RDS::EventSubscription", "AlarmsEventsdbcluster")
    instances = template.named("RDS::EventSubscription", "AlarmsEventsdbinstance")

    assert ("db-cluster", {"Ref": topic}) == (cluster["SourceType"], cluster["SnsTopicArn"])
    assert {"failover", "failure"} <= set(cluster["EventCategories"])
    assert ("db-instance", 3) == (instances["SourceType"], len(instances["SourceIds"]))
    assert {"failure", "recovery", "low storage"} <= set(instances["EventCategories"])


def test_failed_rotation_is_sent_to_the_topic() -> None:
    """A rule matches the CloudTrail events of Secrets Manager for both secrets."""
    template = templates_of("dev").database
    rule = template.named("Events::Rule", "AlarmsFailedRotation")

    assert ["aws.secretsmanager"] == rule["EventPattern"]["source"]
    assert ["AWS Service Event via CloudTrail"] == rule["EventPattern"]["detail-type"]
    detail = rule["EventPattern"]["detail"]
    assert ["RotationFailed", "TestRotationFailed"] == detail["eventName"]
    secrets = [text_of(secret) for secret in detail["additionalEventData"]["SecretId"]]
    assert [True, True] == [
        secret.startswith(start)
        for secret, start in zip(secrets, ("{ClusterSecret", "{ApplicationSecret"), strict=True)
    ]
    ((topic, _),) = template.all("SNS::Topic").items()
    (target,) = rule["Targets"]
    assert {"Ref": topic} == target["Arn"]
    assert text_of(target["RoleArn"]).startswith("{AlarmsFailedRotationRole")


def test_ends_of_support_are_sent_to_the_topic() -> None:
    """AWS Health announces ends of support and planned maintenance; RDS announces the upgrades that are pending."""
    template = templates_of("dev").database
    ((topic, _),) = template.all("SNS::Topic").items()
    rule = template.named("Events::Rule", "SupportEvents")

    assert (["aws.health"], ["AWS Health Event"]) == (
        rule["EventPattern"]["source"],
        rule["EventPattern"]["detail-type"],
    )
    assert ["RDS"] == rule["EventPattern"]["detail"]["service"]
    assert {"scheduledChange", "accountNotification"} == {*rule["EventPattern"]["detail"]["eventTypeCategory"]}
    (target,) = rule["Targets"]
    assert {"Ref": topic} == target["Arn"]
    assert text_of(target["RoleArn"]).startswith("{AlarmsFailedRotationRole")
    for subscription in template.all("RDS::EventSubscription").values():
        assert {"maintenance", "notification"} <= {*subscription["EventCategories"]}


def test_eventbridge_publishes_with_a_role_of_this_account() -> None:
    """The role may only publish to the topic, and use the key only through SNS."""
    template = templates_of("dev").database
    ((topic, _),) = template.all("SNS::Topic").items()
    ((key, _),) = template.all("KMS::Key").items()

    publish, use = template.statements("AlarmsFailedRotationRole")

    assert {"Action": "sns:Publish", "Effect": "Allow", "Resource": {"Ref": topic}} == publish
    assert {
        "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
        "Effect": "Allow",
        "Resource": f"{{{key}.Arn}}",
        "Condition": {"StringEquals": {"kms:ViaService": "sns.{AWS::Region}.amazonaws.com"}},
    } == plain(use)


def test_proxy_changes_no_alarm() -> None:
    """The alarms are on the cluster, with or without the proxy."""
    assert len(ALARMS) == len(templates_of("staging", PROXY).database.all("CloudWatch::Alarm"))
