"""The real `aws` for the runbooks, as one process that forks for each command, which saves half a second of start-up.

If the simulated AWS lacks an operation, `aws` checks the command (`--generate-cli-skeleton output` checks all arguments
and sends nothing), and the answer comes from a file; `aws` checks the form of the answer too. Every command is logged
with its exit code.
"""

import json
import os
import signal
import socket
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

WARM = (
    "rds describe-db-clusters",
    "secretsmanager list-secrets",
    "lambda list-functions",
    "ssm describe-parameters",
    "cloudwatch list-metrics",
)
CLIENT = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({path!r})
    socket.send_fds(connection, [json.dumps([sys.argv[1:], os.getcwd()]).encode() + b"\\0"], [0, 1, 2])
    sys.exit(int(connection.recv(16) or 70))
"""


def serve(path: str, log: str, answers: str) -> None:
    """Listen on the socket *path*; never returns."""
    # Imported here, because it replaces the installed botocore with its own.
    from awscli.clidriver import create_clidriver

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    driver, unused = create_clidriver(), create_clidriver()
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        for command in WARM:  # loads the models of the services for all later commands
            driver.main(command.split())
    for service in ("rds", "rds-data", "backup", "cloudformation"):
        for each in (driver, unused):
            each.session.get_service_model(service)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)  # the parent process waits for this line
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(connection, driver, unused, log, json.loads(Path(answers).read_text(encoding="utf-8")))
            connection.close()


def _answer(connection: socket.socket, driver: Any, unused: Any, log: str, answers: dict[str, dict[str, Any]]) -> None:
    code = 70
    try:
        message, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        while not message.endswith(b"\0"):
            message += connection.recv(1 << 20)
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        arguments, folder = json.loads(message[:-1])
        os.chdir(folder)
        answer = answers.get(" ".join(arguments[:2]), answers.get("*"))
        # The check needs a driver that has not run a command.
        code = int(driver.main(arguments)) if answer is None else _check(unused, arguments, answer)
        with Path(log).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps([code, arguments]) + "\n")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # The reader of the output must not wait for this process.
        connection.sendall(str(code).encode())
        os._exit(0)


def _check(driver: Any, arguments: list[str], answer: dict[str, Any]) -> int:
    from awscli.customizations import generatecliskeleton

    class Answer:
        """Replaces the generator of sample answers; `aws` checks and prints the answer as usual."""

        def __init__(self, **_: object) -> None:
            pass

        def generate_skeleton(self, _: object) -> dict[str, Any]:
            return answer

    generatecliskeleton.ArgumentGenerator = Answer
    return int(driver.main([*arguments, "--generate-cli-skeleton", "output"]))


if __name__ == "__main__":
    serve(*sys.argv[1:])
