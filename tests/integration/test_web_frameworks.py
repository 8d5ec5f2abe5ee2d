"""The code of the how-to on web frameworks is executed, also with a connection that is lost before COMMIT."""

import asyncio
import json
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from fastapi import Depends, FastAPI
from races import PEPPERS, another, code_for
from sqlalchemy import event
from sqlalchemy.orm import Session
from support import Rows, terminate_backend

from registration_persistence import Database, RegistrationRepository, deadline, get_db, session_scope
from registration_persistence.outcomes import Registered
from registration_persistence.sandbox import FakeLambdaContext

with warnings.catch_warnings():  # Starlette recommends another HTTP client
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

PAGE = Path(__file__).parents[2] / "docs/howto/web-frameworks.md"
ADA = {"email": "ada@example.com", "key": "1"}

pytestmark = pytest.mark.usefixtures("fresh_process", "event_loop")


@pytest.fixture
def event_loop() -> Iterator[None]:
    """The current event loop, which Mangum uses and, if there is none, creates and never closes."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the code of the page defines; requests run in parallel."""
    monkeypatch.setenv("APP_DATABASE_POOL", "service")
    namespace: dict[str, Any] = {"__name__": "web_frameworks"}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, PAGE.name, "exec"), namespace)  # noqa: S102 the code is our own documentation
    namespace["PEPPERS"] = PEPPERS
    return namespace


@pytest.fixture
def client(page: dict[str, Any]) -> Iterator[TestClient]:
    """A client of the FastAPI application, with its lifespan; it gets the response that a server would send."""
    with TestClient(page["app"], raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def lose_the_next_commit() -> Iterator[Callable[[], None]]:
    """Terminate the backend before the next COMMIT."""
    requested: list[bool] = []

    def terminate(session: Session) -> None:
        if requested:
            requested.clear()
            terminate_backend(session)

    event.listen(Session, "before_commit", terminate)
    yield lambda: requested.append(True)
    event.remove(Session, "before_commit", terminate)


Loss = Callable[[], None]


def stored(rows: Rows) -> list[UUID]:
    """Return the ids of the registrations."""
    return [row["id"] for row in rows("SELECT id FROM registrations")]


def gateway_event(body: dict[str, str]) -> dict[str, Any]:
    """Return the event of API Gateway for a request."""
    http = {"method": "POST", "path": "/registrations", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/registrations",
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": "example.com"},
        "requestContext": {"http": http, "stage": "$default", "domainName": "example.com"},
        "body": json.dumps(body),
        "isBase64Encoded": False,
    }


def test_a_fastapi_endpoint_with_run(client: TestClient, rows: Rows, lose_the_next_commit: Loss) -> None:
    """A lost connection is repeated before the response; invalid input is 422, an unknown registration 404."""
    lose_the_next_commit()
    response = client.post("/registrations", json=ADA)

    assert response.status_code == 202
    assert [UUID(response.json()["id"])] == stored(rows)
    assert get_db().events.count("retry", "connection_lost") == 1
    assert client.get(f"/registrations/{response.json()['id']}").json() == {"status": "pending"}
    assert client.get(f"/registrations/{uuid4()}").status_code == 404
    assert client.post("/registrations", json={**ADA, "email": "nobody"}).status_code == 422


def test_a_fastapi_dependency(client: TestClient, database: Database, rows: Rows, lose_the_next_commit: Loss) -> None:
    """A wrong code counts although the endpoint raises, and a lost COMMIT is 503."""
    identity = client.post("/registrations", json=ADA).json()["id"]
    code = code_for(database, UUID(identity))

    def type_code(code: str) -> int:
        return int(client.post(f"/registrations/{identity}/code", json={"code": code}).status_code)

    lose_the_next_commit()
    assert type_code(code) == 503
    assert [{"status": "pending"}] == rows("SELECT status FROM registrations")
    assert [422, 422, 422, 422, 422, 429, 429] == [
        type_code(typed) for typed in (another(code), *[another(code)] * 4, another(code), code)
    ]


def test_a_fastapi_deadline_for_several_endpoints(client: TestClient, page: dict[str, Any]) -> None:
    """The deadline of an `async` dependency applies in the endpoint."""
    found: list[float] = []

    app: FastAPI = page["app"]

    @app.get("/left", dependencies=[Depends(page["five_seconds"])])
    def left() -> None:
        from registration_persistence.database.deadlines import remaining

        found.append(remaining())

    assert client.get("/left").status_code == 200
    assert 0 < found[0] < 5
    assert client.get("/mailboxes/ada@example.com").json() == {"known": False}


@pytest.mark.parametrize(("scope", "status"), [("function", 503), ("request", 202), (None, 202)])
def test_the_scope_of_a_dependency_decides_about_lost_commits(
    page: dict[str, Any], rows: Rows, lose_the_next_commit: Loss, scope: Any, status: int
) -> None:
    """Without the scope `function`, the client gets 202 and an id, and nothing is stored."""
    app = FastAPI()
    app.add_exception_handler(page["RegistrationPersistenceError"], page["failed"])
    OwnSession = Annotated[Session, Depends(page["database_session"], scope=scope)]  # noqa: N806 a type

    @app.post("/registrations", status_code=202)
    def sign_up(session: OwnSession) -> dict[str, UUID]:
        made = RegistrationRepository(session).register("ada@example.com")
        assert isinstance(made, Registered)
        return {"id": made.registration.id}

    with TestClient(app, raise_server_exceptions=False) as client:
        lose_the_next_commit()
        assert client.post("/registrations").status_code == status
        assert stored(rows) == []


@pytest.mark.parametrize("scope", ["function", "request"])
def test_a_deadline_in_a_dependency_that_is_not_async_is_rejected(page: dict[str, Any], rows: Rows, scope: Any) -> None:
    """The endpoint fails before anything is sent, and the message says what to do."""
    app = FastAPI()
    errors: list[Exception] = []

    def limited_session() -> Iterator[Session]:
        with deadline(5), session_scope() as session:
            yield session

    async def limited_async_session() -> Any:
        with deadline(5), session_scope() as session:
            yield session

    @app.post("/refused")
    def refused(session: Annotated[Session, Depends(limited_session, scope=scope)]) -> None:
        try:
            RegistrationRepository(session).register("eve@example.com")
        except RuntimeError as error:
            errors.append(error)
            raise

    @app.post("/accepted")
    def accepted(session: Annotated[Session, Depends(limited_async_session, scope=scope)]) -> None:
        RegistrationRepository(session).register("ada@example.com")

    assert page["app"]
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.post("/refused").status_code == 500
        assert client.post("/accepted").status_code == 200
    assert "`async def` dependency" in str(errors[0])
    assert [{"email_key": "ada@example.com"}] == rows("SELECT email_key FROM registrations")


def test_flask(page: dict[str, Any], rows: Rows, lose_the_next_commit: Loss) -> None:
    """A lost connection is repeated, and invalid input is 422."""
    client = page["flask_app"].test_client()
    lose_the_next_commit()
    response = client.post("/registrations", json=ADA)

    assert response.status_code == 202
    assert [UUID(response.json["id"])] == stored(rows)
    assert client.post("/registrations", json={**ADA, "email": "nobody"}).status_code == 422


@pytest.mark.parametrize("name", ["handler", "powertools_handler"])
def test_lambda(page: dict[str, Any], rows: Rows, lose_the_next_commit: Loss, name: str) -> None:
    """A lost connection is repeated, invalid input is 422, and without time left nothing is sent."""
    handler = page[name]
    lose_the_next_commit()
    response = handler(gateway_event(ADA), FakeLambdaContext())

    assert response["statusCode"] == 202
    assert [UUID(json.loads(response["body"])["id"])] == stored(rows)
    assert handler(gateway_event({**ADA, "email": "nobody"}), FakeLambdaContext())["statusCode"] == 422
    late = handler(gateway_event({"email": "eve@example.com", "key": "2"}), FakeLambdaContext(0.1))
    assert late["statusCode"] in (500, 503)
    assert len(stored(rows)) == 1
