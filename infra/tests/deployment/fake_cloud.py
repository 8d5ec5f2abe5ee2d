"""A fake AWS for `deploy.py`: a `cdk` that logs its calls, and a server that answers like Lambda's Invoke.

Both write to one log, so that tests can check the order of the calls.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote

ROOT = Path(__file__).parents[3]
INFRA = ROOT / "infra"
ACCOUNTS = {"dev": "111111111111", "staging": "222222222222", "prod": "333333333333"}
BEFORE, AFTER = "652c73ea87d7", "b41d5e0c92fa"
ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "bootstrap": {"action": "bootstrap", "before": BEFORE, "after": BEFORE, "changes": ["a role"]},
    "upgrade": {"action": "upgrade", "before": BEFORE, "after": AFTER},
    "current": {"action": "current", "before": AFTER, "after": AFTER, "newest": AFTER},
    "check": {"action": "check", "before": AFTER, "after": AFTER, "in_step": True},
}
# The targets that make must not build, because they would download packages.
SKIPPED_TARGETS = ("infra-build", "infra/.venv/.installed", "infra/node_modules/.installed")
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
sslmode = "require"
port = 5432
name = "registrations"
secret_arn = "arn:aws:secretsmanager:eu-central-1:111111111111:secret:registration-AbCdEf"
security_group_id = "sg-12345678"
"""


@dataclass(frozen=True)
class Reply:
    """The answer to an invocation."""

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
    """Return the answer of Lambda if it does not run the function."""
    body = json.dumps({"Type": "User", "Message": message}).encode()
    return Reply(body, status, {"X-Amzn-ErrorType": code})


HANG_UP = Reply(b"", 0)
MIGRATION_FAILED = failed("RegistrationPersistenceError", 'upgrade failed: relation "people"\nalready exists')


class Cloud:
    """A fake AWS.

    Attributes:
        replies: The answer of the migration function to each action.
        answering: Set while the server answers; if it is cleared, requests wait.
        requested: Set when the first request has arrived.
        keeps_alive: For each request, whether its connection has TCP keep-alive.
        log: The log of all calls.
        cdk: The fake `cdk`.
        environment: The environment variables of `deploy.py`.
    """

    def __init__(self, folder: Path) -> None:
        self.replies = {action: answered(answer) for action, answer in ANSWERS.items()}
        self.answering, self.requested = Event(), Event()
        self.answering.set()
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
            # The settings of other commands must not apply to migrations.
            "AWS_MAX_ATTEMPTS": "5",
            "AWS_RETRY_MODE": "standard",
        }

    def close(self) -> None:
        """Stop the server."""
        self.answering.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Return all calls in order."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]

    @property
    def summary(self) -> list[str]:
        """Return a short text for each call, in order."""
        return [
            f"{call['action']} {call['function']}" if "action" in call else " ".join(call["cdk"][:2])
            for call in self.calls
        ]

    def record(self, call: Mapping[str, Any]) -> None:
        """Append *call* to the log."""
        with self.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(call) + "\n")

    def step(self, step: str, environment: str = "dev", *, infra: Path = INFRA, **changes: str) -> "Run":
        """Run `deploy.py`."""
        return self._run([sys.executable, str(infra / "deploy.py"), step, environment], changes)

    def make(self, *arguments: str, **changes: str) -> "Run":
        """Run make in the root folder of the repository."""
        old = [f"--old-file={name}" for name in SKIPPED_TARGETS]
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
    """The exit code and the output of a command."""

    code: int
    out: list[str]
    err: list[str]


class _Lambda(BaseHTTPRequestHandler):
    def __init__(self, cloud: Cloud, *arguments: Any) -> None:
        self.cloud = cloud
        super().__init__(*arguments)

    def do_POST(self) -> None:
        """Answer like Invoke."""
        found = re.fullmatch(r"/2015-03-31/functions/([^/]+)/invocations", self.path)
        assert found is not None
        action = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["action"]
        self.cloud.record({"action": action, "function": unquote(found[1])})
        self.cloud.keeps_alive.append(keeps_alive(self.client_address[1]))
        self.cloud.requested.set()
        self.cloud.answering.wait()
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
    """Return whether the connection from *port* has TCP keep-alive, according to /proc/net/tcp (see `man 5 proc`)."""
    table = Path("/proc/net/tcp")
    lines = table.read_text(encoding="ascii").splitlines()[1:] if table.exists() else []
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[5].startswith("02:") for line in lines)


def function(environment: str) -> str:
    """Return the name by which the migration function is invoked."""
    return f"{ACCOUNTS[environment]}:function:registration-{environment}-migrate"


def deployment(environment: str) -> list[str]:
    """Return the summary of all calls of a deployment, in order."""
    return [
        f"deploy registration-{environment}-database",
        f"bootstrap {function(environment)}",
        f"upgrade {function(environment)}",
        f"deploy registration-{environment}-application",
    ]


def copy_infra(folder: Path, dev: str) -> Path:
    """Copy the files that `deploy.py` needs into *folder*, with *dev* as the content of dev.toml."""
    infra = folder / "infra"
    shutil.copytree(INFRA / "registration_infra", infra / "registration_infra")
    shutil.copy(INFRA / "deploy.py", infra)
    (infra / "environments").mkdir()
    (infra / "environments" / "dev.toml").write_text(dev, encoding="utf-8")
    return infra
