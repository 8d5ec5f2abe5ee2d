"""`LambdaExtension`: reads a database secret from AWS's Parameters and Secrets Lambda Extension, without an AWS SDK."""

import json
import logging
import os
import re
import socket
import time
from contextlib import closing
from typing import Any
from urllib.parse import quote

from registration_persistence.clock import monotonic
from registration_persistence.database.credentials.secret_value import Secret, parse_secret
from registration_persistence.database.deadlines import remaining

# The limit of all attempts together: in seconds, and of the time that is left, so that Secrets Manager can be asked.
_MAX_SECONDS, _MAX_SHARE_OF_DEADLINE = 2.0, 0.4

# The time in which an extension that is starting is asked again, and the pause between two attempts.
_MAX_START_SECONDS, _START_PAUSE_SECONDS = 0.3, 0.02

# A secret has up to 65,536 bytes, and JSON within JSON may escape each of them.
_MAX_RESPONSE_BYTES = 512 * 1024

_OK, _BAD_REQUEST, _UNAUTHORISED, _FORBIDDEN = 200, 400, 401, 403

_PORT_VARIABLE, _DEFAULT_PORT, _MAX_PORT = "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", 2773, 65535
_TOKEN_VARIABLE = "AWS_SESSION_TOKEN"  # noqa: S105 the name of a variable

# Header values that `http.client` sends as they are.
_TOKEN = re.compile(r"[!-~]{1,16384}")

_VERSION_ID = re.compile(r"[A-Za-z0-9-]{1,64}")

_STARTING = "is not ready after {seconds:.1f} s: wait for it by calling warm_up() in the handler"
_MISSING = (
    "does not run on port {port}: add its layer to the function, or set " + _PORT_VARIABLE + " if it has another port"
)

_logger = logging.getLogger("registration_persistence.database")


class LambdaExtension:
    """The AWS Parameters and Secrets Lambda Extension, as the source of the first value of one secret.

    It listens on this machine and keeps a value for up to 5 minutes, so the value may be older than AWSCURRENT.

    Args:
        arn: The ARN of the secret.
    """

    def __init__(self, arn: str) -> None:
        self._arn = arn
        # Whether the next failure is logged, and whether the extension may be starting.
        self._warns, self._may_start = True, True

    def read(self, *, timeout: float) -> Secret | None:
        """Return the secret; `None` if the extension did not give it, which is logged once.

        No error is raised, because the traceback would show the token or the secret.

        Args:
            timeout: Limit in seconds, in addition to 2 s and 40 % of the time until the deadline.
        """
        seconds = max(min(_MAX_SECONDS, timeout, remaining() * _MAX_SHARE_OF_DEADLINE), 0.0)
        outcome = self._outcome(monotonic() + seconds, seconds)
        self._may_start = False
        if isinstance(outcome, Secret):
            self._warns = True
            return outcome
        if self._warns:
            self._warns = False
            _logger.warning(
                "the AWS Parameters and Secrets Lambda Extension %s; or unset APP_DATABASE_SECRET_SOURCE. "
                "The secret %s is read from Secrets Manager, which makes a cold start slower",
                outcome,
                self._arn,
            )
        return None

    def _outcome(self, end: float, seconds: float) -> Secret | str:
        """Return the secret, or the state of the extension and the fix."""
        token, port = os.environ.get(_TOKEN_VARIABLE, ""), _port()
        if not _TOKEN.fullmatch(token):
            return f"cannot be asked without {_TOKEN_VARIABLE}, which Lambda sets, but not with SnapStart"
        if port is None:
            return f"cannot be asked, because {_PORT_VARIABLE} is not a port: set it to a number from 1 to {_MAX_PORT}"
        started, problem = monotonic(), ""
        while not problem or (self._may_start and monotonic() < min(started + _MAX_START_SECONDS, end)):
            if problem:
                time.sleep(_START_PAUSE_SECONDS)
            answer = _answer_of(f"/secretsmanager/get?secretId={quote(self._arn, safe='')}", port, token, end)
            match answer:
                case ConnectionRefusedError():
                    problem = _MISSING.format(port=port)
                case (status, body) if status == _BAD_REQUEST and b"not ready" in body.lower():
                    problem = _STARTING.format(seconds=monotonic() - started)
                case _:
                    return self._meaning_of(answer, seconds)
        return problem

    def _meaning_of(self, answer: "tuple[int, bytes] | Exception", seconds: float) -> Secret | str:
        """Return the secret in *answer*, or the state of the extension and the fix."""
        if isinstance(answer, TimeoutError):
            return f"did not answer in {seconds:.1f} s: check that the function reaches Secrets Manager"
        if isinstance(answer, Exception):
            return f"gave an answer that is not HTTP ({type(answer).__name__}): check which program has its port"
        status, body = answer
        if status in {_UNAUTHORISED, _FORBIDDEN}:
            return f"rejected {_TOKEN_VARIABLE} (status {status}): leave that variable as Lambda has set it"
        if status != _OK:
            return (
                f"answered with the status {status}: check the ARN, allow secretsmanager:GetSecretValue and "
                "kms:Decrypt, and read its log"
            )
        return _secret_in(body, self._arn) or (
            "gave an answer that is not this secret with a user name and a password: check the secret, and which "
            "program has its port"
        )


class _LimitedSocket(socket.socket):
    """A socket whose every wait ends at `end`, on the clock of `monotonic`."""

    end: float

    def recv_into(self, *arguments: Any) -> int:
        """Receive bytes, as `socket.recv_into` does."""
        self.limit()
        return super().recv_into(*arguments)

    def limit(self) -> None:
        """Let the next wait end in time."""
        left = self.end - monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)


def _answer_of(path: str, port: int, token: str, end: float) -> "tuple[int, bytes] | Exception":
    """Return status and body, or the error of the request; without a proxy, and without following a redirection."""
    from http.client import HTTPConnection, HTTPException

    try:
        connection = HTTPConnection("localhost", port)
        with closing(connection), _LimitedSocket(socket.AF_INET, socket.SOCK_STREAM) as to_extension:
            to_extension.end = end
            to_extension.limit()
            to_extension.connect(("127.0.0.1", port))
            connection.sock = to_extension
            connection.request("GET", path, headers={"X-Aws-Parameters-Secrets-Token": token})
            response = connection.getresponse()
            return response.status, response.read(_MAX_RESPONSE_BYTES + 1)
    except (OSError, HTTPException, ValueError) as error:
        return error.with_traceback(None)  # its frames hold the token


def _secret_in(body: bytes, arn: str) -> Secret | None:
    """Return the secret in the *body* of an answer; `None` if it is another secret, or has no user and password."""
    if len(body) > _MAX_RESPONSE_BYTES:
        return None
    try:
        response = json.loads(body.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(response, dict) or not _is_current_version(response, arn):
        return None
    outcome = parse_secret(response, arn, "AWSCURRENT")
    return outcome if isinstance(outcome, Secret) else None


def _is_current_version(response: dict[str, Any], arn: str) -> bool:
    """Return whether *response* is the version AWSCURRENT of the secret with this ARN, with an id for our messages."""
    answered, version, stages = (response.get(key) for key in ("ARN", "VersionId", "VersionStages"))
    return (
        isinstance(answered, str)
        # The six random characters may be missing in the ARN of the settings.
        and re.fullmatch(rf"{re.escape(arn)}(?:-[A-Za-z0-9]{{6}})?", answered) is not None
        and isinstance(version, str)
        and _VERSION_ID.fullmatch(version) is not None
        and isinstance(stages, list)
        and "AWSCURRENT" in stages
        and isinstance(response.get("SecretString"), str)
    )


def _port() -> int | None:
    """Return the port of the extension; `None` if the variable is not a port."""
    text = os.environ.get(_PORT_VARIABLE) or str(_DEFAULT_PORT)
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_PORT))):
        return None
    return int(text) if 1 <= int(text) <= _MAX_PORT else None
