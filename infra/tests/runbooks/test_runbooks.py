"""The commands of the runbooks are valid, and in their order they have the effect that the runbooks describe.

Each scenario runs the `sh` blocks of a page in one bash, with the real `aws`, a simulated AWS and a real PostgreSQL.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from botocore import xform_name
from botocore.session import Session
from registration_infra.constructs.restored_clusters import DEFINITION
from runbooks.aws_process import CLIENT
from runbooks.cloud import BACKUP_TAG, REGION, Cloud, connect, reset, simulated_aws
from sqlalchemy import text
from templates import EVERYTHING, templates_of

from registration_persistence import (
    Consent,
    ConsentRepository,
    Database,
    PrivacyRepository,
    RegistrationRepository,
    errors,
    outcomes,
)
from registration_persistence.sandbox import PostgresServer

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "docs/runbooks"
PITR = "restore-to-a-point-in-time.md"
CENTRAL = "restore-from-the-central-backup.md"
ROTATE = "rotate-at-once.md"
CAPACITY = "raise-capacity.md"
UPGRADE = "upgrade-postgresql.md"
EXPENSIVE = "find-an-expensive-statement.md"
DEADLOCKS = "resolve-deadlocks.md"
SNAPSHOT = "end-an-old-snapshot.md"
FREEZE = "freeze-transaction-ids.md"
MIGRATION = "repair-a-failed-migration.md"
RESTORE_TEST = "repair-a-failed-restore-test.md"
CONNECTIONS = "find-lost-connections.md"
SECRETS = "work-without-secrets-manager.md"
PAGES = sorted(RUNBOOKS.glob("*.md"))


@dataclass(frozen=True)
class Unsimulated:
    """An operation that moto lacks.

    Attributes:
        reason: Why it is not simulated.
        answer: The answer that the command gets.
        module: The module of moto that would contain it.
    """

    reason: str
    answer: Mapping[str, Any]
    module: str


_NO_RECOVERY_POINTS = "moto knows vaults and plans of AWS Backup, but neither recovery points nor jobs"
_NO_DRIFT = "moto does not detect drift"
_NO_DATA_API = "moto has the Data API, but cannot enable and disable it"
NOT_SIMULATED = {
    "rds enable-http-endpoint": Unsimulated(_NO_DATA_API, {"HttpEndpointEnabled": True}, "rds"),
    "rds disable-http-endpoint": Unsimulated(_NO_DATA_API, {"HttpEndpointEnabled": False}, "rds"),
    "backup list-recovery-points-by-backup-vault": Unsimulated(_NO_RECOVERY_POINTS, {"RecoveryPoints": []}, "backup"),
    "backup start-copy-job": Unsimulated(_NO_RECOVERY_POINTS, {"CopyJobId": "copy"}, "backup"),
    "backup describe-copy-job": Unsimulated(
        _NO_RECOVERY_POINTS,
        {
            "CopyJob": {
                "State": "COMPLETED",
                "DestinationRecoveryPointArn": f"arn:aws:rds:{REGION}:123456789012:cluster-snapshot:returned",
            }
        },
        "backup",
    ),
    "backup get-recovery-point-restore-metadata": Unsimulated(
        _NO_RECOVERY_POINTS, {"RestoreMetadata": {"Engine": "aurora-postgresql"}}, "backup"
    ),
    "backup start-restore-job": Unsimulated(_NO_RECOVERY_POINTS, {"RestoreJobId": "restore"}, "backup"),
    "backup list-restore-jobs": Unsimulated(_NO_RECOVERY_POINTS, {"RestoreJobs": []}, "backup"),
    "backup update-restore-testing-plan": Unsimulated(
        "moto has no restore testing plans",
        {
            "CreationTime": "2026-11-28T00:00:00Z",
            "RestoreTestingPlanArn": "-",
            "RestoreTestingPlanName": "registration_prod_restore_test",
            "UpdateTime": "2026-11-28T00:00:00Z",
        },
        "backup",
    ),
    "backup describe-restore-job": Unsimulated(_NO_RECOVERY_POINTS, {"Status": "COMPLETED"}, "backup"),
    "cloudformation detect-stack-drift": Unsimulated(_NO_DRIFT, {"StackDriftDetectionId": "drift"}, "cloudformation"),
    "cloudformation describe-stack-drift-detection-status": Unsimulated(
        _NO_DRIFT,
        {
            "DetectionStatus": "DETECTION_COMPLETE",
            "StackId": "-",
            "StackDriftDetectionId": "drift",
            "Timestamp": "2026-11-28T00:00:00Z",
        },
        "cloudformation",
    ),
    "cloudformation describe-stack-resource-drifts": Unsimulated(
        _NO_DRIFT, {"StackResourceDrifts": []}, "cloudformation"
    ),
    "cloudtrail lookup-events": Unsimulated("moto has no events of CloudTrail", {"Events": []}, "cloudtrail"),
    "rds describe-db-engine-versions": Unsimulated(
        "moto knows no versions to upgrade to",
        {"DBEngineVersions": [{"ValidUpgradeTarget": [{"EngineVersion": "18.4", "IsMajorVersionUpgrade": True}]}]},
        "rds",
    ),
}
"""The operations with a fixed answer. All others are simulated."""


AS_ERASED = (
    "SELECT to_jsonb(r) - 'updated_at' - 'closed_at' AS row FROM registrations r WHERE id = :id",
    "SELECT seq, type, data, actor, correlation_id FROM registration_events WHERE registration_id = :id ORDER BY seq",
    "SELECT purpose, granted, seq FROM registration_consents WHERE registration_id = :id ORDER BY seq",
    "SELECT id FROM verification_tokens WHERE registration_id = :id",
    "SELECT type, payload FROM outbox WHERE registration_id = :id AND type = 'registration.erased'",
    "SELECT seq FROM registration_events e JOIN outbox ON event_id = id WHERE e.registration_id = :id ORDER BY seq",
)
"""The data that is left of an erased person, without times and new ids."""


@dataclass(frozen=True)
class Block:
    """The commands of one `sh` block, and the heading above it."""

    page: str
    heading: str
    script: str


def blocks(page: str) -> list[Block]:
    """Return the `sh` blocks of a runbook, in order."""
    found: list[Block] = []
    heading = ""
    lines: list[str] | None = None
    for line in (RUNBOOKS / page).read_text(encoding="utf-8").splitlines():
        if lines is None and line.startswith("#"):
            heading = line.lstrip("# ")
        elif line == "```sh":
            lines = []
        elif line == "```" and lines is not None:
            found.append(Block(page, heading, "\n".join(lines)))
            lines = None
        elif lines is not None:
            lines.append(line)
    return found


@dataclass
class Operator:
    """An operator who follows a runbook.

    Attributes:
        home: The working directory, a checkout with the files that runbooks use.
        log: The log of `aws_process`.
        answers: The file with the fixed answers of `aws_process`.
    """

    home: Path
    log: Path
    answers: Path

    def follow(self, *steps: Block, before: str = "", answers: Mapping[str, Any] | None = None) -> str:
        """Run *steps* in one bash that stops at the first error; return the output."""
        given = {name: operation.answer for name, operation in NOT_SIMULATED.items()} | dict(answers or {})
        self.answers.write_text(json.dumps(given), encoding="utf-8")
        script = "\n".join([before, *(step.script for step in steps)])
        done = subprocess.run(
            [shutil.which("bash") or "bash", "-euo", "pipefail", "-c", script],
            cwd=self.home,
            env={"PATH": f"{self.home / 'bin'}:{os.environ['PATH']}", "HOME": str(self.home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert not done.stderr, done.stderr
        return done.stdout

    def called(self, program: str = "aws") -> list[list[str]]:
        """Return the arguments of each call of a program."""
        if program == "aws":
            return [json.loads(line)[1] for line in self.log.read_text(encoding="utf-8").splitlines()]
        file = self.home / f"{program}.log"
        return [shlex.split(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A simulated AWS for this module."""
    with pytest.MonkeyPatch.context() as patch, simulated_aws(patch) as url:
        yield url


@pytest.fixture(scope="module")
def aws(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """An operator with the real `aws`, and fakes of `make` and `sleep`."""
    home = tmp_path_factory.mktemp("operator")
    operator = Operator(home, home / "aws.log", home / "answers.json")
    shutil.copytree(ROOT / "infra/environments", home / "infra/environments")
    (home / "bin").mkdir()
    socket = home / "aws.sock"
    programs = {
        "aws": CLIENT.format(python=sys.executable, path=str(socket)),
        "make": f'#!/bin/sh\nprintf "%s " "$@" >> {home}/make.log; echo >> {home}/make.log\n',
        "sleep": "#!/bin/sh\n",
    }
    for name, program in programs.items():
        (home / "bin" / name).write_text(program, encoding="utf-8")
        (home / "bin" / name).chmod(0o755)
    for command in (["init", "--quiet"], ["add", "infra"]):
        subprocess.run(["git", *command], cwd=home, check=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
    }
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("aws_process.py"), socket, operator.log, operator.answers],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        yield operator
        process.kill()


@pytest.fixture
def operator(aws: Operator) -> Iterator[Operator]:
    """The operator, with empty logs and an unchanged checkout."""
    for log in aws.home.glob("*.log"):
        log.unlink()
    aws.log.touch()
    yield aws
    subprocess.run(["git", "checkout", "--quiet", "."], cwd=aws.home, check=True)


@pytest.fixture
def cloud(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The environment `prod`, as the stacks create it."""
    cloud = Cloud(address, "prod")
    connect(cloud, monkeypatch)
    cloud.deploy()
    yield cloud
    reset()


@pytest.fixture
def copied(database: Database, postgres_server: PostgresServer) -> Iterator[Callable[[], Database]]:
    """A function that copies the current state of the database, which is what a restore brings back."""
    copies: list[Database] = []

    def copy() -> Database:
        database.dispose()
        name = f"{database.settings.name}_{len(copies)}"
        postgres_server.create_database(name, owner=database.settings.user, template=database.settings.name)
        copies.append(Database(replace(database.settings, name=name)))
        return copies[-1]

    yield copy
    for each in copies:
        each.dispose()
        postgres_server.drop_database(each.settings.name)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until *condition* holds, for at most 10 s."""
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def sign_up(database: Database, email: str) -> UUID:
    """Register a person with a consent to the newsletter; return the id."""
    with database.session() as session:
        outcome = RegistrationRepository(session).register(
            email, profile={"name": email}, consents=[Consent("newsletter", "2026-01")], idempotency_key=email
        )
    assert isinstance(outcome, outcomes.Registered)
    return outcome.registration.id


def rows(database: Database, statement: str, **parameters: Any) -> list[dict[str, Any]]:
    """Return the rows of a query."""
    with database.session() as session:
        return [dict(row) for row in session.execute(text(statement), parameters).mappings()]


def under(page: str, *headings: str) -> list[Block]:
    """Return the blocks whose heading starts with one of *headings*, in the order of *headings*."""
    return [block for heading in headings for block in blocks(page) if block.heading.startswith(heading)]


def test_restore_to_a_point_in_time(
    operator: Operator, cloud: Cloud, database: Database, copied: Callable[[], Database]
) -> None:
    """The restored cluster has the name and settings of the old one; later erasures and withdrawals are repeated."""
    ada, bob, eve = (sign_up(database, f"{name}@example.com") for name in ("ada", "bob", "eve"))
    cloud.databases["restored"] = restored = copied()
    cloud.databases["deployed"] = database
    with database.session() as session:
        PrivacyRepository(session).erase(ada)
        ConsentRepository(session).record(bob, [Consent("newsletter", "2026-01", granted=False)])
        session.execute(text("DELETE FROM outbox WHERE registration_id = :id"), {"id": eve})
    zoe = sign_up(database, "zoe@example.com")
    old, host = cloud.cluster("registration-prod"), cloud.cluster("registration-prod")["Endpoint"]

    screen = operator.follow(*[block for block in blocks(PITR) if block.heading[0].isdigit()])

    new = cloud.cluster("registration-prod")
    assert new["Endpoint"] == host
    assert new["DbClusterResourceId"] != old["DbClusterResourceId"]
    assert [BACKUP_TAG] == new["TagList"]
    for setting in (
        "KmsKeyId",
        "DBSubnetGroup",
        "DBClusterParameterGroup",
        "VpcSecurityGroups",
        "ServerlessV2ScalingConfiguration",
        "BackupRetentionPeriod",
        "DeletionProtection",
        "CopyTagsToSnapshot",
        "IAMDatabaseAuthenticationEnabled",
    ):
        assert old[setting] == new[setting], setting
    assert ["postgresql"] == new["EnabledCloudwatchLogsExports"]
    assert {("registration-prod-writer", True), ("registration-prod-reader-1", False)} == {
        (member["DBInstanceIdentifier"], member["IsClusterWriter"]) for member in new["DBClusterMembers"]
    }
    assert "cluster of today" == vars(cloud.rds.clusters["registration-prod"])["_master_user_password"]
    assert ["registration-prod"] == list(cloud.rds.clusters)
    assert "registration-prod-before-final" in cloud.rds.cluster_snapshots
    assert ["bootstrap", "upgrade", "check"] == [event["action"] for event in cloud.invoked]
    concurrency = cloud.client("lambda").get_function_concurrency(FunctionName="registration-prod-service")
    assert 50 == concurrency["ReservedConcurrentExecutions"]
    assert "of today" not in screen
    assert "of today" not in operator.log.read_text(encoding="utf-8")

    assert [{"id": ada}] == rows(restored, "SELECT id FROM registrations WHERE status = 'erased'")
    for statement in AS_ERASED:
        assert rows(database, statement, id=ada) == rows(restored, statement, id=ada), statement
    assert [{"granted": False}] == rows(
        restored,
        "SELECT granted FROM registration_consents WHERE registration_id = :bob ORDER BY seq DESC LIMIT 1",
        bob=bob,
    )
    waiting = rows(database, "SELECT registration_id, type FROM outbox WHERE type = 'registration.registered'")
    assert {(row["registration_id"], row["type"]) for row in waiting if row["registration_id"] != zoe} | {
        (ada, "registration.erased")
    } == {(row["registration_id"], row["type"]) for row in rows(restored, "SELECT registration_id, type FROM outbox")}


def test_restore_some_rows(
    operator: Operator, cloud: Cloud, database: Database, copied: Callable[[], Database]
) -> None:
    """A lost row comes back with its consents; an erased person and an unknown id do not."""
    lost, erased, other = (sign_up(database, f"{name}@example.com") for name in ("lost", "erased", "other"))
    cloud.databases["restored"] = copied()
    cloud.databases["deployed"] = database
    before = rows(database, "SELECT to_jsonb(r) AS row FROM registrations r WHERE id = :id", id=lost)
    with database.session() as session:
        PrivacyRepository(session).erase(erased)
        session.execute(text("DELETE FROM registrations WHERE id = ANY(:ids)"), {"ids": [lost, erased]})
    (step,) = under(PITR, "Only some rows")
    ids = f"{lost} {erased} {other} 0197a000-0000-7000-8000-000000000001"
    mine = replace(step, script=re.sub(r'^IDS="[^"]*"', f'IDS="{ids}"', step.script))
    assert mine.script != step.script
    helper = "as_parameter() {" + under(PITR, "8.")[0].script.partition("as_parameter() {")[2].partition('"$1"; }')[0]

    screen = operator.follow(*under(PITR, "1.", "2.", "4.", "5."), mine, before=helper + '"$1"; }')

    assert f'[{{"brought_back": "{lost}"}}]\n[]\n[]\n' in screen
    assert screen.endswith("-000000000001: did not exist at that moment\n")
    assert before == rows(database, "SELECT to_jsonb(r) AS row FROM registrations r WHERE id = :id", id=lost)
    assert {lost, other} == {row["id"] for row in rows(database, "SELECT id FROM registrations")}
    assert 1 == len(rows(database, "SELECT id FROM registration_consents WHERE registration_id = :id", id=lost))
    assert not [each for each in operator.called() if each[1] == "put-function-concurrency"]


def test_service_without_reserved_concurrency(operator: Operator, cloud: Cloud, database: Database) -> None:
    """If no concurrency was reserved before, none is reserved afterwards."""
    cloud.databases = {"deployed": database}
    cloud.client("lambda").delete_function_concurrency(FunctionName="registration-prod-service")
    reopen = [block for block in under(PITR, "10.") if "CONCURRENCY" in block.script]
    alone = [replace(block, script=block.script.partition("for name")[0]) for block in reopen]

    operator.follow(under(PITR, "1.")[0], *under(PITR, "3."), *alone)

    concurrency = cloud.client("lambda").get_function_concurrency(FunctionName="registration-prod-service")
    assert concurrency.get("ReservedConcurrentExecutions") is None


@pytest.mark.parametrize("status", ["COMPLETED", pytest.param("FAILED", marks=pytest.mark.nightly)])
def test_restore_from_the_central_backup(operator: Operator, cloud: Cloud, status: str) -> None:
    """The restored cluster has the settings of the stack, whether AWS Backup or RDS has created it."""
    rds = cloud.client("rds")
    rds.create_db_cluster_snapshot(DBClusterIdentifier=cloud.name, DBClusterSnapshotIdentifier="returned")
    arn = f"arn:aws:rds:{REGION}:123456789012:cluster-snapshot:returned"
    copied_job = {"CopyJob": {"State": "COMPLETED", "DestinationRecoveryPointArn": arn}}
    steps = blocks(CENTRAL)
    if status == "COMPLETED":  # the cluster that AWS Backup creates from the metadata
        rds.restore_db_cluster_from_snapshot(
            SnapshotIdentifier=arn,
            DBClusterIdentifier="registration-prod-restored",
            Engine="aurora-postgresql",
            DBClusterParameterGroupName="registration-prod-18",
        )

    operator.follow(
        *steps, answers={"backup describe-copy-job": copied_job, "backup describe-restore-job": {"Status": status}}
    )

    new = cloud.cluster("registration-prod-restored")
    assert new["DeletionProtection"]
    assert new["CopyTagsToSnapshot"]
    assert 7 == new["BackupRetentionPeriod"]
    assert BACKUP_TAG in new["TagList"]
    assert {"MinCapacity": 0.5, "MaxCapacity": 1} == new["ServerlessV2ScalingConfiguration"]
    (started,) = [each for each in operator.called() if each[:2] == ["backup", "start-restore-job"]]
    metadata = json.loads(started[started.index("--metadata") + 1])
    assert cloud.cluster(cloud.name)["KmsKeyId"] == metadata["KmsKeyId"]
    assert "registration-prod-18" == metadata["DBClusterParameterGroupName"]
    assert "registration-prod" == metadata["DBSubnetGroupName"]


def test_rotate_at_once(operator: Operator, cloud: Cloud, database: Database) -> None:
    """Each of three rotations moves the label AWSCURRENT; then the sessions of the old logins are ended."""
    cloud.databases = {"deployed": database}
    secret = "registration/prod/application"
    secrets = cloud.client("secretsmanager")
    before = secrets.get_secret_value(SecretId=secret)["VersionId"]

    screen = operator.follow(*under(ROTATE, "1.", "2.", "3."))

    assert 3 == screen.count("rotated\n")
    assert "step 4" not in screen
    labels = secrets.describe_secret(SecretId=secret)["VersionIdsToStages"]
    assert not labels.get(before)  # neither current nor previous, so it is no longer valid
    assert "registration_app_clone" in secrets.get_secret_value(SecretId=secret)["SecretString"]
    assert '[{"ended": 0}]' in screen


def test_stuck_rotation(operator: Operator, cloud: Cloud) -> None:
    """AWSPENDING is removed, AWSCURRENT has not moved, and the rotation is enabled again."""
    secrets = cloud.client("secretsmanager")
    secret = "registration/prod/application"
    current = secrets.get_secret_value(SecretId=secret)["VersionId"]
    pending = secrets.put_secret_value(SecretId=secret, SecretString="{}", VersionStages=["AWSPENDING"])["VersionId"]
    *stuck, switch_on = under(ROTATE, "4.")
    operator.follow(*under(ROTATE, "1."), *stuck)

    labels = secrets.describe_secret(SecretId=secret)["VersionIdsToStages"]
    assert "AWSCURRENT" in labels[current]
    assert not [label for label in labels.get(pending, []) if label == "AWSPENDING"]
    assert not secrets.describe_secret(SecretId=secret)["RotationEnabled"]

    operator.follow(under(ROTATE, "1.")[0], switch_on)
    assert secrets.describe_secret(SecretId=secret)["RotationEnabled"]
    assert current != secrets.get_secret_value(SecretId=secret)["VersionId"]


def test_raise_capacity(operator: Operator, cloud: Cloud) -> None:
    """The cluster and the file have the new capacity, and every instance has been restarted."""
    operator.follow(*blocks(CAPACITY))

    capacity = cloud.cluster(cloud.name)["ServerlessV2ScalingConfiguration"]
    assert {"MinCapacity": 0.5, "MaxCapacity": 4} == capacity
    file = (operator.home / "infra/environments/prod.toml").read_text(encoding="utf-8")
    assert re.search(r"^min_capacity = 0\.5$", file, re.MULTILINE)
    assert re.search(r"^max_capacity = 4$", file, re.MULTILINE)
    assert re.search(r"^reserved_concurrency = 100$", file, re.MULTILINE)
    restarted = [each[3] for each in operator.called() if each[:2] == ["rds", "reboot-db-instance"]]
    assert ["registration-prod-reader-1", "registration-prod-writer"] == restarted
    assert [["deploy-database", "ENVIRONMENT=prod"], ["deploy-application", "ENVIRONMENT=prod"]] == operator.called(
        "make"
    )


def test_upgrade_postgresql(operator: Operator, cloud: Cloud, database: Database) -> None:
    """The rehearsal is deleted, a snapshot exists, the file contains the version once, and tables are analysed."""
    cloud.databases = {"deployed": database}

    operator.follow(*blocks(UPGRADE))

    assert ["registration-prod"] == list(cloud.rds.clusters)
    assert "registration-prod-before-18" in cloud.rds.cluster_snapshots
    upgraded = [each for each in operator.called() if "--allow-major-version-upgrade" in each]
    assert [["18.4", "default.aurora-postgresql18"]] == [
        [each[each.index(f"--{option}") + 1] for option in ("engine-version", "db-cluster-parameter-group-name")]
        for each in upgraded
    ]
    file = (operator.home / "infra/environments/prod.toml").read_text(encoding="utf-8")
    assert '[aurora]\nengine_version = "18.4"\n' in file
    assert 1 == file.count("engine_version")
    assert not rows(
        database,
        "SELECT relname FROM pg_stat_user_tables WHERE relname = 'registrations' AND last_analyze IS NULL",
    )


def with_pid(steps: Sequence[Block], pid: int) -> list[Block]:
    """Return *steps* with the process id that the operator has replaced."""
    marked = re.compile(r"^PID=0 .*$", re.MULTILINE)
    replaced = [replace(step, script=marked.sub(f"PID={pid}", step.script)) for step in steps]
    assert replaced != list(steps)
    return replaced


@pytest.fixture
def idle_transaction(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A session of another program, which has changed a registration and holds its lock and a snapshot."""
    sign_up(database, "held@example.com")
    login = database.settings
    with psycopg.connect(
        host=login.host, port=login.port, dbname=login.name, user=login.user, password=login.password
    ) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("UPDATE registrations SET updated_at = updated_at")
        yield connection
        connection.close()


def ended(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the server has ended the session of *connection*."""
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


def test_find_an_expensive_statement(
    operator: Operator, cloud: Cloud, database: Database, idle_transaction: psycopg.Connection[Any]
) -> None:
    """The session is listed without its values, its statement is cancelled, and the statistics are new."""
    cloud.databases = {"deployed": database}
    pid = idle_transaction.info.backend_pid

    screen = operator.follow(*with_pid(blocks(EXPENSIVE), pid))

    (listed,) = [each for each in json.loads(screen.splitlines()[1]) if each["pid"] == pid]
    assert "idle in transaction" == listed["state"]
    assert '[{"cancelled": true}]' in screen
    assert not ended(idle_transaction)  # nothing ran that could be cancelled
    assert rows(database, "SELECT 1 FROM pg_stat_user_tables WHERE relname = 'outbox' AND last_analyze IS NOT NULL")
    assert ["enable-http-endpoint", "disable-http-endpoint"] == [
        each[1] for each in operator.called() if each[1].endswith("http-endpoint")
    ]


def test_resolve_deadlocks(
    operator: Operator, cloud: Cloud, database: Database, idle_transaction: psycopg.Connection[Any]
) -> None:
    """The session that blocks another one is found; after its end, the other one goes on."""
    cloud.databases = {"deployed": database}
    blocking = idle_transaction.info.backend_pid

    def wait_for_the_lock() -> None:
        with database.session() as session:
            session.execute(text("SET LOCAL lock_timeout = '60s'"))
            session.execute(text("SET LOCAL statement_timeout = '60s'"))
            session.execute(text("UPDATE registrations SET updated_at = updated_at"))

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(wait_for_the_lock)
        wait_until(
            lambda: rows(database, "SELECT 1 FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0")
        )
        screen = operator.follow(*with_pid(blocks(DEADLOCKS), blocking))
        waiting.result(timeout=10)

    (listed,) = next(json.loads(line) for line in screen.splitlines() if '"holds"' in line)
    assert (blocking, "idle in transaction") == (listed["holds"], listed["state"])
    assert '[{"ended": true}]' in screen
    assert ended(idle_transaction)


def test_end_an_old_snapshot(
    operator: Operator, cloud: Cloud, database: Database, idle_transaction: psycopg.Connection[Any]
) -> None:
    """The session with the oldest snapshot is the first of the list, and is ended."""
    cloud.databases = {"deployed": database}
    pid = idle_transaction.info.backend_pid

    screen = operator.follow(*with_pid(blocks(SNAPSHOT), pid))

    assert pid in [each["pid"] for each in json.loads(screen.splitlines()[1])]
    assert ended(idle_transaction)


def test_freeze_transaction_ids(operator: Operator, cloud: Cloud, database: Database) -> None:
    """The table has no old transaction ids afterwards."""
    cloud.databases = {"deployed": database}
    steps = [replace(each, script=each.script.replace("registration_events ", "outbox ")) for each in blocks(FREEZE)]
    sign_up(database, "old@example.com")

    screen = operator.follow(*steps)

    ages = [json.loads(line) for line in screen.splitlines() if line.startswith('[{"transactions"')]
    assert ages[-1][0]["transactions"] < 50
    assert rows(database, "SELECT 1 FROM pg_stat_user_tables WHERE relname = 'outbox' AND last_vacuum IS NOT NULL")


def test_repair_a_failed_migration(operator: Operator, cloud: Cloud) -> None:
    """The state is read before and after, and the migration runs once."""
    operator.follow(*blocks(MIGRATION))

    assert ["current", "check"] == [event["action"] for event in cloud.invoked]
    assert [["migrate", "ENVIRONMENT=prod"]] == operator.called("make")


def test_messages_of_failed_migrations() -> None:
    """The messages that the runbook lists are in the package, but for those of PostgreSQL and Lambda."""
    of_others = {
        "lock timeout",
        "Task timed out",
        "permission denied",
        "must be owner",
        "must be member of role",
        "could not create unique index",
        "is violated by some row",
    }
    table = (RUNBOOKS / MIGRATION).read_text(encoding="utf-8").partition("## 2.")[0]
    first_cells = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    messages = {message for cell in first_cells for message in re.findall(r"`([^`]+)`", cell)}
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))

    assert of_others <= messages
    assert [] == [message for message in messages - of_others if message not in source]


def test_repair_a_failed_restore_test(operator: Operator, cloud: Cloud) -> None:
    """The reason is shown, only the copy is deleted, and the plan has the schedule of the template at the end."""
    cloud.fail_restore_test("awsbackup-restore-test-1a2b")

    screen = operator.follow(*blocks(RESTORE_TEST))

    assert "FAILED\tTestFailed\tTooSlow\n" in screen
    assert ["registration-prod"] == list(cloud.rds.clusters)
    assert {"registration-prod-writer", "registration-prod-reader-1"} == cloud.rds.databases.keys()
    template = templates_of("prod", EVERYTHING).restore_testing.one("Backup::RestoreTestingPlan")
    soon, at_the_end = [each for each in operator.called() if each[1] == "update-restore-testing-plan"]
    name, plan = soon[3], soon[5]
    assert template["RestoreTestingPlanName"] == name == at_the_end[3]
    assert re.fullmatch(r"ScheduleExpression='cron\(\d+ \d+ \d+ \* \? \*\)',StartWindowHours=1", plan)
    schedule, hours = template["ScheduleExpression"], template["StartWindowHours"]
    assert f"ScheduleExpression='{schedule}',StartWindowHours={hours}" == at_the_end[5]


def test_errors_of_the_restore_test() -> None:
    """The runbook has each error with which the state machine ends, and the package has the others that it names."""
    table = (RUNBOOKS / RESTORE_TEST).read_text(encoding="utf-8").partition("## 2.")[2].partition("## 3.")[0]
    named = set(re.findall(r"`([A-Z][a-z]+[A-Z]\w+|Unhealthy)`", table))
    of_machine = set(re.findall(r'"Error": "(\w+)"', DEFINITION.read_text(encoding="utf-8")))

    assert of_machine <= named
    assert [] == [error for error in named - of_machine - {"StatusMessage"} if not hasattr(errors, error)]


def test_find_lost_connections(operator: Operator, cloud: Cloud) -> None:
    """The state of the cluster and of each instance is shown, and the rules of the network are found."""
    screen = operator.follow(*blocks(CONNECTIONS))

    assert cloud.cluster(cloud.name)["Endpoint"] in screen
    assert "registration-prod-writer\tavailable" in screen
    assert "registration-prod-reader-1\tavailable" in screen
    patterns = [each[each.index("--filter-pattern") + 1] for each in operator.called() if "--filter-pattern" in each]
    assert '{ $.event = "connection_opened" }' in patterns


def test_work_without_secrets_manager(operator: Operator, cloud: Cloud) -> None:
    """The state of the secret and of its key is shown."""
    version = cloud.client("secretsmanager").describe_secret(SecretId="registration/prod/application")

    screen = operator.follow(*blocks(SECRETS))

    (current,) = [name for name, labels in version["VersionIdsToStages"].items() if "AWSCURRENT" in labels]
    assert ["None\tTrue", current, "Enabled"] == screen.splitlines()[:3]


def spans(page: Path, pattern: str) -> Sequence[str]:
    """Return the code spans outside code blocks that match *pattern*, on one line each."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose) if re.match(pattern, code)]


def test_operations_exist() -> None:
    """`aws` has every operation, also those in branches that no scenario executes."""
    session = Session()
    for page in PAGES:
        for block in blocks(page.name):
            for service, operation in re.findall(r"(?:^|[\s(])aws ([a-z-]+) ([a-z-]+)", block.script):
                model = session.get_service_model(service)
                assert operation in {"wait", *(xform_name(each, "-") for each in model.operation_names)}, operation


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_text(page: Path, operator: Operator) -> None:
    """The commands in the text and in the tables are valid too."""
    known = "ENVIRONMENT=prod; CLUSTER=registration-prod; IDS=; DATABASE=registrations; SECRET=registration/prod/app"
    commands = [each for each in spans(page, r"aws (?!configure)[a-z]") if len(each.split()) > 2]
    checks = [Block(page.name, "", f"{each} > /dev/null") for each in commands]

    operator.follow(*checks, before=known, answers={"*": {}})

    assert len(commands) == len(operator.called())


def test_fixed_answers_are_needed() -> None:
    """Every operation with a fixed answer is in a runbook, and moto still lacks it."""
    text_of_all = "\n".join(block.script for page in PAGES for block in blocks(page.name))
    for name, operation in NOT_SIMULATED.items():
        assert f"aws {name}" in text_of_all, f"no runbook has {name}"
        method = name.split()[1].replace("-", "_")
        responses = import_module(f"moto.{operation.module}.responses")
        implemented = [
            each
            for each in vars(responses).values()
            if getattr(each, "__module__", None) == responses.__name__ and hasattr(each, method)
        ]
        assert not implemented, f"moto has {name} now: remove its fixed answer"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    """Links lead to existing files and headings."""
    for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.is_file(), target
        headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", found.read_text(), flags=re.DOTALL), re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, target


def test_index_lists_every_runbook() -> None:
    """The index has a link to each page."""
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    assert all(f"({page.name}" in index for page in PAGES if page.name != "README.md")


def test_make_targets_exist() -> None:
    """The Makefile has every target that a runbook uses."""
    named = {
        target
        for page in PAGES
        for target in re.findall(r"\bmake ([a-z][a-z-]*) ENVIRONMENT=", page.read_text(encoding="utf-8"))
    }
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))

    assert {"deploy-database", "bootstrap", "deploy-application"} <= named
    assert not named - targets
