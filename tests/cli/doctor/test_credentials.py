"""`doctor`: the secret in the local Secrets Manager, a rotation, a wrong password and the token of IAM."""

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trustme
from examined_service import Examine, Service, unusual
from iam_authority import WRITER, AccessKey, IamAuthority, iam_server

from registration_persistence import Database, DatabaseSettings
from registration_persistence.cli.doctor.credentials import rotation_check, rotation_state
from registration_persistence.cli.doctor.facts import Facts

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
STAGES = {"current": ["AWSCURRENT", "AWSPENDING"], "previous": ["AWSPREVIOUS"]}


def test_a_secret_that_cannot_be_read(service: Service, examine: Examine) -> None:
    """No access, an outage, a missing and a malformed secret fail with the fix, and no login is tried."""
    no_access = examine(service.environ | {"AWS_ACCESS_KEY_ID": "another"})
    with service.secrets_manager.outage("down"):
        outage = examine(service.environ)
    missing = examine(service.environ | {"APP_DATABASE_SECRET_ARN": f"{service.arn[:-6]}abcdef".replace("app", "none")})
    malformed_arn = service.secrets_manager.create("doctor/malformed", {"username": "registration_app"})
    malformed = examine(service.environ | {"APP_DATABASE_SECRET_ARN": malformed_arn})

    for checks in (no_access, outage, missing, malformed):
        assert ("failed", "skipped", "skipped") == tuple(checks[name].state for name in ("secret", "rotation", "login"))
        assert checks["login"].detail == "the check 'secret' did not succeed"
    assert "secretsmanager:GetSecretValue" in no_access["secret"].fix
    assert "reach Secrets Manager" in outage["secret"].fix
    assert "has no key 'password'" in malformed["secret"].detail


def test_a_slow_secrets_manager_is_given_up(service: Service, examine: Examine) -> None:
    """The whole examination ends at its time limit."""
    started = time.monotonic()
    with service.secrets_manager.outage("slow", delay=20):
        checks = examine(service.environ, seconds=2.0)

    assert time.monotonic() - started < 4.5
    assert checks["secret"].state == "failed"


def test_a_login_in_the_middle_of_a_rotation(service: Service, examine: Examine) -> None:
    """The login succeeds with AWSPENDING, and the rotation is a warning with the id of the version."""
    password = secrets.token_urlsafe(16)
    arn = service.secrets_manager.create(
        f"doctor/{secrets.token_hex(4)}", {"username": "doctor_rotated", "password": "the-previous-password"}
    )
    service.server.create_login("doctor_rotated", password)
    service.execute("GRANT CONNECT ON DATABASE {database} TO doctor_rotated")
    version = service.secrets_manager.put_pending(arn, {"username": "doctor_rotated", "password": password})
    try:
        pending = examine(service.environ | {"APP_DATABASE_SECRET_ARN": arn})
        service.secrets_manager.finish_rotation(arn, version)
        finished = examine(service.environ | {"APP_DATABASE_SECRET_ARN": arn})
    finally:
        service.execute("DROP OWNED BY doctor_rotated", "DROP ROLE doctor_rotated")

    assert (pending["secret"].state, pending["login"].state) == ("ok", "ok")
    assert pending["rotation"].state == "warning"
    assert f"a version is AWSPENDING ({version})" in pending["rotation"].detail
    assert "section 4" in pending["rotation"].fix
    assert finished["rotation"].detail == "off; the password is 0 days old"


def test_a_wrong_password_is_refused(service: Service, examine: Examine) -> None:
    """The user is named, the password is not."""
    arn = service.secrets_manager.create(
        f"doctor/{secrets.token_hex(4)}", {"username": service.login.username, "password": "a-wrong-password"}
    )
    checks = examine(service.environ | {"APP_DATABASE_SECRET_ARN": arn, "APP_DATABASE_CONNECT_TIMEOUT": "2"})

    assert ("ok", "failed") == (checks["secret"].state, checks["login"].state)
    assert f"refused the login of '{service.login.username}' (AWSCURRENT" in checks["login"].detail
    assert "a-wrong-password" not in str(checks)


@pytest.mark.parametrize(
    ("changes", "state", "detail"),
    [
        ({}, "ok", "on; the password is 9 days old; next on 2026-12-20"),
        ({"NextRotationDate": None}, "ok", "on; the password is 9 days old; next at an unknown time"),
        ({"RotationEnabled": False}, "warning", "off; the password is 9 days old"),
        ({"NextRotationDate": NOW - timedelta(hours=5)}, "ok", "on; the password is 9 days old; next on 2026-11-29"),
        (
            {"NextRotationDate": NOW - timedelta(days=2)},
            "failed",
            "due since 2026-11-27, and not done; the password is 9 days old",
        ),
        (
            {"VersionIdsToStages": {**STAGES, "new": ["AWSPENDING"]}},
            "warning",
            "a version is AWSPENDING (new): a rotation is under way, or stuck; the password is 9 days old",
        ),
        ({"DeletedDate": NOW - timedelta(days=1)}, "failed", "the secret is scheduled for deletion since 2026-11-28"),
    ],
)
def test_the_rotation_state_is_judged(changes: dict[str, Any], state: str, detail: str) -> None:
    """A rotation that is off, due, under way or stuck, and a deletion, are told apart."""
    description = {
        "RotationEnabled": True,
        "LastRotatedDate": NOW - timedelta(days=9),
        "NextRotationDate": NOW + timedelta(days=21),
        "VersionIdsToStages": STAGES,
    }
    check = rotation_state(description | changes, NOW)

    assert (state, detail) == (check.state, check.detail)


@contextmanager
def refusing_secrets_manager() -> Iterator[str]:
    """Run a server that refuses every call as AWS does without a permission, and yield its address."""

    class Refusal(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps({"__type": "AccessDeniedException", "Message": "not authorized"}).encode()
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Refusal) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_service_need_not_describe_its_secret(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the permission for DescribeSecret the check is skipped, because the service does not need it."""
    for name, value in service.environ.items():
        monkeypatch.setenv(name, value)
    database = Database(DatabaseSettings.from_env())
    with refusing_secrets_manager() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", address)
        check = rotation_check(Facts(database))

    assert check.state == "skipped"
    assert "secretsmanager:DescribeSecret" in check.detail


@pytest.mark.tls
def test_a_token_of_iam(examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is described without its signature; an unknown key and a missing one fail."""
    resolve, authority, ca = socket.getaddrinfo, IamAuthority(), trustme.CA()
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **named: resolve("127.0.0.1" if host == WRITER else host, *rest, **named),
    )
    ca.cert_pem.write_to_path(tmp_path / "ours.pem")
    with iam_server(authority, ca.issue_cert(WRITER), ["registration_iam"]):
        environ = {
            "APP_DATABASE_HOST": WRITER,
            "APP_DATABASE_PORT": str(authority.port),
            "APP_DATABASE_NAME": "postgres",
            "APP_DATABASE_AUTH": "iam",
            "APP_DATABASE_USER": "registration_iam",
            "APP_DATABASE_SSL_ROOT_CERT": str(tmp_path / "ours.pem"),
            "APP_DATABASE_CONNECT_TIMEOUT": "2",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        accepted = examine(environ | AccessKey().variables)
        refused = examine(environ | AccessKey("AKIDANOTHER").variables)
        without_key = examine(environ)

    assert ("ok", "ok") == (accepted["IAM token"].state, accepted["login"].state)
    assert "for eu-west-1, signed at" in accepted["IAM token"].detail
    assert "the key ...MPLE from env; each token is valid for 15 minutes" in accepted["IAM token"].detail
    assert "cluster endpoint" in accepted["host name"].detail
    assert ("ok", "failed") == (refused["IAM token"].state, refused["login"].state)
    assert ("failed", "skipped") == (without_key["IAM token"].state, without_key["login"].state)
    for checks in (accepted, refused, without_key):
        assert not any(token in str(checks) for token in (AccessKey().secret, "X-Amz-Signature"))
    assert "rotation" not in unusual(accepted)
