"""The state machine of the restore test: what it does after each outcome, and that it always cleans up."""

import json
from typing import Any

import pytest
from registration_infra.constructs.restored_clusters import DEFINITION
from restore.cloud import CLUSTER, INSTANCE, PRODUCTION, Cloud
from restore.states_language import Execution, Failed

MACHINE = json.loads(DEFINITION.read_text(encoding="utf-8"))
HOUR = 3600


def restored(cluster: str = CLUSTER, status: str = "COMPLETED") -> dict[str, Any]:
    """Return the event of AWS Backup about an ended restore job."""
    arn = f"arn:aws:rds:eu-central-1:333333333333:cluster:{cluster}"
    return {"source": "aws.backup", "detail": {"status": status, "restoreJobId": "job", "createdResourceArn": arn}}


def outcome(cloud: Cloud, event: dict[str, Any]) -> tuple[str | None, Execution]:
    """Return the name of the error with which the execution ends, or `None`, and the execution."""
    execution = Execution(cloud.call)
    try:
        execution.run(MACHINE, event)
    except Failed as failed:
        return failed.error, execution
    return None, execution


def names(cloud: Cloud) -> list[str]:
    """Return the names of the called APIs without repetitions in a row."""
    found = [resource.partition(":")[2] for resource, _ in cloud.calls]
    return [name for number, name in enumerate(found) if number == 0 or name != found[number - 1]]


def test_a_healthy_cluster_passes_and_is_deleted() -> None:
    """The instance is created and deleted again, the result is reported, and AWS Backup deletes the cluster."""
    cloud = Cloud()

    error, execution = outcome(cloud, restored())

    assert error is None
    assert names(cloud) == [
        *("modifyDBCluster", "createDBInstance", "describeDBInstances", "modifyDBCluster", "describeDBClusters"),
        *("invoke", "deleteDBInstance", "describeDBInstances", "putRestoreValidationResult", "describeDBClusters"),
    ]
    assert cloud.results == {"job": ("SUCCESSFUL", "in step")}
    assert (cloud.clusters, cloud.instances) == ({PRODUCTION}, {})
    assert execution.waited < HOUR


@pytest.mark.parametrize(
    ("cloud", "reported"),
    [
        (Cloud(answer={"healthy": False, "message": "the schema differs"}), "Unhealthy"),
        (Cloud(answer=Failed("CredentialsRejected")), "CredentialsRejected"),
        (Cloud(broken={"createDBInstance": Failed("Rds.InsufficientDbInstanceCapacityException")}), None),
        (Cloud(broken={"modifyDBCluster": Failed("Rds.InvalidDbClusterStateException")}), None),
        (Cloud(broken={"describeDBClusters": Failed("Rds.RdsException")}), None),
    ],
    ids=["unhealthy", "no-login", "no-capacity", "busy", "no-answer"],
)
def test_a_failed_test_raises_the_alarm_and_cleans_up(cloud: Cloud, reported: str | None) -> None:
    """The execution fails, which raises the alarm, after the result is reported and the instance is deleted."""
    error, _ = outcome(cloud, restored())

    assert error in {"TestFailed", "NotDeleted"}
    ((status, message),) = cloud.results.values()
    assert status == "FAILED"
    assert reported is None or message == reported
    assert (cloud.clusters, cloud.instances) == ({PRODUCTION}, {})


def test_an_instance_that_never_starts_ends_the_test() -> None:
    """The test ends after an hour, so the alarm is raised the same day."""
    cloud = Cloud(calls_until_ready=10_000)

    error, execution = outcome(cloud, restored())

    assert error == "TestFailed"
    assert cloud.results == {"job": ("FAILED", "TooSlow")}
    assert (cloud.clusters, cloud.instances) == ({PRODUCTION}, {})
    assert HOUR < execution.waited < 2 * HOUR


def test_an_instance_of_a_lost_answer_is_used() -> None:
    """A repeated call finds the instance of the first one, whose answer was lost."""
    cloud = Cloud(instances={INSTANCE: 1}, broken={"createDBInstance": Failed("Rds.DbInstanceAlreadyExistsException")})

    assert outcome(cloud, restored())[0] is None
    assert cloud.instances == {}


@pytest.mark.parametrize(("healthy", "expected"), [("true", None), ("false", "TestFailed")])
def test_a_cluster_that_aws_backup_forgets_is_deleted(healthy: str, expected: str | None) -> None:
    """After the validation window, the state machine deletes the cluster itself; the result stays what it was."""
    cloud = Cloud(deletes_cluster=False, answer={"healthy": json.loads(healthy), "message": "counted"})

    error, execution = outcome(cloud, restored())

    assert error == expected
    assert "DeleteCluster" in execution.visited
    assert cloud.clusters == {PRODUCTION}
    assert 6 * HOUR < execution.waited < 12 * HOUR


@pytest.mark.parametrize("api", ["deleteDBInstance", "deleteDBCluster"])
def test_a_cluster_that_stays_raises_the_alarm(api: str) -> None:
    """A healthy cluster that cannot be deleted is a failure within a day, because it costs money and contains data."""
    cloud = Cloud(deletes_cluster=False, broken={api: Failed("Rds.RdsException")})

    error, execution = outcome(cloud, restored())

    assert error == "NotDeleted"
    assert cloud.results == {"job": ("SUCCESSFUL", "in step")}
    assert execution.waited < 24 * HOUR


def test_a_lost_result_raises_no_error() -> None:
    """If AWS Backup does not take the result, the cluster is deleted anyway, and the monthly look raises the alarm."""
    cloud = Cloud(broken={"putRestoreValidationResult": Failed("Backup.ServiceUnavailableException")})

    assert outcome(cloud, restored())[0] is None
    assert cloud.clusters == {PRODUCTION}


@pytest.mark.parametrize("status", ["FAILED", "ABORTED"])
def test_a_failed_restore_raises_the_alarm(status: str) -> None:
    """Without a restored cluster, nothing is called."""
    cloud = Cloud()

    assert outcome(cloud, restored(status=status))[0] == "NotRestored"
    assert cloud.calls == []


def test_production_is_never_touched() -> None:
    """An event that names another cluster ends the execution before the first call."""
    cloud = Cloud()

    assert outcome(cloud, restored(PRODUCTION))[0] == "OtherCluster"
    assert cloud.calls == []


def test_each_call_names_the_restored_cluster() -> None:
    """No call of RDS names anything but the restored cluster and its instance."""
    cloud = Cloud(deletes_cluster=False)
    outcome(cloud, restored())

    named = {
        value
        for resource, parameters in cloud.calls
        for name, value in parameters.items()
        if resource.startswith("rds:") and name.endswith("Identifier")
    }
    assert named == {CLUSTER, INSTANCE}


@pytest.mark.parametrize(
    ("statuses", "error"),
    [(["SUCCESSFUL"], None), (["FAILED", "SUCCESSFUL"], None), (["FAILED"], "NotTested"), ([], "NotTested")],
)
def test_a_month_without_a_successful_test_raises_the_alarm(statuses: list[str], error: str | None) -> None:
    """The schedule looks for a successful test since the first day of the month."""
    cloud = Cloud(jobs=[{"RestoreJobId": str(n), "ValidationStatus": status} for n, status in enumerate(statuses)])

    assert outcome(cloud, {"source": "aws.events", "time": "2026-12-02T05:00:00Z"})[0] == error
    ((_, parameters),) = cloud.calls
    assert parameters["ByCreatedAfter"] == "2026-12-01T00:00:00Z"
    # A running job has no validation status yet.
    cloud.jobs.append({"RestoreJobId": "running"})
    assert outcome(cloud, {"source": "aws.events", "time": "2026-12-02T05:00:00Z"})[0] == error
