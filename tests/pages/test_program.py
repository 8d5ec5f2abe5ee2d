"""`python -m signup_local`, the program of `make service`: its port, its environment, and its end."""

import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from fastapi_service import FOLDER
from processes import command_lines, python_environment

from registration_persistence.sandbox import embedded_binaries, wait_until

COMMAND = [sys.executable, "-m", "signup_local"]


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the program until it ends by itself."""
    environment = {name: value for name, value in python_environment().items() if name != "APP_ENVIRONMENT"}
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=FOLDER,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_wrong_use() -> None:
    """A used port, a port that is none, and another environment: one clear line, and nothing was started."""
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = str(used.getsockname()[1])
        done = run("--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    problem = f"port {port} cannot be used: Address already in use; name another one with --port"
    assert done.stderr == f"signup_local: {problem}\n"
    done = run("--port", "http")
    assert done.returncode == 2
    assert done.stderr.endswith("argument --port: 'http' is not a port: expected a number from 0 to 65535\n")
    done = run(APP_ENVIRONMENT="prod")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "signup_local: APP_ENVIRONMENT is 'prod': this service starts only in 'local'; unset it\n"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.nightly),
    ],
)
def test_the_end(number: signal.Signals, code: int) -> None:
    """No variable of the shell leads elsewhere; Ctrl-C ends every server, and so does a kill of the program."""
    elsewhere = {"PGHOST": "192.0.2.1", "HTTP_PROXY": "http://192.0.2.1", "AWS_PROFILE": "missing"}
    variables = python_environment(**elsewhere)
    variables.pop("APP_ENVIRONMENT", None)
    before = servers()
    with subprocess.Popen(
        [*COMMAND, "--port", "0"], cwd=FOLDER, env=variables, stdout=subprocess.PIPE, text=True
    ) as program:
        try:
            assert program.stdout
            lines: list[str] = []
            while "Ctrl-C" not in "".join(lines[-1:]):
                lines.append(program.stdout.readline())
                assert lines[-1], "the program has ended"
            (url,) = re.findall(r"http://127\.0\.0\.1:\d+", "".join(lines))
            assert httpx.get(url).status_code == 200
            started = servers() - before
            assert len(started) == 2, "the primary and the standby"
            program.send_signal(number)
            assert program.wait(30) == code
        finally:
            program.kill()
    wait_until(lambda: not started & servers() and not answers(url), "every server has ended", timeout=20)


def servers() -> set[str]:
    """Return the command lines of the servers of PostgreSQL that run with the embedded programs."""
    return {line for line in command_lines().values() if line.startswith(f"{embedded_binaries()}/postgres -D")}


def answers(url: str) -> bool:
    """Return whether the service answers."""
    try:
        httpx.get(url)
    except httpx.TransportError:
        return False
    return True
