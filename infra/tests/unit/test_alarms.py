"""Who is told what."""

import pytest
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
    """Each with its threshold, to the topic when it starts and when it ends, and quiet while nothing is reported."""
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
        of = (
            ("FunctionName", "{Migrations")
            if alarm["Namespace"] == "AWS/Lambda"
            else ("DBClusterIdentifier", "{Aurora")
        )
        assert of[0] == dimension["Name"]
        assert text_of(dimension["Value"]).startswith(of[1])

    assert ALARMS == found


def test_connections_are_counted_against_the_limit_of_the_capacity() -> None:
    """80 % of 823 at 4 ACU; with readers, how late they are is watched too."""
    template = templates_of("prod", EVERYTHING).database

    assert template.named("CloudWatch::Alarm", "AlarmsConnections")["Threshold"] == 658
    lag = template.named("CloudWatch::Alarm", "AlarmsReplicaLag")
    assert ("AuroraReplicaLagMaximum", 1000) == (lag["MetricName"], lag["Threshold"])


def test_a_capacity_that_cannot_change_is_not_watched() -> None:
    """It is at its maximum all the time."""
    alarms = templates_of("dev", {"aurora": {"min_capacity": 1}}).database.all("CloudWatch::Alarm")

    assert {alarm["AlarmName"].rpartition("-")[2] for alarm in alarms.values()} == ALARMS.keys() - {"Capacity"}


def test_the_topic_is_encrypted_and_takes_tls_alone() -> None:
    """From the services that send to it; a mailbox hears of it where the file has one."""
    template = templates_of("dev").database
    deny, allow = template.one("SNS::TopicPolicy")["PolicyDocument"]["Statement"]

    assert ("Deny", {"Bool": {"aws:SecureTransport": "false"}}) == (deny["Effect"], deny["Condition"])
    assert ["cloudwatch.amazonaws.com", "events.amazonaws.com", "events.rds.amazonaws.com"] == allow["Principal"][
        "Service"
    ]
    assert text_of(template.one("SNS::Topic")["KmsMasterKeyId"]).startswith("{Key")
    assert {} == template.all("SNS::Subscription")
    mail = templates_of("prod", EVERYTHING).database.one("SNS::Subscription")
    assert ("email", "operators@example.com") == (mail["Protocol"], mail["Endpoint"])


def test_events_of_the_cluster_and_its_instances_are_sent() -> None:
    """Failover and failure among them; of each instance where there are several."""
    template = templates_of("prod", EVERYTHING).database
    ((topic, _),) = template.all("SNS::Topic").items()
    cluster = template.named("RDS::EventSubscription", "AlarmsEventsdbcluster")
    instances = template.named("RDS::EventSubscription", "AlarmsEventsdbinstance")

    assert ("db-cluster", {"Ref": topic}) == (cluster["SourceType"], cluster["SnsTopicArn"])
    assert {"failover", "failure"} <= set(cluster["EventCategories"])
    assert ("db-instance", 3) == (instances["SourceType"], len(instances["SourceIds"]))
    assert {"failure", "recovery", "low storage"} <= set(instances["EventCategories"])


def test_a_rotation_that_fails_is_told() -> None:
    """By the event that Secrets Manager leaves in CloudTrail, of the two secrets."""
    template = templates_of("dev").database
    rule = template.one("Events::Rule")

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
    assert {"Ref": topic} == rule["Targets"][0]["Arn"]


def test_the_proxy_changes_no_alarm() -> None:
    """The cluster is watched itself."""
    assert len(ALARMS) == len(templates_of("staging", PROXY).database.all("CloudWatch::Alarm"))
