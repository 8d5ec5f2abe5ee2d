"""A stand-in for RDS, AWS Backup and the checking function, with restored clusters that change while time passes.

botocore checks each request, so a parameter that AWS does not know fails the test.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from botocore.session import get_session
from botocore.validate import validate_parameters
from restore.states_language import Failed

CLUSTER = "awsbackup-restore-test-0a1b2c"
INSTANCE = f"{CLUSTER}-check"
PRODUCTION = "registration-prod"
_READ_AFTER_CALLS = 3
# Step Functions names parameters as the AWS SDK for Java does.
_NAMES = {"DbClusterIdentifier": "DBClusterIdentifier", "DbInstanceIdentifier": "DBInstanceIdentifier"}
_NAMES |= {"DbInstanceClass": "DBInstanceClass"}


@dataclass(slots=True)
class Cloud:
    """The state of AWS.

    Attributes:
        answer: The answer of the checking function, or the error it raises.
        broken: Errors that an API always raises, by its name.
        deletes_cluster: Whether AWS Backup deletes the cluster after the result is reported.
        calls_until_ready: The number of calls after which a new instance is available.
        clusters: The names of the clusters that exist.
        instances: The remaining number of calls until each instance is available, by name.
        deleting: The remaining number of calls until each instance is gone, by name.
        password: The remaining number of calls until the new password is in use; `None` if there is none.
        results: The reported results, by restore job.
        jobs: The restore jobs of this month.
        calls: The calls of APIs.
    """

    answer: dict[str, Any] | Failed = field(default_factory=lambda: {"healthy": True, "message": "in step"})
    broken: dict[str, Failed] = field(default_factory=dict)
    deletes_cluster: bool = True
    calls_until_ready: int = _READ_AFTER_CALLS
    clusters: set[str] = field(default_factory=lambda: {CLUSTER, PRODUCTION})
    instances: dict[str, int] = field(default_factory=dict)
    deleting: dict[str, int] = field(default_factory=dict)
    password: int | None = None
    results: dict[str, tuple[str, str]] = field(default_factory=dict)
    jobs: list[dict[str, str]] = field(default_factory=list)
    calls: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def call(self, resource: str, parameters: Mapping[str, Any]) -> Any:
        """Perform a call of the state machine."""
        self.calls.append((resource, parameters))
        service, _, api = resource.partition(":")
        if service != "lambda":
            check_request(service, api, parameters)
        if api in self.broken:
            raise self.broken[api]
        handlers: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
            "modifyDBCluster": self._modify,
            "createDBInstance": self._create,
            "describeDBInstances": self._describe_instance,
            "describeDBClusters": self._describe_cluster,
            "deleteDBInstance": self._delete_instance,
            "deleteDBCluster": self._delete_cluster,
            "invoke": self._invoke,
            "putRestoreValidationResult": self._report,
            "listRestoreJobs": lambda _: {"RestoreJobs": self.jobs},
        }
        return handlers[api](parameters)

    def _modify(self, parameters: Mapping[str, Any]) -> None:
        self._existing(parameters)
        if parameters.get("ManageMasterUserPassword"):
            self.password = _READ_AFTER_CALLS

    def _create(self, parameters: Mapping[str, Any]) -> None:
        self._existing(parameters)
        self.instances[parameters["DbInstanceIdentifier"]] = self.calls_until_ready

    def _describe_instance(self, parameters: Mapping[str, Any]) -> Any:
        name = parameters["DbInstanceIdentifier"]
        if name in self.deleting:
            self.deleting[name] -= 1
            if self.deleting[name] == 0:
                del self.deleting[name], self.instances[name]
        if name not in self.instances:
            raise Failed("Rds.DbInstanceNotFoundException")
        self.instances[name] -= 1
        status = "deleting" if name in self.deleting else "creating" if self.instances[name] > 0 else "available"
        return {"DbInstances": [{"DbInstanceStatus": status}]}

    def _describe_cluster(self, parameters: Mapping[str, Any]) -> Any:
        self._existing(parameters)
        cluster: dict[str, Any] = {
            "Status": "available",
            "Endpoint": f"{CLUSTER}.cluster-x.eu-central-1.rds.amazonaws.com",
        }
        if self.password is not None:
            self.password -= 1
            status = "creating" if self.password > 0 else "active"
            cluster["MasterUserSecret"] = {"SecretStatus": status, "SecretArn": "arn:secret"}
        return {"DbClusters": [cluster]}

    def _delete_instance(self, parameters: Mapping[str, Any]) -> None:
        if parameters["DbInstanceIdentifier"] not in self.instances:
            raise Failed("Rds.DbInstanceNotFoundException")
        self.deleting[parameters["DbInstanceIdentifier"]] = _READ_AFTER_CALLS

    def _delete_cluster(self, parameters: Mapping[str, Any]) -> None:
        self._existing(parameters)
        if self.instances:
            raise Failed("Rds.InvalidDbClusterStateException", "it has instances")
        self.clusters.remove(parameters["DbClusterIdentifier"])

    def _invoke(self, _: Mapping[str, Any]) -> Any:
        if isinstance(self.answer, Failed):
            raise self.answer
        return {"Payload": self.answer}

    def _report(self, parameters: Mapping[str, Any]) -> None:
        self.results[parameters["RestoreJobId"]] = (
            parameters["ValidationStatus"],
            parameters["ValidationStatusMessage"],
        )
        if self.deletes_cluster and not self.instances:
            self.clusters.discard(CLUSTER)

    def _existing(self, parameters: Mapping[str, Any]) -> None:
        if parameters["DbClusterIdentifier"] not in self.clusters:
            raise Failed("Rds.DbClusterNotFoundException")


def check_request(service: str, api: str, parameters: Mapping[str, Any]) -> None:
    """Check the parameters of an API with the description that botocore has of it."""
    model = _service_model(service)
    (operation,) = (name for name in model.operation_names if name.lower() == api.lower())
    named = {_NAMES.get(name, name): value for name, value in parameters.items()}
    validate_parameters(named, model.operation_model(operation).input_shape)


@cache
def _service_model(service: str) -> Any:
    return get_session().get_service_model(service)
