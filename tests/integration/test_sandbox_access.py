"""Who can read what the sandbox holds: requests to its Secrets Manager, and its files."""

import json
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from registration_persistence.sandbox import (
    LambdaProcess,
    LocalPostgres,
    LocalSecretsManager,
    embedded_binaries,
    temporary_folder,
)

AGENT = "registration-persistence-local"


def authorization(key: str, service: str = "secretsmanager") -> str:
    """Return the header with which an AWS SDK sends an access key."""
    return (
        f"AWS4-HMAC-SHA256 Credential={key}/20260101/eu-west-1/{service}/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=0"
    )


class Attacker:
    """A client on this machine that knows the port and the ARN, and perhaps the key."""

    def __init__(self, secrets_manager: LocalSecretsManager) -> None:
        self.key = secrets_manager.environment["AWS_ACCESS_KEY_ID"]
        address = secrets_manager.environment["AWS_ENDPOINT_URL_SECRETS_MANAGER"].removeprefix("http://")
        self.host, _, port = address.partition(":")
        self.port = int(port)
        self.arn = secrets_manager.create(f"app/{uuid4()}", {"password": "hunter2"})

    def send(
        self, method: str = "POST", path: str = "/", headers: Mapping[str, str] | None = None
    ) -> tuple[int, str, dict[str, str]]:
        """Ask for the secret, and return the status, the body and the headers of the answer."""
        connection = HTTPConnection(self.host, self.port, timeout=10)
        sent = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "secretsmanager.GetSecretValue",
            **(headers or {}),
        }
        connection.request(method, path, json.dumps({"SecretId": self.arn}), sent)
        response = connection.getresponse()
        answer = (
            response.status,
            response.read().decode(),
            {name.lower(): text for name, text in response.headers.items()},
        )
        connection.close()
        return answer

    def assert_refused(self, method: str = "POST", path: str = "/", **headers: str) -> None:
        """Send a request with *headers*; the answer is 403 without the secret, and no web page may read it."""
        status, body, answered = self.send(
            method, path, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        assert (status, "hunter2" in body) == (403, False), (method, path, headers, body)
        assert not [name for name in answered if name.startswith("access-control-")]


@pytest.fixture(scope="module")
def secrets_manager() -> Iterator[LocalSecretsManager]:
    """A Secrets Manager of this module, whose calls no other test counts."""
    with LocalSecretsManager() as opened:
        yield opened


@pytest.fixture(scope="module")
def attacker(secrets_manager: LocalSecretsManager) -> Attacker:
    """A client that attacks it."""
    return Attacker(secrets_manager)


def test_a_request_needs_the_access_key(attacker: Attacker, secrets_manager: LocalSecretsManager) -> None:
    """Without the random key, or with another or a similar one, the answer is 403, and the call does not count."""
    secrets_manager.forget_calls()
    attacker.assert_refused()
    attacker.assert_refused(User_Agent=AGENT)
    for key in ("local", "", attacker.key[:-1], f"{attacker.key}0", attacker.key.lower(), "\xe9"):
        attacker.assert_refused(Authorization=authorization(key))
    for header in (attacker.key, f"Bearer {attacker.key}", f"Credential={attacker.key}", "AWS4-HMAC-SHA256", "\xff"):
        attacker.assert_refused(Authorization=header)
    attacker.assert_refused("POST", f"/?X-Amz-Credential={attacker.key}/20260101/eu-west-1/secretsmanager/aws4_request")

    assert secrets_manager.calls.total() == 0
    status, body, headers = attacker.send(headers={"Authorization": authorization(attacker.key)})
    assert (status, "hunter2" in body) == (200, True)
    assert not [name for name in headers if name.startswith("access-control-")]


def test_a_web_page_cannot_read_a_secret(attacker: Attacker) -> None:
    """A request with an origin, a preflight, and a request to a rebound host name are refused even with the key."""
    key = {"Authorization": authorization(attacker.key)}
    for origin in ("https://example.com", "null", f"http://127.0.0.1:{attacker.port}"):
        attacker.assert_refused(Origin=origin, **key)
        attacker.assert_refused("OPTIONS", "/", Origin=origin, Access_Control_Request_Method="POST", **key)
    for host in ("example.com", f"example.com:{attacker.port}", "127.0.0.1", f"localhost:{attacker.port}", ""):
        attacker.assert_refused(Host=host, **key)
    attacker.assert_refused("POST", "http://example.com/", **key)


def test_the_other_pages_and_services_of_moto_are_closed(attacker: Attacker) -> None:
    """Its pages list and reset all data, and its other services accept any key; they answer 403, also with the key."""
    for path in ("/moto-api/", "/moto-api/data.json", "/moto-api/reset", "/moto-api/config", "/", "/bucket", "/?a=b"):
        for method in ("GET", "POST", "PUT", "DELETE", "HEAD"):
            if (method, path) != ("POST", "/"):
                attacker.assert_refused(method, path)
                attacker.assert_refused(method, path, Authorization=authorization(attacker.key))
    attacker.assert_refused(Authorization=authorization(attacker.key, "iam"))
    attacker.assert_refused(X_Amz_Target="AmazonSSM.GetParameter", Authorization=authorization(attacker.key))
    assert attacker.send(headers={"Authorization": authorization(attacker.key)})[0] == 200


def test_the_key_is_random_and_a_wrong_one_is_a_clear_error(secrets_manager: LocalSecretsManager) -> None:
    """Two sandboxes have different keys of 128 bits, and with another key, an AWS SDK reports the problem."""
    from boto3.session import Session

    with LocalSecretsManager() as other:
        ours, theirs = secrets_manager.environment, other.environment
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert ours[name] != theirs[name]
    assert re.fullmatch(r"LOCAL[0-9A-F]{32}", ours["AWS_ACCESS_KEY_ID"])
    client = Session(theirs["AWS_ACCESS_KEY_ID"], "x", region_name="eu-west-1").client(
        "secretsmanager", endpoint_url=ours["AWS_ENDPOINT_URL_SECRETS_MANAGER"]
    )
    with pytest.raises(ClientError, match="the access key is not accepted"):
        client.list_secrets()


TOKEN = f"token-{uuid4()}"
NOBODY = 65534
HANDLER = """
import os
import sys

def handler(event, context):
    return [dict(os.environ), sys.path]
"""


def processes_with(text: str) -> list[str]:
    """Return the command lines of the processes that were started with *text* in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue  # it has ended
    return found


def readable_by_others(folder: Path) -> list[Path]:
    """Return the files under *folder* that another user can read or write, without the programs."""
    files = (path for path in folder.rglob("*") if "programs" not in path.relative_to(folder).parts)
    return [path for path in files if stat.S_IMODE(path.lstat().st_mode) & 0o077]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, str] | None]:
    """The environment of each process that this one starts; `None` if it inherits that of this process."""
    environments: list[Mapping[str, str] | None] = []
    start = subprocess.Popen.__init__

    def spy(process: Any, *arguments: Any, **options: Any) -> None:
        environments.append(options.get("env"))
        start(process, *arguments, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", spy)
    for name in ("AWS_SESSION_TOKEN", "GITHUB_TOKEN", "PGPASSWORD", "LANGUAGE"):
        monkeypatch.setenv(name, TOKEN)
    return environments


def test_a_server_gets_no_secret_and_its_files_are_closed(started: list[Mapping[str, str] | None]) -> None:
    """PostgreSQL, its tools and the watchdog get a minimal environment; no other user reads or replaces a file."""
    before = os.umask(0)
    try:
        with LocalPostgres(embedded_binaries()) as primary, LocalPostgres(embedded_binaries(), standby_of=primary):
            assert processes_with(TOKEN) == []
            assert primary._directory is not None
            folder = primary._directory._folder
            assert (stat.S_IMODE(folder.stat().st_mode), folder.stat().st_uid) in [(0o700, os.geteuid()), (0o711, 0)]
            assert readable_by_others(folder) == []
            assert not (folder / "password").exists()
            assert "trust" not in (folder / "data/pg_hba.conf").read_text()
            with primary.server.connect() as connection:
                assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
                assert connection.execute("SHOW unix_socket_directories").fetchone() == ("",)
    finally:
        os.umask(before)

    assert started
    for environment in started:
        assert environment is not None
        assert TOKEN not in environment.values()
        assert environment.keys() <= {"PATH", "LC_ALL", "TZ", "PGPASSWORD"}


def test_a_handler_gets_no_secret_and_no_module_of_the_current_folder(
    started: list[Mapping[str, str] | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets only the variables that it is given and those of programs; the current folder is not searched."""
    (tmp_path / "planted").mkdir()
    monkeypatch.chdir(tmp_path / "planted")
    for name in ("psycopg", "multiprocessing", "json"):
        Path(f"{name}.py").write_text("raise SystemExit('planted')")
    (tmp_path / "service.py").write_text(HANDLER)
    with LambdaProcess(f"{tmp_path / 'service.py'}:handler", environment={"APP_DATABASE_NAME": "app"}) as process:
        environment, path = process.invoke()

    assert started
    assert environment["APP_DATABASE_NAME"] == "app"
    assert TOKEN not in environment.values()
    assert not {"", str(Path.cwd())} & {*path}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_not_removed(tmp_path: Path) -> None:
    """A folder or a link that another user has put where the sandbox removes abandoned folders is left alone."""
    victim, planted = tmp_path / "victim", tmp_path / "registration-postgres-planted"
    for folder in (victim, planted):
        folder.mkdir()
        (folder / "lock").touch()
    os.chown(planted, NOBODY, NOBODY)
    (tmp_path / "registration-postgres-link").symlink_to(victim)

    started_at = time.monotonic()
    temporary_folder._remove_abandoned(tmp_path)

    assert (victim / "lock").exists()
    assert (planted / "lock").exists()
    assert time.monotonic() - started_at < 5
