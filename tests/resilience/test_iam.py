"""Tokens of IAM are refused under load: each is renewed for the request that it was refused for, and none fails."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import trustme
from iam_authority import WRITER, AccessKey, IamAuthority, iam_server
from sqlalchemy import text
from sqlalchemy.orm import Session

from registration_persistence import Database, DatabaseSettings, deadline
from registration_persistence.sandbox import wait_until

pytestmark = pytest.mark.tls

USER = "registration_iam"
THREADS, ROTATIONS = 4, 3
INSERT = text("INSERT INTO units VALUES (:key) ON CONFLICT DO NOTHING")


@pytest.fixture
def iam(monkeypatch: pytest.MonkeyPatch) -> IamAuthority:
    """A stand-in for IAM, whose first access key the process has."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    use(monkeypatch, AccessKey())
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **more: resolve(host.replace(WRITER, "127.0.0.1"), *rest, **more)
    )
    return IamAuthority()


def wait_for_logins(iam: IamAuthority) -> None:
    """Wait until each thread has logged in several times."""
    before = len(iam.logins)
    wait_until(lambda: len(iam.logins) >= before + 5 * THREADS, "each thread logs in", timeout=20)


def use(monkeypatch: pytest.MonkeyPatch, key: AccessKey) -> None:
    """Give this process the credentials of *key*."""
    for name, value in key.variables.items():
        monkeypatch.setenv(name, value)


def test_tokens_that_are_refused_under_load_fail_no_request(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, iam: IamAuthority
) -> None:
    """The role's credentials are withdrawn three times; each unit opens a connection, and all are kept, once."""
    ca, root, stop = trustme.CA(), tmp_path / "root.pem", Event()
    ca.cert_pem.write_to_path(root)
    with iam_server(iam, ca.issue_cert(WRITER), [USER]) as server:
        with server.connect() as connection:
            connection.execute("CREATE TABLE units (key text PRIMARY KEY)")
            connection.execute(f"GRANT SELECT, INSERT ON units TO {USER}")
        arguments: dict[str, Any] = {"port": server.port, "name": "postgres", "user": USER, "auth": "iam"}
        database = Database(DatabaseSettings(host=WRITER, pool="proxy", ssl_root_cert=str(root), **arguments))

        def load(thread: int) -> list[str]:
            kept: list[str] = []
            while not stop.is_set():
                key = f"{thread}-{len(kept)}"

                def work(session: Session, key: str = key) -> str:
                    session.execute(INSERT, {"key": key})
                    return key

                with deadline(10, reserve=0):
                    kept.append(database.run(work, idempotent=True))
            return kept

        with ThreadPoolExecutor(THREADS) as threads:
            running = [threads.submit(load, thread) for thread in range(THREADS)]
            try:
                for number in range(ROTATIONS):
                    wait_for_logins(iam)
                    new = AccessKey(f"ASIA{number}", f"secret/{number}", f"session+{number}")
                    iam.keys.append(new)
                    use(monkeypatch, new)
                    iam.keys = [new]
                wait_for_logins(iam)
            finally:
                stop.set()
            kept = [key for each in running for key in each.result()]

        with server.connect() as connection:
            rows = [key for (key,) in connection.execute("SELECT key FROM units")]
    assert sorted(kept) == sorted(rows)
    assert len(kept) > THREADS * ROTATIONS
    assert set(iam.refusals) == {"unknown key"}
    assert ROTATIONS <= len(iam.refusals) <= THREADS * ROTATIONS, "one refused login for each thread at most"
    assert len(set(iam.tokens)) == ROTATIONS + 1, "one token for each access key"
    assert (database.events.count("wait"), database.events.count("retry")) == (0, 0)
    assert database.events.count("connection_opened", "rotation") == len(iam.refusals)
