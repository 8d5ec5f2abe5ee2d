"""The example of the README and the service in `examples/` are executed."""

import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from support import Rows

from registration_persistence import Database, deadline, get_db
from registration_persistence.database import process
from registration_persistence.sandbox import FakeLambdaContext

ROOT = Path(__file__).parents[2]

FUNCTION = ROOT / "examples/registration_service/function"
MODULES = {path.stem for path in FUNCTION.glob("*.py")}
CONTEXT = FakeLambdaContext(timeout=3600)

pytestmark = pytest.mark.usefixtures("fresh_process")


def test_the_example_of_the_readme(rows: Rows) -> None:
    """The handler stores a sign-up once, mails the token, and gives the retry of the client the same answer."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    mails: list[tuple[str, str]] = []
    namespace: dict[str, Any] = {"send_mail": lambda address, link: mails.append((address, link))}
    exec(compile(blocks[0], "README.md", "exec"), namespace)  # noqa: S102 the code is our own README
    event = {"email": "ada@example.com", "name": "Ada", "idempotencyKey": "1-67891233"}

    answers = [namespace["handler"](event, CONTEXT), namespace["handler"](event, CONTEXT)]

    assert [{"statusCode": 202}, {"statusCode": 202}] == answers
    ((address, link),) = mails
    assert address == "ada@example.com"
    assert re.fullmatch(r"https://example\.com/verify\?token=[\w-]{43}", link)
    assert [{"email": "ada@example.com", "profile": {"display_name": "Ada"}}] == rows(
        "SELECT email, profile FROM registrations"
    )


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of `examples/registration_service/function` from its own folder, as Lambda does."""
    monkeypatch.syspath_prepend(str(FUNCTION))
    for module in MODULES:
        monkeypatch.delitem(sys.modules, module, raising=False)
    return importlib.import_module


@pytest.fixture
def service(function: Callable[[str], ModuleType]) -> ModuleType:
    """The module `signup_service` of the example."""
    return function("signup_service")


JSON = {"content-type": "application/json"}


def post(key: str = "key", /, **body: object) -> dict[str, object]:
    """Return an event of API Gateway."""
    return {"headers": {"idempotency-key": key, **JSON}, "body": json.dumps(body)}


FORM: dict[str, Any] = {"email": "ada@example.com", "display_name": "Ada", "terms_version": "1", "newsletter": True}


def test_the_service_handles_a_whole_life_cycle(service: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signing up, retrying, opening the link twice and activating twice each give the expected answer."""
    mails: list[dict[str, Any]] = []
    monkeypatch.setattr(service, "send_mail", lambda address, **mail: mails.append({"address": address, **mail}))

    assert [202, 202] == [service.sign_up(post(**FORM), CONTEXT)["statusCode"] for _ in range(2)]
    (mail,) = mails
    assert (FORM["email"], False) == (mail["address"], mail["known"])
    verified = [service.verify(post(token=mail["token"]), CONTEXT) for _ in range(2)]
    assert [200, 200] == [answer["statusCode"] for answer in verified]
    event = {"pathParameters": {"id": json.loads(verified[0]["body"])["id"]}}
    assert [200, 409] == [service.activate(event, CONTEXT)["statusCode"] for _ in range(2)]
    assert service.sign_up(post("another", **FORM), CONTEXT)["statusCode"] == 202
    assert mails[1]["known"]


def test_the_function_answers_each_route(
    function: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, rows: Rows
) -> None:
    """The connection is open before the first request; an unknown route is 404, and the answer lists the routes."""
    handler = function("handler")
    pool: Any = get_db().engine.pool
    assert pool.checkedin() == 1
    mails: list[str] = []
    monkeypatch.setattr(sys.modules["signup_service"], "send_mail", lambda _, *, known, token: mails.append(token))  # noqa: ARG005 the names of the arguments are passed

    def ask(route: str, event: dict[str, Any]) -> int:
        code: int = handler.handle({"routeKey": route, **event}, CONTEXT)["statusCode"]
        return code

    assert ask("POST /registrations", post(**FORM)) == 202
    of = {"pathParameters": {"id": str(rows("SELECT id FROM registrations")[0]["id"])}}
    assert ask("POST /registrations/{id}/mails", of) == 429
    assert ask("POST /verifications", post(token=mails[0])) == 200
    assert ask("POST /registrations/{id}/activation", of) == 200
    assert [{"status": "active"}] == rows("SELECT status FROM registrations")
    answer = handler.handle({"routeKey": "GET /registrations"}, CONTEXT)
    assert answer["statusCode"] == 404
    assert all(route in answer["body"] for route in handler.ROUTES)


def test_the_service_sends_another_link(
    service: ModuleType, monkeypatch: pytest.MonkeyPatch, database: Database, rows: Rows
) -> None:
    """The answer is 429 if too soon and 202 a minute later, with a link that replaces the first one."""
    mails: list[str] = []
    monkeypatch.setattr(service, "send_mail", lambda _, *, known, token: mails.append(token))  # noqa: ARG005 the names of the arguments are passed
    service.sign_up(post(**FORM), CONTEXT)
    event = {"pathParameters": {"id": str(rows("SELECT id FROM registrations")[0]["id"])}}

    assert service.resend(event, CONTEXT)["statusCode"] == 429
    with database.session() as session:
        session.execute(text("UPDATE registrations SET token_issued_at = now() - interval '1 minute'"))
    assert service.resend(event, CONTEXT)["statusCode"] == 202
    assert [410, 200] == [service.verify(post(token=token), CONTEXT)["statusCode"] for token in mails]
    assert service.resend(event, CONTEXT)["statusCode"] == 409
    assert service.resend({"pathParameters": {"id": str(uuid4())}}, CONTEXT)["statusCode"] == 404


def test_the_service_answers_errors(service: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invalid input is 400, a reused key 409, an expired link 410, and an unavailable database 503."""
    assert service.sign_up(post(**FORM | {"email": "nobody"}), CONTEXT)["statusCode"] == 400
    assert service.sign_up(post(**FORM), CONTEXT)["statusCode"] == 202
    assert service.sign_up(post(**FORM | {"display_name": "Eve"}), CONTEXT)["statusCode"] == 409
    key, text = {"idempotency-key": "key"}, {"content-type": "text/plain"}
    for request in ({}, post(), {"headers": JSON, "body": "{"}, {"headers": JSON, "body": json.dumps(FORM)}):
        assert service.sign_up(request, CONTEXT)["statusCode"] == 400
    for headers in ({}, key, key | text):  # a form of another site can send these
        assert service.sign_up({**post(**FORM), "headers": headers}, CONTEXT)["statusCode"] == 400
    for body in ("[" * 100_000, "é", "7", "", '{"token": "\\ud800"}', '{"token": "\\u0000"}', '{"token": 7}'):
        for encoded in (False, True):
            broken = {"headers": JSON, "body": body, "isBase64Encoded": encoded}
            assert service.verify(broken, CONTEXT)["statusCode"] in {400, 410}, (body[:20], encoded)
    with monkeypatch.context() as prod:
        prod.setenv("APP_ENVIRONMENT", "prod")
        without_tls = {**JSON, "host": "me.example", "origin": "http://me.example"}
        assert service.verify({**post(token="x"), "headers": without_tls}, CONTEXT)["statusCode"] == 403
    other_case = {"Idempotency-Key": "key", "Content-Type": "Application/JSON; charset=utf-8"}
    assert service.sign_up({**post(**FORM), "headers": other_case}, CONTEXT)["statusCode"] == 202
    assert service.activate({"pathParameters": {"id": "nonsense"}}, CONTEXT)["statusCode"] == 400
    assert service.activate({"pathParameters": {"id": str(uuid4())}}, CONTEXT)["statusCode"] == 404
    assert service.verify(post(token="x" * 43), CONTEXT)["statusCode"] == 410
    get_db().dispose()
    monkeypatch.setattr(process, "_this_process", process._ThisProcess())
    monkeypatch.setenv("APP_DATABASE_PORT", "1")
    with deadline(2):
        assert service.sign_up(post(**FORM), CONTEXT)["statusCode"] == 503
