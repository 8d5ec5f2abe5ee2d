"""A simulated AWS with a deployed environment, and a real PostgreSQL behind the Data API."""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from moto.awslambda_simple.models import LambdaSimpleBackend
from moto.backends import get_backend
from moto.core.config import default_user_config
from moto.rds.models import DBCluster, RDSBackend, rds_backends
from moto.rdsdata.responses import RDSDataServiceResponse
from moto.secretsmanager.models import FakeSecret, SecretsManagerBackend
from moto.server import ThreadedMotoServer
from moto.stepfunctions.models import stepfunctions_backends
from registration_infra.constructs.restored_clusters import DEFINITION
from sqlalchemy import CursorResult, text

from registration_persistence import Database

ACCOUNT = "123456789012"
REGION = "eu-central-1"
BACKUP_TAG = {"Key": "backup", "Value": "enabled"}
_SESSION = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)


class Cloud:
    """One environment, with the names of the stacks.

    Attributes:
        url: The address of the simulated AWS.
        environment: The name of the environment, such as `prod`.
        invoked: The events of the migration function.
        databases: The PostgreSQL databases of the clusters: `deployed`, and `restored` from a backup.
    """

    def __init__(self, url: str, environment: str) -> None:
        self.url = url
        self.environment = environment
        self.name = f"registration-{environment}"
        self.invoked: list[dict[str, str]] = []
        self.databases: dict[str, Database] = {}
        self._deployed = ""
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """Return a boto3 client of the simulated AWS."""
        if service not in self._clients:
            self._clients[service] = _SESSION.client(service, endpoint_url=self.url)
        return self._clients[service]

    @property
    def rds(self) -> RDSBackend:
        """The RDS of moto."""
        return rds_backends[ACCOUNT][REGION]

    def deploy(self, *, readers: int = 1) -> None:
        """Create the resources of the stacks that the runbooks use."""
        ec2, rds = self.client("ec2"), self.client("rds")
        subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]]
        group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
        key = self.client("kms").create_key()["KeyMetadata"]["Arn"]
        self.client("kms").create_alias(AliasName=f"alias/{self.name}-database", TargetKeyId=key)
        rds.create_db_subnet_group(DBSubnetGroupName=self.name, DBSubnetGroupDescription="-", SubnetIds=subnets)
        rds.create_db_cluster_parameter_group(
            DBClusterParameterGroupName=f"{self.name}-16", DBParameterGroupFamily="aurora-postgresql16", Description="-"
        )
        rds.create_db_cluster(
            DBClusterIdentifier=self.name,
            Engine="aurora-postgresql",
            EngineVersion="16.13",
            DatabaseName="registrations",
            MasterUsername="registration_admin",
            MasterUserPassword="as it was then",
            DBSubnetGroupName=self.name,
            DBClusterParameterGroupName=f"{self.name}-16",
            VpcSecurityGroupIds=[group],
            KmsKeyId=key,
            StorageEncrypted=True,
            DeletionProtection=True,
            CopyTagsToSnapshot=True,
            BackupRetentionPeriod=7,
            ServerlessV2ScalingConfiguration={"MinCapacity": 0.5, "MaxCapacity": 1},
            Tags=[BACKUP_TAG, {"Key": "aws:cloudformation:stack-name", "Value": f"{self.name}-database"}],
        )
        for role in ["writer", *(f"reader-{number}" for number in range(1, readers + 1))]:
            rds.create_db_instance(
                DBInstanceIdentifier=f"{self.name}-{role}",
                DBClusterIdentifier=self.name,
                DBInstanceClass="db.serverless",
                Engine="aurora-postgresql",
                EnablePerformanceInsights=True,
                AutoMinorVersionUpgrade=False,
            )
        self._deployed = self._resource(self.name)
        for part, username in {"cluster": "registration_admin", "application": "registration_app"}.items():
            self.client("secretsmanager").create_secret(
                Name=f"registration/{self.environment}/{part}",
                SecretString=json.dumps({"username": username, "password": f"{part} of today"}),
            )
        for name, value in {
            "host": self.cluster(self.name)["Endpoint"],
            "name": "registrations",
            "security_group_id": group,
            "key_arn": key,
        }.items():
            self.client("ssm").put_parameter(
                Name=f"/registration/{self.environment}/database/{name}", Value=value, Type="String"
            )
        self._deploy_functions()

    def _deploy_functions(self) -> None:
        role = self.client("iam").create_role(RoleName="function", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("handler.py", "")
        for name in ("service", "migrate", "rotate-application", "rotate-cluster"):
            self.client("lambda").create_function(
                FunctionName=f"{self.name}-{name}",
                Runtime="python3.13",
                Role=role,
                Handler="handler.handler",
                Timeout=29,
                Code={"ZipFile": code.getvalue()},
            )
            self.client("logs").create_log_group(logGroupName=f"/aws/lambda/{self.name}-{name}")
        self.client("logs").create_log_group(logGroupName=f"/aws/rds/cluster/{self.name}/postgresql")
        self.client("lambda").put_function_concurrency(
            FunctionName=f"{self.name}-service", ReservedConcurrentExecutions=50
        )
        for part in ("cluster", "application"):
            self._schedule_rotation(part)

    def _schedule_rotation(self, part: str) -> None:
        secrets, secret = self.client("secretsmanager"), f"registration/{self.environment}/{part}"
        function = self.client("lambda").get_function(FunctionName=f"{self.name}-rotate-{part}")["Configuration"]
        secrets.rotate_secret(
            SecretId=secret,
            RotationLambdaARN=function["FunctionArn"],
            RotationRules={"AutomaticallyAfterDays": 30},
            RotateImmediately=False,
        )
        for version, labels in secrets.describe_secret(SecretId=secret)["VersionIdsToStages"].items():
            if labels == ["AWSPENDING"]:  # AWS removes it after its test; moto does not
                secrets.update_secret_version_stage(
                    SecretId=secret, VersionStage="AWSPENDING", RemoveFromVersionId=version
                )

    def fail_restore_test(self, copy: str) -> None:
        """Create what a failed restore test has left: its executions, its log, and the cluster *copy*."""
        name, states, rds = f"{self.name}-restore-test", self.client("stepfunctions"), self.client("rds")
        role = self.client("iam").get_role(RoleName="function")["Role"]["Arn"]
        states.create_state_machine(name=name, definition=DEFINITION.read_text(encoding="utf-8"), roleArn=role)
        (machine,) = stepfunctions_backends[ACCOUNT][REGION].state_machines
        ends = (("SUCCEEDED", None, None), ("FAILED", "TestFailed", "TooSlow"), ("SUCCEEDED", None, None))
        for end in ends:
            states.start_execution(stateMachineArn=machine.arn)
            execution = machine.executions[-1]
            execution.status, execution.error, execution.cause = end
        self.client("logs").create_log_group(logGroupName=f"/aws/lambda/{name}")
        rds.create_db_cluster(
            DBClusterIdentifier=copy, Engine="aurora-postgresql", MasterUsername="-", MasterUserPassword="not known"
        )
        rds.create_db_instance(
            DBInstanceIdentifier=f"{copy}-instance",
            DBClusterIdentifier=copy,
            DBInstanceClass="db.serverless",
            Engine="aurora-postgresql",
        )

    def rotate(self, step: str, secret: str, version: str) -> None:
        """Change the labels of the secret like the rotation function."""
        secrets = self.client("secretsmanager")
        current = secrets.get_secret_value(SecretId=secret)
        if step == "createSecret":
            username = json.loads(current["SecretString"])["username"]
            if secret.endswith("/application"):
                username = "registration_app" if username.endswith("_clone") else "registration_app_clone"
            secrets.put_secret_value(
                SecretId=secret,
                ClientRequestToken=version,
                SecretString=json.dumps({"username": username, "password": f"of {version}"}),
                VersionStages=["AWSPENDING"],
            )
        elif step == "finishSecret":
            secrets.update_secret_version_stage(
                SecretId=secret,
                VersionStage="AWSCURRENT",
                MoveToVersionId=version,
                RemoveFromVersionId=current["VersionId"],
            )
            secrets.update_secret_version_stage(SecretId=secret, VersionStage="AWSPENDING", RemoveFromVersionId=version)

    def cluster(self, name: str) -> dict[str, Any]:
        """Return the description of a cluster."""
        (found,) = self.client("rds").describe_db_clusters(DBClusterIdentifier=name)["DBClusters"]
        return dict(found)

    def _resource(self, name: str) -> str:
        return str(self.cluster(name)["DbClusterResourceId"])

    def run_sql(self, arn: str, sql: str, parameters: Mapping[str, Any]) -> str:
        """Run a statement on the database of the cluster *arn*, and answer like the Data API."""
        which = "deployed" if self._resource(arn.rpartition(":")[2]) == self._deployed else "restored"
        with self.databases[which].session(autocommit=True) as session:
            result = session.execute(text(sql), dict(parameters))
            assert isinstance(result, CursorResult)
            if not result.returns_rows:
                return json.dumps({"numberOfRecordsUpdated": result.rowcount, "generatedFields": []})
            rows = [dict(row) for row in result.mappings()]
            return json.dumps({"formattedRecords": json.dumps(rows), "numberOfRecordsUpdated": 0})


@contextmanager
def simulated_aws(patch: Any) -> Iterator[str]:
    """Run a simulated AWS in this process, without Docker; yield its address."""
    patch.setitem(default_user_config, "lambda", {"use_docker": False})
    _patch_moto(patch)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def reset() -> None:
    """Delete everything in the simulated AWS."""
    for service in ("rds", "secretsmanager", "ssm", "lambda", "iam", "kms", "logs", "ec2", "cloudwatch", "sts"):
        get_backend(service).reset()
    get_backend("stepfunctions").reset()


def connect(cloud: Cloud, patch: Any) -> None:
    """Connect the Data API and the Lambda functions of the simulated AWS to *cloud*."""

    def execute_statement(response: RDSDataServiceResponse) -> str:
        body = json.loads(response.body)
        assert body["secretArn"].startswith("arn:aws:secretsmanager:")
        assert body["database"] == "registrations"
        given = {each["name"]: each["value"]["stringValue"] for each in body.get("parameters", [])}
        return cloud.run_sql(body["resourceArn"], body["sql"], given)

    def invoke(
        _: LambdaSimpleBackend, function_name: str, qualifier: str | None, body: Any, *__: Any, **___: Any
    ) -> bytes:
        assert qualifier is None
        event = json.loads(body)
        if "Step" in event:
            cloud.rotate(event["Step"], event["SecretId"], event["ClientRequestToken"])
        else:
            assert function_name == f"{cloud.name}-migrate"
            cloud.invoked.append(event)
        return json.dumps({**event, "in_step": True}).encode()

    patch.setattr(RDSDataServiceResponse, "execute_statement", execute_statement)
    patch.setattr(LambdaSimpleBackend, "invoke", invoke)


def _patch_moto(patch: Any) -> None:
    """Correct the differences between moto and AWS that the runbooks meet."""
    modify, rotate, restore = (
        RDSBackend.modify_db_cluster,
        SecretsManagerBackend.rotate_secret,
        RDSBackend.restore_db_cluster_from_snapshot,
    )

    def modify_db_cluster(backend: RDSBackend, kwargs: dict[str, Any]) -> Any:
        """Keep the instances of a cluster when it is renamed."""
        old, new = kwargs["db_cluster_identifier"], kwargs.get("new_db_cluster_identifier")
        result = modify(backend, kwargs)
        if new is not None:
            for instance in backend.databases.values():
                if instance.db_cluster_identifier == old:
                    instance.db_cluster_identifier = new
        return result

    def rotate_secret(backend: SecretsManagerBackend, secret_id: str, **kwargs: Any) -> str:
        """Use the previous rotation function of a secret if none is given."""
        secret = backend.secrets[secret_id]
        assert isinstance(secret, FakeSecret)
        known = secret.rotation_lambda_arn
        return rotate(backend, secret_id, **{**kwargs, "rotation_lambda_arn": kwargs["rotation_lambda_arn"] or known})

    def restore_db_cluster_from_snapshot(backend: RDSBackend, from_snapshot_id: str, overrides: Any) -> Any:
        """Accept the ARN of a snapshot."""
        return restore(backend, from_snapshot_id.rpartition(":")[2], overrides)

    # The names of automatic snapshots contain only the minute, and two in one minute collide.
    for method in ("create_auto_snapshot", "create_auto_cluster_snapshot"):
        patch.setattr(RDSBackend, method, lambda *_, **__: None)
    # The part of an endpoint after the name of the cluster depends on account and region only.
    endpoint = property(lambda cluster: f"{cluster.db_cluster_identifier}.cluster-c0.{REGION}.rds.amazonaws.com")
    patch.setattr(DBCluster, "endpoint", endpoint)
    patch.setattr(RDSBackend, "modify_db_cluster", modify_db_cluster)
    patch.setattr(SecretsManagerBackend, "rotate_secret", rotate_secret)
    patch.setattr(RDSBackend, "restore_db_cluster_from_snapshot", restore_db_cluster_from_snapshot)
