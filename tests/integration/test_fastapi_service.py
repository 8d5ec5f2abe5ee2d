"""The FastAPI service in `examples/`, in a process of its own, with a real client."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi_service import FOLDER, FastApiService, running_service, sign_up
from processes import python_environment
from support import Change, Rows, variables_of

from registration_persistence import Database, DatabaseSettings, schema
from registration_persistence.sandbox import PostgresServer, TcpProxy, wait_until
from registration_persistence.testing.template import copy_template

# The first revision of the schema.
OLDER = "2dcca3bc26eb"


@pytest.fixture(scope="module")
def settings(postgres_server: PostgresServer, migrated_template: DatabaseSettings) -> Iterator[DatabaseSettings]:
    """The settings of the service's database."""
    name = copy_template(postgres_server)
    yield replace(migrated_template, name=name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="module")
def proxy(settings: DatabaseSettings) -> Iterator[TcpProxy]:
    """The way of the service to its database."""
    with TcpProxy(settings.host, settings.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def service(settings: DatabaseSettings, proxy: TcpProxy) -> Iterator[FastApiService]:
    """The service, with two connections for its requests; it ends without an error."""
    variables = variables_of(settings) | {
        "APP_DATABASE_HOST": "127.0.0.1",
        "APP_DATABASE_PORT": str(proxy.port),
        "APP_DATABASE_SSLMODE": "disable",
        "APP_DATABASE_POOL_SIZE": "2",
    }
    with running_service(variables) as service:
        yield service


@pytest.fixture(scope="module")
def database(settings: DatabaseSettings) -> Iterator[Database]:
    """The service's database, for `rows` and `change`."""
    database = Database(settings)
    yield database
    database.dispose()


@pytest.fixture
def client(service: FastApiService) -> Iterator[httpx.Client]:
    """A client of the service."""
    with httpx.Client(base_url=service.url(), timeout=20) as client:
        yield client


Terminate = Callable[[], None]


@pytest.fixture
def terminate_sessions(postgres_server: PostgresServer, settings: DatabaseSettings) -> Terminate:
    """End every session on the database."""

    def terminate() -> None:
        with postgres_server.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
                [settings.name],
            )

    return terminate


def problem_of(response: httpx.Response) -> dict[str, Any]:
    """Return the problem document of *response*."""
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == response.status_code
    return problem


def count(rows: Rows, domain: str) -> int:
    """Return the number of registrations with an address in *domain*."""
    number: int = rows(f"SELECT count(*) AS n FROM registrations WHERE email LIKE '%@{domain}'")[0]["n"]
    return number


def test_the_commands_of_the_readme(service: FastApiService, rows: Rows) -> None:
    """A newcomer who types them signs up, verifies the mailbox and activates the registration."""
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    commands = iter(block.replace("http://127.0.0.1:8000", service.url()) for block in blocks if "curl" in block)

    def typed(**variables: str) -> str:
        shell = ["sh", "-ec", next(commands)]
        return subprocess.run(shell, env={**os.environ, **variables}, capture_output=True, text=True, check=True).stdout

    assert "202 Accepted" in typed()
    token = service.token_for("ada@example.com")
    verified = typed(TOKEN=token)
    assert "200 OK" in verified
    identity = re.findall(r'"id":"([^"]+)"', verified)[0]
    assert typed(ID=identity).count("200 OK") == 2
    assert [{"status": "active"}] == rows(f"SELECT status FROM registrations WHERE id = '{identity}'")
    assert next(commands, None) is None


def test_the_life_of_a_registration(
    client: httpx.Client, service: FastApiService, rows: Rows, change: Change, terminate_sessions: Terminate
) -> None:
    """Each step succeeds although all sessions were terminated before it; a known mailbox gets the same response."""
    eve = "eve@life.example"
    terminate_sessions()
    first = sign_up(client, eve, "1")
    terminate_sessions()
    again = sign_up(client, eve, "1")
    assert [(202, first.content)] * 2 == [(made.status_code, made.content) for made in (first, again)]
    token = service.token_for(eve)

    terminate_sessions()
    verified = client.post("/verifications", json={"token": token})
    assert verified.json()["status"] == "verified"
    known = sign_up(client, eve, "2")
    assert (known.status_code, known.content) == (202, first.content)
    assert known.headers.keys() == first.headers.keys()
    assert service.token_for(eve, number=2) != token
    repeated = client.post("/verifications", json={"token": token})
    assert repeated.json() == {"status": "verified before: please sign in"}

    terminate_sessions()
    path = f"/registrations/{verified.json()['id']}"
    assert client.post(f"{path}/activation").json() == {"id": verified.json()["id"], "status": "active"}
    assert problem_of(client.post(f"{path}/activation"))["status"] == 409
    assert problem_of(client.post(f"{path}/mails"))["detail"] == "this registration is active"

    (pending,) = rows(f"SELECT id FROM registrations WHERE email = '{eve}' AND status = 'pending'")
    path = f"/registrations/{pending['id']}/mails"
    early = client.post(path)
    assert (problem_of(early)["status"], early.headers["retry-after"][-3:]) == (429, "GMT")
    change("UPDATE registrations SET token_issued_at = now() - interval '1 minute'")
    assert client.post(path).status_code == 202


def test_the_data_of_a_person(client: httpx.Client, service: FastApiService, rows: Rows) -> None:
    """Only the verification signs a person in; each change names a version; nothing works after the erasure."""
    amy = "amy@me.example"
    assert problem_of(client.get("/me"))["status"] == 401
    assert "session" not in sign_up(client, amy, "1").headers["set-cookie"]
    # The cookie of the sign-up shows nothing.
    client.cookies.set("session", client.cookies["sign_up"], domain="127.0.0.1")
    assert problem_of(client.get("/me"))["status"] == 401
    client.cookies.delete("session")
    token = {"token": service.token_for(amy)}
    assert (
        problem_of(client.post("/verifications", json=token, headers={"Origin": "https://x.example"}))["status"] == 403
    )
    assert "HttpOnly" in client.post("/verifications", json=token).headers["set-cookie"]
    with httpx.Client(base_url=service.url()) as other:
        assert other.post("/verifications", json=token).status_code == 200
        assert not other.cookies

    person = client.get("/me").json()
    assert (person["email"], person["newsletter"], person["status"]) == (amy, True, "verified")
    change = {"display_name": "Amy", "version": person["version"]}
    assert client.patch("/me", json=change).json()["version"] == person["version"] + 1
    assert problem_of(client.patch("/me", json=change))["status"] == 409
    assert client.put("/me/newsletter", json={"granted": False}).json()["newsletter"] is False
    export = client.get("/me/export")
    assert export.headers["content-disposition"] == 'attachment; filename="my-data.json"'
    assert export.json()["registration"]["email"] == amy
    assert client.post("/me/cancellation").json()["status"] == "cancelled"

    cookies = dict(client.cookies)
    for path in ("/me", "/session"):
        forged = client.delete(path, headers={"Origin": "http://127.0.0.1:1"})
        assert problem_of(forged)["detail"] == "the request comes from another site"
    assert client.delete("/me").status_code == 204
    assert not client.cookies
    client.cookies.update(cookies)
    (erased,) = rows(f"SELECT version FROM registrations WHERE id = '{person['id']}'")
    refused = [
        client.get("/me"),
        client.get("/me/export"),
        client.patch("/me", json=change | erased),
        client.put("/me/newsletter", json={"granted": True}),
        client.post("/me/cancellation"),
    ]
    assert [problem_of(response)["status"] for response in refused] == [401] * len(refused)
    assert count(rows, "me.example") == 0


def test_errors(client: httpx.Client, change: Change) -> None:
    """Each is a problem document: invalid, unknown, in conflict, unknown routes, internal; none quotes the input."""
    kim, json_type = "kim@errors.example", {"Content-Type": "application/json"}
    assert sign_up(client, kim, "1").status_code == 202
    expected = [
        (409, sign_up(client, kim, "1", display_name="hunter2")),
        (422, sign_up(client, "hunter2@nowhere", "2")),
        (422, sign_up(client, kim, "2", display_name="hunter2\0")),
        (422, sign_up(client, kim, "2", newsletter="hunter2")),
        (422, sign_up(client, kim, "2", hunter2="hunter2")),
        (422, sign_up(client, kim, "x" * 255)),
        (422, client.post("/registrations", content=b"hunter2", headers={"Idempotency-Key": "2"})),
        (422, client.post("/registrations", json={"email": "hunter2"})),
        (422, client.post("/verifications", content=b'{"token": "x", "\\ud800": 1}', headers=json_type)),
        (422, client.post("/verifications", content=b'{"token": "\\ud800"}', headers=json_type)),
        (400, client.post("/verifications", content="[" * 9_000, headers=json_type)),
        (413, client.post("/verifications", content=b" " * 20_000, headers=json_type)),
        (413, client.post("/verifications", content=iter([b" " * 9_000] * 200), headers=json_type)),
        (410, client.post("/verifications", json={"token": "x" * 43})),
        (422, client.post("/registrations/hunter2/activation")),
        (404, client.post(f"/registrations/{uuid4()}/activation")),
        (404, client.post(f"/registrations/{uuid4()}/mails")),
        (404, client.get("/nowhere")),
        (405, client.get("/registrations")),
    ]

    change("ALTER TABLE outbox RENAME TO missing")
    expected.append((500, sign_up(client, kim, "2")))
    change("ALTER TABLE missing RENAME TO outbox")

    for status, response in expected:
        problem = problem_of(response)
        assert status == response.status_code, problem
        assert "hunter2" not in problem["detail"].replace("body.hunter2", "")


def test_the_pool_is_exhausted(
    client: httpx.Client, postgres_server: PostgresServer, settings: DatabaseSettings, rows: Rows
) -> None:
    """The process stays ready and answers at once; a request gets 503 at its deadline, and its repetition succeeds."""

    def post(number: int) -> httpx.Response:
        return sign_up(client, f"{number}@pool.example", "1")

    waiting = f"SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{settings.name}'"
    with ThreadPoolExecutor(3) as threads, postgres_server.connect(settings.name) as connection:
        with connection.transaction():
            connection.execute("LOCK TABLE registrations")
            held = [threads.submit(post, number) for number in range(3)]
            wait_until(lambda: len(rows(waiting)) == 2, "the pool is exhausted")
            assert client.get("/ready").json() == {"status": "ready"}
            assert client.get("/health").json() == {"status": "running"}
            assert not any(request.done() for request in held)
            responses = [request.result() for request in held]
        # The lock is released before the next requests.
        repeated = [post(number).status_code for number in range(3)]
    for response in responses:
        assert problem_of(response)["detail"] == "please try again later"
        assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert repeated == [202] * 3
    assert count(rows, "pool.example") == 3


def test_readiness(client: httpx.Client, change: Change, proxy: TcpProxy, terminate_sessions: Terminate) -> None:
    """The schema must not be older than the code, and the database must answer; the process is healthy meanwhile."""
    terminate_sessions()
    assert client.get("/ready").status_code == 200
    for revision, status in ((OLDER, 503), ("f" * 12, 200), (schema.newest(), 200)):
        change(f"UPDATE registration_schema_version SET version_num = '{revision}'")
        assert client.get("/ready").status_code == status, revision
    proxy.stop_accepting()
    proxy.cut()
    started = time.monotonic()
    response = client.get("/ready")
    assert problem_of(response)["detail"] == "the database does not answer: DatabaseUnavailable"
    assert time.monotonic() - started < 5
    assert client.get("/health").status_code == 200
    unavailable = sign_up(client, "ada@ready.example", "1")
    assert (problem_of(unavailable)["status"], unavailable.headers["retry-after"]) == (503, "2")
    proxy.resume_accepting()
    assert client.get("/ready").status_code == 200
    assert sign_up(client, "ada@ready.example", "1").status_code == 202


def test_schemathesis(service: FastApiService, rows: Rows, tmp_path: Path) -> None:
    """Generated requests, valid and invalid, get only responses that the OpenAPI document describes, and no 500."""
    before = rows("SELECT count(*) AS n FROM registrations")[0]["n"]
    output = schemathesis(service, tmp_path, "--phases=examples,coverage,fuzzing", "--max-examples=20")
    assert rows("SELECT count(*) AS n FROM registrations")[0]["n"] > before, output


@pytest.mark.nightly
def test_schemathesis_with_the_cookies_of_a_person(
    client: httpx.Client, service: FastApiService, rows: Rows, tmp_path: Path
) -> None:
    """Generated valid requests of a person who is signed in change the data of this person, and get no 500."""
    ada = "ada@schema.example"
    sign_up(client, ada, "1")
    client.post("/verifications", json={"token": service.token_for(ada)})
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    schemathesis(
        service,
        tmp_path,
        f"--header=Cookie: {cookies}",
        "--mode=positive",
        "--phases=fuzzing",
        "--max-examples=5",
        "--include-path-regex=^/(me|mails|session)",
        # The person is needed until the end.
        "--exclude-operation-id=erase",
    )
    assert rows(f"SELECT version > 2 AS changed FROM registrations WHERE email = '{ada}'") == [{"changed": True}]


def schemathesis(service: FastApiService, folder: Path, *options: str) -> str:
    """Run schemathesis against *service* with more *options*, and return its output; it finds no failure."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{service.url()}/openapi.json",
        "--checks=all",
        # Addresses and tokens can be valid by the document, and be rejected.
        "--exclude-checks=positive_data_acceptance",
        "--max-response-time=10",
        "--seed=15",
        "--generation-database=none",
        "--continue-on-failure",
        "--no-color",
        *options,
    ]
    run = subprocess.run(command, cwd=folder, env=python_environment(), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
