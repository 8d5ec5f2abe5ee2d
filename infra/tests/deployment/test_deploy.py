"""`deploy.py`, the Makefile's targets and the workflows: what a deployment does in which order, and what stops it.

They run as they are. In the place of AWS are a `cdk` that writes down how it is called, and a server on this machine
that answers as Lambda's Invoke does; both write into one log.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote

import deploy
import pytest
import yaml
from registration_infra import ENVIRONMENTS

ROOT = Path(__file__).parents[3]
INFRA = ROOT / "infra"
WORKFLOWS = ROOT / ".github" / "workflows"
ACCOUNTS = {"dev": "111111111111", "staging": "222222222222", "prod": "333333333333"}
BEFORE, AFTER = "652c73ea87d7", "b41d5e0c92fa"
ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "bootstrap": {"action": "bootstrap", "before": BEFORE, "after": BEFORE, "changes": ["a role"]},
    "upgrade": {"action": "upgrade", "before": BEFORE, "after": AFTER},
    "current": {"action": "current", "before": AFTER, "after": AFTER, "newest": AFTER},
    "check": {"action": "check", "before": AFTER, "after": AFTER, "in_step": True},
}
# What make must not do here: it would ask the package registries.
UNTOUCHED = ("infra-build", "infra/.venv/.installed", "infra/node_modules/.installed")
FAKE_CDK = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["FAKE_LOG"], "a", encoding="utf-8") as log:
    log.write(json.dumps({{"cdk": sys.argv[1:], "cwd": os.getcwd(), "stdin": sys.stdin.read()}}) + "\\n")
print("cdk was here")
sys.exit(7 if os.environ.get("FAKE_CDK_FAILS", "nothing") in sys.argv else 0)
"""
EXISTING = """
provision_aurora = false
account = "111111111111"
region = "eu-central-1"
[network]
availability_zones = ["eu-central-1a", "eu-central-1b"]
vpc_id = "vpc-12345678"
subnet_ids = ["subnet-12345678", "subnet-87654321"]
secrets_endpoint_security_group_id = "sg-87654321"
[existing]
host = "db.example.org"
port = 5432
name = "registrations"
secret_arn = "arn:aws:secretsmanager:eu-central-1:111111111111:secret:registration-AbCdEf"
security_group_id = "sg-12345678"
"""


@dataclass(frozen=True)
class Reply:
    """What the server answers an invocation with."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def answered(payload: Any) -> Reply:
    """Return the answer of a function that returns *payload*."""
    return Reply(json.dumps(payload).encode())


def failed(kind: str, message: str) -> Reply:
    """Return the answer of a function that raises."""
    payload = {"errorType": kind, "errorMessage": message, "requestId": "1", "stackTrace": ["  File …"]}
    return Reply(json.dumps(payload).encode(), headers={"X-Amz-Function-Error": "Unhandled"})


def refused(status: int, code: str, message: str) -> Reply:
    """Return the answer of Lambda where it does not run the function."""
    body = json.dumps({"Type": "User", "Message": message}).encode()
    return Reply(body, status, {"X-Amzn-ErrorType": code})


LOST = "registration-dev-migrate was asked for upgrade, and may be running still"
HANG_UP = Reply(b"", 0)
MIGRATION_FAILED = failed("RegistrationPersistenceError", 'upgrade failed: relation "people"\nalready exists')


class Cloud:
    """What a deployment asks for, and what it is answered."""

    def __init__(self, folder: Path) -> None:
        self.replies = {action: answered(answer) for action, answer in ANSWERS.items()}
        self.silent, self.asked = Event(), Event()
        self.silent.set()
        self.keeps_alive: list[bool] = []
        self.log = folder / "log.jsonl"
        self.cdk = folder / "cdk"
        self.cdk.write_text(FAKE_CDK, encoding="utf-8")
        self.cdk.chmod(0o755)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Lambda, self))
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "CDK": str(self.cdk),
            "FAKE_LOG": str(self.log),
            "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ACCESS_KEY_ID": "made-up",
            "AWS_SECRET_ACCESS_KEY": "made-up",
            "AWS_EC2_METADATA_DISABLED": "true",
            # Whoever sets these means other commands.
            "AWS_MAX_ATTEMPTS": "5",
            "AWS_RETRY_MODE": "standard",
        }

    def close(self) -> None:
        """Stop the server."""
        self.silent.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Everything that was asked for, in its order."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]

    @property
    def happened(self) -> list[str]:
        """The same in short."""
        return [
            f"{call['action']} {call['function']}" if "action" in call else " ".join(call["cdk"][:2])
            for call in self.calls
        ]

    def note(self, call: Mapping[str, Any]) -> None:
        """Write into the log."""
        with self.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(call) + "\n")

    def step(self, step: str, environment: str = "dev", *, infra: Path = INFRA, **changes: str) -> "Run":
        """Run `deploy.py`."""
        return self._run([sys.executable, str(infra / "deploy.py"), step, environment], changes)

    def make(self, *arguments: str, **changes: str) -> "Run":
        """Run make in the root of the repository."""
        old = [f"--old-file={name}" for name in UNTOUCHED]
        return self._run(["make", "--no-print-directory", "-C", str(ROOT), *old, *arguments], changes)

    def _run(self, command: Sequence[str], changes: Mapping[str, str]) -> "Run":
        environment = {name: value for name, value in {**self.environment, **changes}.items() if value}
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=60,
        )
        return Run(done.returncode, done.stdout.splitlines(), done.stderr.splitlines())


@dataclass(frozen=True)
class Run:
    """How a command ended, and the lines that it printed."""

    code: int
    out: list[str]
    err: list[str]


class _Lambda(BaseHTTPRequestHandler):
    def __init__(self, cloud: Cloud, *arguments: Any) -> None:
        self.cloud = cloud
        super().__init__(*arguments)

    def do_POST(self) -> None:
        """Answer as Invoke does."""
        found = re.fullmatch(r"/2015-03-31/functions/([^/]+)/invocations", self.path)
        assert found is not None
        action = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["action"]
        self.cloud.note({"action": action, "function": unquote(found[1])})
        self.cloud.keeps_alive.append(keeps_alive(self.client_address[1]))
        self.cloud.asked.set()
        self.cloud.silent.wait()
        reply = self.cloud.replies[action]
        if reply is HANG_UP:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def keeps_alive(port: int) -> bool:
    """Return whether the kernel keeps the connection from *port* alive, as /proc/net/tcp says in `man 5 proc`."""
    table = Path("/proc/net/tcp")
    lines = table.read_text(encoding="ascii").splitlines()[1:] if table.exists() else []
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[5].startswith("02:") for line in lines)


def function(environment: str) -> str:
    """Return the name that the function for migrations is invoked by."""
    return f"{ACCOUNTS[environment]}:function:registration-{environment}-migrate"


def deployment(environment: str) -> list[str]:
    """Return all that a deployment asks for, in its order."""
    return [
        f"deploy registration-{environment}-database",
        f"bootstrap {function(environment)}",
        f"upgrade {function(environment)}",
        f"deploy registration-{environment}-application",
    ]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """Return a cloud in which everything succeeds."""
    cloud = Cloud(tmp_path)
    yield cloud
    cloud.close()


def copied(folder: Path, dev: str) -> Path:
    """Copy into *folder* what `deploy.py` needs, with *dev* as the file of that environment."""
    infra = folder / "infra"
    shutil.copytree(INFRA / "registration_infra", infra / "registration_infra")
    shutil.copy(INFRA / "deploy.py", infra)
    (infra / "environments").mkdir()
    (infra / "environments" / "dev.toml").write_text(dev, encoding="utf-8")
    return infra


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_deployment_has_one_order(cloud: Cloud, environment: str) -> None:
    """`make deploy` deploys the database, makes the roles, migrates, deploys the application, and says so."""
    run = cloud.make("deploy", f"ENVIRONMENT={environment}")

    assert (run.code, run.err) == (0, [])
    assert cloud.happened == deployment(environment)
    assert run.out == [
        f"{environment}: Deploy the stack of the database.",
        "cdk was here",
        f"{environment}: Make the roles, and give them what they need.",
        f'{environment}: bootstrap: {BEFORE}, as before {{"changes": ["a role"]}}',
        f"{environment}: Bring the schema up to date.",
        f"{environment}: upgrade: {BEFORE} → {AFTER}",
        f"{environment}: Deploy the stack of the application.",
        "cdk was here",
    ]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("infra-synth", "synth --quiet"),
        ("deploy-database", "deploy registration-staging-database"),
        ("bootstrap", f"bootstrap {function('staging')}"),
        ("migrate", f"upgrade {function('staging')}"),
        ("deploy-application", "deploy registration-staging-application"),
    ],
)
def test_each_target_is_one_step(cloud: Cloud, target: str, expected: str) -> None:
    """Each target of the Makefile does one thing, in the environment that the variable names."""
    run = cloud.make(target, ENVIRONMENT="staging")

    assert (run.code, run.err) == (0, [])
    assert cloud.happened == [expected]


def test_the_default_is_dev(cloud: Cloud) -> None:
    """Who names no environment means dev."""
    assert cloud.make("migrate").out == [f"dev: upgrade: {BEFORE} → {AFTER}"]
    assert cloud.happened == [f"upgrade {function('dev')}"]


def test_the_account_is_prepared_and_everything_can_be_deleted(cloud: Cloud) -> None:
    """The account and region are the file's; deleting is asked about, so it is not forced."""
    assert [cloud.make("prepare-account").code, cloud.make("destroy").code] == [0, 0]

    common = ["--context", "environment=dev", "--strict", "--no-notices"]
    assert [call["cdk"] for call in cloud.calls] == [
        ["bootstrap", "aws://111111111111/eu-central-1", *common],
        ["destroy", "--all", *common],
    ]


def test_nobody_is_asked(cloud: Cloud) -> None:
    """Cdk deploys only the stack that is named, without asking, and fails on warnings; synth looks nothing up."""
    for step in ("synth", "database", "application"):
        assert cloud.step(step).code == 0

    common = ["--context", "environment=dev", "--strict", "--no-notices"]
    unasked = ["--exclusively", "--require-approval", "never"]
    assert [call["cdk"] for call in cloud.calls] == [
        ["synth", "--quiet", "--no-lookups", *common],
        ["deploy", "registration-dev-database", *unasked, *common],
        ["deploy", "registration-dev-application", *unasked, *common],
    ]
    assert {call["cwd"] for call in cloud.calls} == {str(INFRA)}
    assert {call["stdin"] for call in cloud.calls} == {""}


@pytest.mark.parametrize("by_make", [True, False])
@pytest.mark.parametrize(
    ("done", "action", "problem"),
    [
        (1, None, "cdk deploy for dev failed with exit code 7: see above"),
        (
            2,
            "bootstrap",
            (
                "registration-dev-migrate failed in bootstrap: "
                'RegistrationPersistenceError: upgrade failed: relation "people" already exists'
            ),
        ),
        (
            3,
            "upgrade",
            (
                "registration-dev-migrate failed in upgrade: "
                'RegistrationPersistenceError: upgrade failed: relation "people" already exists'
            ),
        ),
    ],
    ids=["database", "bootstrap", "migrate"],
)
def test_what_fails_is_the_last(cloud: Cloud, done: int, action: str | None, problem: str, *, by_make: bool) -> None:
    """Where the database, the roles or the schema fail, nothing comes after, and one line says what failed."""
    if action:
        cloud.replies[action] = MIGRATION_FAILED
    fails = "registration-dev-database" if action is None else ""

    run = cloud.make("deploy", FAKE_CDK_FAILS=fails) if by_make else cloud.step("all", FAKE_CDK_FAILS=fails)

    assert run.code == (2 if by_make else 1)
    assert [line for line in run.err if not line.startswith("make: ***")] == [f"deploy.py: {problem}"]
    assert cloud.happened == deployment("dev")[:done]


def test_an_application_that_fails_fails_the_deployment(cloud: Cloud) -> None:
    """The last step counts as well."""
    run = cloud.step("all", FAKE_CDK_FAILS="registration-dev-application")

    assert (run.code, run.err) == (1, ["deploy.py: cdk deploy for dev failed with exit code 7: see above"])
    assert cloud.happened == deployment("dev")


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (
            refused(404, "ResourceNotFoundException", "Function not found: arn:…"),
            ("registration-dev-migrate does not exist in 111111111111, eu-central-1: deploy the database first, with "
            "make deploy-database ENVIRONMENT=dev"),
        ),
        (
            refused(429, "TooManyRequestsException", "Rate Exceeded."),
            "registration-dev-migrate is running already, and only one may: wait until it is done",
        ),
        (
            refused(403, "AccessDeniedException", "User: arn:aws:iam::222222222222:user/me is not authorized"),
            ("registration-dev-migrate could not be invoked for upgrade: AccessDeniedException: User: "
            "arn:aws:iam::222222222222:user/me is not authorized"),
        ),
        (
            failed("Sandbox.Timedout", "RequestId: 1 Error: Task timed out after 900.00 seconds"),
            ("registration-dev-migrate failed in upgrade: Sandbox.Timedout: RequestId: 1 Error: Task timed out after "
            "900.00 seconds"),
        ),
        (
            failed("DeploymentInProgress", "another deployment is at work"),
            "registration-dev-migrate failed in upgrade: DeploymentInProgress: another deployment is at work",
        ),
        (
            Reply(b"<html>a proxy</html>"),
            "registration-dev-migrate answered upgrade with what is no JSON object: b'<html>a proxy</html>'",
        ),
        (answered(None), "registration-dev-migrate answered upgrade with what is no JSON object: b'null'"),
        (Reply(b"\xff\xfe", headers={"X-Amz-Function-Error": "Unhandled"}), "is no JSON object: b'\\xff\\xfe'"),
        (refused(500, "ServiceException", "Ouch"), f"{LOST}: ServiceException: Ouch; its log is"),
        (Reply(b"", 502), f"{LOST}: 502: Bad Gateway; its log is"),
        (Reply(b"", 503), f"{LOST}: 503: Service Unavailable; its log is"),
        (Reply(b"", 504), f"{LOST}: 504: Gateway Timeout; its log is"),
        (HANG_UP, f"{LOST}: Connection was closed before"),
    ],
    ids=[
        "missing", "throttled", "denied", "timed out", "locked", "no JSON", "null", "no text", "500", "502", "503",
        "504", "hung up",
    ],
)  # fmt: skip
def test_a_migration_that_fails_is_not_tried_again(cloud: Cloud, reply: Reply, problem: str) -> None:
    """Whatever Lambda answers, it is asked once; one line says what happened, and the exit code is 1."""
    cloud.replies["upgrade"] = reply

    run = cloud.step("migrate")

    assert run.code == 1
    assert run.out == []
    assert len(run.err) == 1
    assert problem in run.err[0]
    assert cloud.happened == [f"upgrade {function('dev')}"]


def test_a_migration_that_does_not_answer_is_not_tried_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is waited for a little longer than it can run; then one line says where to look, and nobody asks again."""
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    assert deploy._LONGEST_MIGRATION > 900  # noqa: SLF001 nothing else tells it
    monkeypatch.setattr(deploy, "_LONGEST_MIGRATION", 0.3)
    cloud.silent.clear()

    assert deploy.main(["all", "dev"]) == 1

    error = capsys.readouterr().err
    assert "registration-dev-migrate was asked for bootstrap, and may be running still: Read timeout" in error
    assert "its log is /aws/lambda/registration-dev-migrate" in error
    assert "`python deploy.py current dev` says what the database is at" in error
    assert cloud.happened == deployment("dev")[:2]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux says which connections it keeps alive")
def test_a_connection_that_waits_is_kept_alive(cloud: Cloud) -> None:
    """The connection over which a migration is waited for has TCP keep-alive."""
    cloud.step("migrate")

    assert cloud.keeps_alive == [True]


def test_without_credentials_one_line_says_so(cloud: Cloud) -> None:
    """Who is not signed in reads how to, and nothing is asked for."""
    run = cloud.step("migrate", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")

    assert run.code == 1
    assert run.err == ["deploy.py: there are no AWS credentials: sign in (aws sso login), or set AWS_PROFILE"]
    assert cloud.happened == []


def test_a_profile_that_is_not_there_is_one_line(cloud: Cloud) -> None:
    """A profile that nobody configured is named."""
    run = cloud.step("migrate", AWS_PROFILE="nobody")

    assert run.code == 1
    assert run.err == [
        (
            "deploy.py: registration-dev-migrate could not be invoked for upgrade: "
            "The config profile (nobody) could not be found"
        )
    ]


def test_an_address_where_nobody_listens_is_one_line(cloud: Cloud) -> None:
    """Without a network, one line says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    run = cloud.step("migrate", AWS_ENDPOINT_URL_LAMBDA=address)

    assert (run.code, len(run.err)) == (1, 1)
    assert f'Could not connect to the endpoint URL: "{address}' in run.err[0]


def test_without_cdk_one_line_says_what_installs_it(cloud: Cloud, tmp_path: Path) -> None:
    """Where the CDK's command line is not there, or cannot be run, make installs it."""
    missing = tmp_path / "missing"

    run = cloud.step("database", CDK=str(missing))
    assert run.code == 1
    assert run.err == [f"deploy.py: {missing} cannot be run (No such file or directory): make infra-synth installs it"]

    missing.write_text("", encoding="utf-8")
    assert cloud.step("database", CDK=str(missing)).err == [
        f"deploy.py: {missing} cannot be run (Permission denied): make infra-synth installs it"
    ]


def test_cdk_is_the_one_that_is_pinned(cloud: Cloud, tmp_path: Path) -> None:
    """Unless the variable CDK says otherwise, it is that of infra/node_modules."""
    infra = copied(tmp_path, EXISTING)
    pinned = infra / "node_modules" / ".bin"
    pinned.mkdir(parents=True)
    cloud.cdk.rename(pinned / "cdk")

    assert cloud.step("application", infra=infra, CDK="").code == 0
    assert cloud.happened == ["deploy registration-dev-application"]


def test_who_interrupts_reads_what_goes_on(cloud: Cloud) -> None:
    """Ctrl-C ends it with 130 and one line: what AWS has begun does not end."""
    cloud.silent.clear()
    command = ["env", "--default-signal=INT", sys.executable, str(INFRA / "deploy.py"), "all", "dev"]
    with subprocess.Popen(command, env=cloud.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert cloud.asked.wait(30)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)

    assert process.returncode == 130
    assert error.decode().splitlines() == ["deploy.py: interrupted; what AWS has begun, it goes on with"]
    assert cloud.happened == deployment("dev")[:2]


@pytest.mark.parametrize(
    ("step", "answer", "printed"),
    [
        ("migrate", {"before": None, "after": AFTER}, f"dev: upgrade: no revision → {AFTER}"),
        ("migrate", {"before": AFTER, "after": AFTER}, f"dev: upgrade: {AFTER}, as before"),
        ("current", ANSWERS["current"], f'dev: current: {AFTER}, as before {{"newest": "{AFTER}"}}'),
        ("check", ANSWERS["check"], f'dev: check: {AFTER}, as before {{"in_step": true}}'),
    ],
)
def test_an_answer_is_one_line(cloud: Cloud, step: str, answer: Mapping[str, Any], printed: str) -> None:
    """The revisions come first, and what else there is as JSON."""
    cloud.replies["upgrade" if step == "migrate" else step] = answered(answer)

    run = cloud.step(step)

    assert (run.code, run.out, run.err) == (0, [printed], [])


def test_a_migration_that_worked_is_no_failure_where_the_terminal_is_old(cloud: Cloud) -> None:
    """Where the arrow cannot be printed, the exit code is 0 all the same."""
    run = cloud.step("migrate", PYTHONIOENCODING="ascii")

    assert (run.code, run.out, run.err) == (0, [f"dev: upgrade: {BEFORE} ? {AFTER}"], [])


def test_a_database_that_differs_fails_the_check(cloud: Cloud) -> None:
    """`check` is a failure where the database is not what the revisions make."""
    cloud.replies["check"] = answered({**ANSWERS["check"], "in_step": False, "differs": "add_column people.age"})

    run = cloud.step("check")

    assert (run.code, run.out) == (1, [])
    assert run.err == ["deploy.py: the database of dev is not what the revisions make: add_column people.age"]


def test_a_database_of_somebody_else_is_left_alone(cloud: Cloud, tmp_path: Path) -> None:
    """Without a cluster of its own, a deployment is the application, and says who migrates."""
    run = cloud.step("all", infra=copied(tmp_path, EXISTING))

    assert (run.code, run.err) == (0, [])
    assert cloud.happened == ["deploy registration-dev-application"]
    unreachable = "dev: the database is somebody else's, and nothing here reaches it: run `registration-persistence"
    assert run.out == [
        "dev: Deploy the stack of the database.",
        "dev: the database is somebody else's, so that none is deployed",
        "dev: Make the roles, and give them what they need.",
        f"{unreachable} bootstrap` where it can be reached",
        "dev: Bring the schema up to date.",
        f"{unreachable} migrate` where it can be reached",
        "dev: Deploy the stack of the application.",
        "cdk was here",
    ]


@pytest.mark.parametrize(("step", "environment"), [("everything", "dev"), ("all", "production"), ("all", "../dev")])
def test_only_known_steps_and_environments_are_taken(cloud: Cloud, step: str, environment: str) -> None:
    """Anything else is exit code 2, and the error lists what there is."""
    run = cloud.step(step, environment)

    assert run.code == 2
    assert "invalid choice" in run.err[-1]
    assert all(name in run.err[-1] for name in (ENVIRONMENTS if step == "all" else deploy.STEPS))
    assert cloud.happened == []


def test_a_wrong_configuration_is_listed(cloud: Cloud, tmp_path: Path) -> None:
    """A file with two mistakes is exit code 2 and a list of both, and nothing is asked for."""
    dev = (INFRA / "environments" / "dev.toml").read_text(encoding="utf-8")
    infra = copied(tmp_path, dev.replace("max_capacity = 1\n", "max_capacity = 0.7\nspeed = 3\n"))

    run = cloud.step("all", infra=infra)

    assert (run.code, run.out) == (2, [])
    assert run.err[0] == f"deploy.py: {infra}/environments/dev.toml is wrong:"
    assert ["  - ", "  - "] == [line[:4] for line in run.err[1:]]
    assert {"speed", "max_capacity"} <= set(re.findall(r"\w+", "\n".join(run.err[1:])))
    assert cloud.happened == []


def workflow(name: str) -> dict[str, Any]:
    """Return the workflow in the file *name*; every value in it is text."""
    text = (WORKFLOWS / name).read_text(encoding="utf-8")
    found = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 this loader makes nothing but text
    assert isinstance(found, dict)
    return found


NAMES = sorted(path.name for path in WORKFLOWS.iterdir())
DEPLOY, ENVIRONMENT = workflow("deploy.yml"), workflow("deploy-environment.yml")
STEPS = ENVIRONMENT["jobs"]["deploy"]["steps"]
MAKES = [step["run"] for step in STEPS if step.get("run", "").startswith("make ")]


def targets() -> dict[str, str]:
    """Return the targets of the Makefile that are explained, each with its explanation."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z-]+):.*?## (.*)$", text, re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_workflows_run_targets_that_there_are(name: str) -> None:
    """Every `make` in a workflow names a target of the Makefile."""
    for job in workflow(name)["jobs"].values():
        for step in job.get("steps", []):
            for target in re.findall(r"\bmake (\$\{\{ matrix\.target }}|\S+)", step.get("run", "")):
                named = job["strategy"]["matrix"]["target"] if target.startswith("$") else [target]
                assert set(named) <= targets().keys(), step


@pytest.mark.parametrize("name", NAMES)
def test_workflows_keep_the_rules_of_the_others(name: str) -> None:
    """Jobs end some time, actions have a major version, no token stays in the checkout, nothing is cancelled."""
    found = workflow(name)
    assert found["permissions"]["contents"] == "read"
    for job in found["jobs"].values():
        assert "uses" in job or 0 < int(job["timeout-minutes"]) <= 60
        assert job.get("concurrency", {}).get("cancel-in-progress", "false") == "false"
        for step in job.get("steps", []):
            if "uses" in step:
                assert re.fullmatch(r"(actions|aws-actions)/[a-z-]+@v\d+", step["uses"])
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] == "false"
    assert found.get("concurrency", {}).get("cancel-in-progress", "false") == "false"


def test_the_workflow_runs_on_main_and_by_hand() -> None:
    """Nothing but main is deployed, and the tests come first."""
    assert DEPLOY["on"] == {"push": {"branches": ["main"]}, "workflow_dispatch": ""}
    assert DEPLOY["jobs"]["test"]["if"] == "github.ref == 'refs/heads/main'"
    assert DEPLOY["jobs"]["test"]["strategy"]["matrix"]["target"] == ["check", "infra-test"]
    assert ENVIRONMENT["on"].keys() == {"workflow_call"}


def test_the_workflow_tests_as_ci_does() -> None:
    """What is deployed was tested on the machine that CI has."""
    ours, theirs = DEPLOY["jobs"]["test"], workflow("ci.yml")["jobs"]["check"]

    assert (ours["runs-on"], ours["env"]) == (theirs["runs-on"], theirs["env"])
    for index in (0, 2):
        assert ours["steps"][index] == theirs["steps"][index]
    check = ours["steps"][3]["run"].replace("${{ matrix.target }}", "check")
    assert check == theirs["steps"][3]["run"]


def test_production_comes_after_staging_and_that_after_dev() -> None:
    """Each environment needs the one before, and none goes on where it failed."""
    jobs = DEPLOY["jobs"]

    assert list(jobs) == ["test", "dev", "staging", "production"]
    assert [jobs[name]["needs"] for name in ("dev", "staging", "production")] == ["test", "dev", "staging"]
    deployments = [job for name, job in jobs.items() if name != "test"]
    assert [job["with"]["environment"] for job in deployments] == [*ENVIRONMENTS] == ["dev", "staging", "prod"]
    for job in deployments:
        assert job["uses"] == "./.github/workflows/deploy-environment.yml"
        assert job.keys() == {"needs", "uses", "with", "permissions"}


def test_production_is_approved_through_its_environment() -> None:
    """The job names the environment, whose reviewers GitHub asks; the file says that they must be configured."""
    job = ENVIRONMENT["jobs"]["deploy"]
    comment = (WORKFLOWS / "deploy.yml").read_text(encoding="utf-8").partition("\nname:")[0]

    assert job["environment"] == "${{ inputs.environment }}"
    assert "To be configured" in comment
    assert "`prod` with required reviewers" in comment


def test_one_deployment_of_an_environment_runs_at_a_time() -> None:
    """A second one waits, and what runs is never cancelled."""
    assert ENVIRONMENT["jobs"]["deploy"]["concurrency"] == {
        "group": "deploy-${{ inputs.environment }}",
        "cancel-in-progress": "false",
    }


def test_the_workflow_holds_no_keys() -> None:
    """Credentials come by OIDC, for the jobs that deploy and no other, before the first step that needs them."""
    allowed = {"contents": "read", "id-token": "write"}
    assert DEPLOY["permissions"] == {"contents": "read"}
    assert "permissions" not in DEPLOY["jobs"]["test"]
    assert [job["permissions"] for name, job in DEPLOY["jobs"].items() if name != "test"] == [allowed] * 3
    assert ENVIRONMENT["permissions"] == allowed

    (index,) = [
        number for number, step in enumerate(STEPS) if step.get("uses", "").startswith("aws-actions/configure-aws")
    ]
    assert STEPS[index]["with"] == {
        "role-to-assume": "${{ vars.AWS_ROLE_ARN }}",
        "aws-region": "${{ vars.AWS_REGION }}",
    }
    assert index < min(number for number, step in enumerate(STEPS) if step.get("run", "").startswith("make "))
    for name in ("deploy.yml", "deploy-environment.yml"):
        assert "secrets." not in (WORKFLOWS / name).read_text(encoding="utf-8")


def test_the_workflow_is_plain_targets_in_their_order() -> None:
    """Each is a step, for the environment of the job, and runs only where all before it succeeded."""
    job = ENVIRONMENT["jobs"]["deploy"]

    assert MAKES == [
        "make infra-synth",
        "make deploy-database",
        "make bootstrap",
        "make migrate",
        "make deploy-application",
    ]
    assert [step.get("run") for step in STEPS[-len(MAKES) :]] == MAKES
    assert job["env"]["ENVIRONMENT"] == "${{ inputs.environment }}"
    for each in (job, *STEPS):
        assert not {"if", "continue-on-error", "shell"} & each.keys()


@pytest.mark.parametrize("failing", [None, "bootstrap", "upgrade"])
def test_the_steps_of_the_workflow_do_what_a_deployment_does(cloud: Cloud, failing: str | None) -> None:
    """Its commands, run one after the other until one fails, do what `make deploy` does, after the synth."""
    if failing:
        cloud.replies[failing] = MIGRATION_FAILED
    for command in MAKES:
        _, *arguments = shlex.split(command)
        if cloud.make(*arguments, ENVIRONMENT="prod").code:
            break

    done = {None: 4, "bootstrap": 2, "upgrade": 3}[failing]
    assert cloud.happened == ["synth --quiet", *deployment("prod")[:done]]


def test_make_explains_the_deployment(cloud: Cloud) -> None:
    """`make help` lists every target that is explained, and with them those of a deployment."""
    printed = cloud.make("help")

    explained = {line.split()[1]: line.split(maxsplit=2)[2] for line in printed.out}
    assert explained == targets()
    assert {command.removeprefix("make ") for command in MAKES} | {"deploy"} <= explained.keys()
