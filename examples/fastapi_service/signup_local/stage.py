"""`Stage`: the servers of the service, the process of the service, and the faults that it asks for."""

import base64
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from registration_persistence import Database, DatabaseSettings, schema
from registration_persistence.sandbox import (
    LocalCluster,
    LocalSecretsManager,
    LocalServerError,
    embedded_binaries,
    rotate,
)

_LOGIN, _DATABASE = "registration_app", "registration"

# A request ends after 5 s, so each fault must be shorter.
_ROTATION_WINDOW_SECONDS = 1.0
_FAILOVER_SECONDS = 1.5
_FREEZE_SECONDS = 3.0

_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Stage:
    """The running servers and the process of the service.

    Args:
        url: The address of the service.
        cluster: The database.
        secrets_manager: The Secrets Manager with the password of the service.
        arn: ARN of the secret.
        process: The process of the service.
        control: The connection to the service, on which it asks for faults.
    """

    url: str
    cluster: LocalCluster
    secrets_manager: LocalSecretsManager
    arn: str
    process: "subprocess.Popen[bytes]"
    control: socket.socket

    def serve(self) -> int:
        """Cause the faults that the service asks for, one after the other, until it ends; return its exit code."""
        faults: dict[str, Callable[[], None]] = {
            "rotate": self.rotate,
            "fail_over": self.fail_over,
            "freeze": self.freeze,
        }
        with self.control.makefile("rw", encoding="utf-8") as lines:
            for line in lines:
                started = time.monotonic()
                faults[line.strip()]()
                lines.write(json.dumps({"seconds": round(time.monotonic() - started, 1)}) + "\n")
                lines.flush()
                self.cluster.add_standby()  # for the next failover, after which there is none
        return self.process.wait(_STOP_SECONDS)

    def rotate(self) -> None:
        """Rotate the secret; every session ends while the server wants the password that is still pending."""

        def in_window() -> None:
            self.cluster.terminate_sessions(_LOGIN)
            time.sleep(_ROTATION_WINDOW_SECONDS)

        rotate(self.cluster.primary.server, self.secrets_manager, self.arn, pause_in_window=in_window)

    def fail_over(self) -> None:
        """Kill the primary, and promote the standby."""
        self.cluster.fail_over(switch_after=_FAILOVER_SECONDS)

    def freeze(self) -> None:
        """Stop the process of the service, close its connections meanwhile, and let it continue.

        Lambda does the same between two invocations; a server or a network gives the connections up in a long freeze.
        """
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            self.cluster.endpoint.cut()
            time.sleep(_FREEZE_SECONDS)
        finally:
            os.kill(self.process.pid, signal.SIGCONT)


@contextmanager
def open_stage(listener: socket.socket) -> Iterator[Stage]:
    """Start the servers and the service, which accepts connections of *listener*; they end with the block."""
    with ExitStack() as stack:
        secrets_manager = stack.enter_context(LocalSecretsManager())
        cluster = stack.enter_context(LocalCluster(embedded_binaries()))
        password = secrets.token_urlsafe(24)
        _create_database(cluster, password)
        cluster.add_standby()
        arn = secrets_manager.create("registration/app", {"username": _LOGIN, "password": password})
        url = "http://{}:{}".format(*listener.getsockname())
        variables = _variables(cluster, arn, url) | secrets_manager.environment
        ours, theirs = socket.socketpair()
        with theirs:
            process = stack.enter_context(_service(variables, listener, theirs))
        stack.enter_context(ours)
        if not ours.recv(1):
            raise LocalServerError("the service has ended before it was ready; its messages are above")
        yield Stage(url, cluster, secrets_manager, arn, process, ours)


def _create_database(cluster: LocalCluster, password: str) -> None:
    server = cluster.primary.server
    server.create_login(_LOGIN, password)
    server.create_database(_DATABASE, owner=_LOGIN)
    database = Database(DatabaseSettings.from_env({**_address(cluster), **_password(password)}))
    try:
        schema.upgrade(database)
    finally:
        database.dispose()


def _address(cluster: LocalCluster) -> dict[str, str]:
    return {
        "APP_ENVIRONMENT": "local",
        "APP_DATABASE_HOST": cluster.server.host,
        "APP_DATABASE_PORT": str(cluster.server.port),
        "APP_DATABASE_NAME": _DATABASE,
        "APP_DATABASE_SSLMODE": "disable",  # the proxy of the endpoint does not support TLS
    }


def _password(password: str) -> dict[str, str]:
    return {"APP_DATABASE_USER": _LOGIN, "APP_DATABASE_PASSWORD": password}


def _variables(cluster: LocalCluster, arn: str, url: str) -> dict[str, str]:
    return {
        **os.environ,
        **_address(cluster),
        "APP_DATABASE_SECRET_ARN": arn,
        "APP_DATABASE_POOL": "service",
        "SIGNUP_SECRET": base64.b64encode(secrets.token_bytes(32)).decode(),
        "SIGNUP_URL": url,
    }


@contextmanager
def _service(
    variables: dict[str, str], listener: socket.socket, control: socket.socket
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the service in a process that gets no signal of the terminal, and ends with this one."""
    fds = (listener.fileno(), control.fileno())
    folder = Path(__file__).parents[1]
    command = [sys.executable, "-P", "-m", "signup_local.server", *map(str, fds)]
    path = os.pathsep.join(filter(None, [str(folder), variables.get("PYTHONPATH")]))
    with subprocess.Popen(  # noqa: S603 the arguments are those above
        command, env={**variables, "PYTHONPATH": path}, pass_fds=fds, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGCONT)
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
