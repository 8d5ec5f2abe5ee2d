"""The code of the how-to on asyncio is executed, also with a task that is cancelled in COMMIT."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from mangum import Mangum
from sqlalchemy import event
from sqlalchemy.orm import Session
from support import Rows

from registration_persistence import Database, get_async_db
from registration_persistence.database import process
from registration_persistence.sandbox import FakeLambdaContext

PAGE = Path(__file__).parents[2] / "docs/howto/asyncio.md"
COUNT = "SELECT count(*) AS n FROM registrations"


class Guide:
    """The page whose Python code has been executed, and the mails that it sent."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        self.namespace: dict[str, Any] = {"__name__": "howto_asyncio", "send_mail": self.send_mail}
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
            exec(compile(block, PAGE.name, "exec"), self.namespace)  # noqa: S102 the code is our own documentation

    async def send_mail(self, address: str, token: str) -> None:
        """Keep the mail."""
        assert token
        self.mails.append(address)

    def __getattr__(self, name: str) -> Any:
        return self.namespace[name]


@pytest.fixture
def guide(fresh_process: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guide]:  # noqa: ARG001 its effect
    """The page, in a process whose requests run in parallel."""
    monkeypatch.setenv("APP_DATABASE_POOL", "service")
    monkeypatch.setenv("APP_DATABASE_POOL_SIZE", "2")
    guide = Guide()
    yield guide
    guide.runner.close()
    get_async_db().close_idle()


def form(name: str = "ada") -> dict[str, str]:
    """Return the form of a person."""
    return {"email": f"{name}@example.com", "key": name}


def connections_opened() -> int:
    """Return the number of connections that the asynchronous database has opened."""
    return get_async_db().events.count("connection_opened")


def test_units_of_work_and_sessions(guide: Guide) -> None:
    """Tasks share two connections, a repeated form is replayed without a mail, and a session reads the rows."""
    people = [form(name) for name in ("ada", "eve", "kim", "ada")]

    assert asyncio.run(guide.sign_up_all(people)) == [202] * 4
    assert sorted(guide.mails) == ["ada@example.com", "eve@example.com", "kim@example.com"]
    items, total = asyncio.run(guide.first_page())
    assert ({item.email for item in items}, total) == (set(guide.mails), 3)
    assert connections_opened() == 2
    made = asyncio.run(guide.sign_up_with_calculation(form("joe"), lambda form: form["email"].capitalize()))
    assert made.registration.email == "Joe@example.com"
    assert guide.count_with_uvloop() == 4
    assert connections_opened() == 2


def test_the_fastapi_application(guide: Guide, rows: Rows) -> None:
    """Its lifespan opens the connection; a form is stored before the response, and the dependency reads it."""

    async def requests() -> tuple[int, Any]:
        transport = httpx.ASGITransport(guide.app)
        async with guide.lifespan(guide.app), httpx.AsyncClient(transport=transport, base_url="http://sign-up") as web:
            posted = await web.post("/registrations", json=form())
            return posted.status_code, (await web.get("/registrations")).json()

    assert asyncio.run(requests()) == (202, 1)
    assert rows(COUNT) == [{"n": 1}]


@pytest.fixture
def cancel_in_commit() -> Iterator[Callable[[], None]]:
    """Cancel the task in the next COMMIT, which is sent nevertheless."""
    requested: list[bool] = []

    def cancel(_: Session) -> None:
        if requested:
            requested.clear()
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    event.listen(Session, "before_commit", cancel)
    yield lambda: requested.append(True)
    event.remove(Session, "before_commit", cancel)


def test_a_cancellation_is_not_a_roll_back(
    guide: Guide, database: Database, rows: Rows, cancel_in_commit: Callable[[], None]
) -> None:
    """In a statement nothing is kept; in COMMIT it may be, the note says so, and the same key stores nothing twice."""
    with database.session() as session:
        session.connection().exec_driver_sql("LOCK TABLE registrations")
        assert asyncio.run(guide.sign_up_within(0.3, form())) == 503
    assert rows(COUNT) == [{"n": 0}]

    cancel_in_commit()
    with pytest.raises(asyncio.CancelledError) as raised:
        asyncio.run(guide.sign_up(form()))
    assert "which was kept" in raised.value.__notes__[0]
    assert (rows(COUNT), guide.mails) == ([{"n": 1}], [])
    assert asyncio.run(guide.sign_up_within(5, form())) == 202
    assert rows(COUNT) == [{"n": 1}]


@pytest.mark.parametrize("name", ["handler", "handler_with_new_loops"])
def test_the_handlers_of_lambda_keep_the_connection(guide: Guide, rows: Rows, name: str) -> None:
    """One connection serves all invocations, in one event loop and in a new one for each; the deadline applies."""
    handler = getattr(guide, name)
    assert connections_opened() == 1

    assert [handler(form(person), FakeLambdaContext()) for person in ("ada", "eve", "ada")] == [{"statusCode": 202}] * 3
    assert connections_opened() == 1
    with pytest.raises(Exception, match="deadline"):
        handler(form("kim"), FakeLambdaContext(0.1))
    assert rows(COUNT) == [{"n": 2}]


def test_mangum_and_powertools_keep_the_connection(guide: Guide, rows: Rows) -> None:
    """Powertools runs in the loop of the page, and Mangum in its own one."""
    http = {"method": "POST", "path": "/registrations", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"}
    request = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/registrations",
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": "example.com"},
        "requestContext": {"http": http, "stage": "$default", "domainName": "example.com"},
        "body": '{"email": "ada@example.com", "key": "1"}',
        "isBase64Encoded": False,
    }
    resolver = APIGatewayHttpResolver()

    @resolver.post("/registrations")
    async def sign_up() -> tuple[dict[str, int], int]:
        status = await guide.sign_up(resolver.current_event.json_body)
        return {"status": status}, status

    context: Any = FakeLambdaContext()
    assert guide.runner.run(resolver.resolve_async(request, context))["statusCode"] == 202
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        mangum = Mangum(guide.app, lifespan="off")
        assert [mangum(request, context)["statusCode"] for _ in range(2)] == [202, 202]
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    assert (rows(COUNT), connections_opened()) == ([{"n": 1}], 1)


def test_another_loop_has_a_database_of_its_own(guide: Guide) -> None:
    """It shares the secret, while the first loop goes on; the first database refuses the second loop."""
    found: list[Any] = []

    async def first_loop() -> None:
        await guide.sign_up(form())
        await asyncio.to_thread(guide.in_another_thread(form(), found.append).join)
        with pytest.raises(RuntimeError, match="create an AsyncDatabase for each event loop"):
            await asyncio.to_thread(asyncio.run, guide.sign_up(form("eve")))
        sent = asyncio.run_coroutine_threadsafe(guide.sign_up(form("eve")), asyncio.get_running_loop())
        assert await asyncio.wrap_future(sent) == 202

    asyncio.run(first_loop())
    assert found[0].email == "ada@example.com"
    assert process.get_db().events.count("secret_read") == 1


def test_a_limit(guide: Guide) -> None:
    """The synchronous connection under a session raises an error that names the right way; nothing is sent."""
    from sqlalchemy import text
    from sqlalchemy.exc import MissingGreenlet

    async def misuse() -> None:
        async with guide.async_session_scope() as session:
            (await session.connection()).sync_connection.execute(text("SELECT 1"))

    with pytest.raises(MissingGreenlet, match="used without await"):
        asyncio.run(misuse())
