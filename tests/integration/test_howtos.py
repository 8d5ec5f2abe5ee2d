"""The Python code of the how-tos is executed, and has the described effect."""

import asyncio
import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from embedded_metrics import parse_line
from processes import python_environment
from sqlalchemy import text
from support import Rows

from registration_persistence import Database, OutboxRepository, get_db
from registration_persistence.database import process
from registration_persistence.sandbox import FakeLambdaContext

HOWTO = Path(__file__).parents[2] / "docs/howto"
PEPPER = base64.b64encode(b"p" * 32).decode()

pytestmark = pytest.mark.usefixtures("fresh_process")


class MailboxUnknown(Exception):
    """The error of a mail server that does not know the mailbox."""


class Guide:
    """A how-to whose Python code has been executed, and the mails that it sent."""

    def __init__(self, name: str, *others: str) -> None:
        self.mails: list[tuple[str, str]] = []
        self.namespace: dict[str, Any] = {
            "send_link": lambda address, secret, *, known: self.mails.append((address, secret)),  # noqa: ARG005 passed by name
            "send_code": lambda address, code: self.mails.append((address, code)),
            "MailboxUnknown": MailboxUnknown,
        }
        for file in (name, *others):
            for block in re.findall(r"```python\n(.*?)```", (HOWTO / file).read_text(encoding="utf-8"), re.DOTALL):
                exec(compile(block, file, "exec"), self.namespace)  # noqa: S102 the code is our own documentation

    def __getattr__(self, name: str) -> Any:
        return self.namespace[name]

    def sign_up_form(self, email: str = "ada@example.com") -> str:
        """Sign a person up, and return the token that was mailed."""
        self.sign_up({"email": email, "name": "Ada", "newsletter": False}, f"key of {email}")
        return self.mails[-1][1]


def test_sign_up_flow(rows: Rows) -> None:
    """The form, a link that is opened twice, the activation, and the rejected cases."""
    guide = Guide("sign-up-flow.md")
    secret, other = guide.sign_up_form(), guide.sign_up_form("ADA@example.com")

    code, registration_id = guide.open_link(secret)
    assert (200, True) == (code, isinstance(registration_id, UUID))
    assert (200, "this mailbox is verified already: sign in") == guide.open_link(secret)
    assert [409, 410] == [guide.open_link(token)[0] for token in (other, "nonsense")]
    assert guide.complete(registration_id, {"city": "London", "version": 1})[0] == 409
    assert (200, 4) == guide.complete(registration_id, {"city": "London", "version": 2})
    assert (409, "the registration was changed in the meantime: load it again") == guide.complete(
        registration_id, {"city": "London", "version": 2}
    )
    assert [{"profile": {"display_name": "Ada", "city": "London"}}] == rows(
        "SELECT profile FROM registrations WHERE status = 'active'"
    )


def test_resend(database: Database, rows: Rows) -> None:
    """A resend is throttled, then allowed, then refused at the limit; a verified registration gets no mail."""
    guide = Guide("sign-up-flow.md", "resend.md")
    first = guide.sign_up_form()
    registration_id = rows("SELECT id FROM registrations")[0]["id"]

    assert guide.resend(registration_id)[0] == 429
    with database.session() as session:
        session.execute(text("UPDATE registrations SET token_issued_at = now() - interval '1 hour'"))
    assert (202, None) == guide.resend(registration_id)
    assert [410, 200] == [guide.open_link(token)[0] for token in (first, guide.mails[-1][1])]
    assert (409, "nothing to verify: this registration is verified") == guide.resend(registration_id)


def test_the_number_of_mails_is_limited(database: Database, rows: Rows) -> None:
    """The fifth mail is the last."""
    guide = Guide("sign-up-flow.md", "resend.md")
    guide.sign_up_form()
    registration_id = rows("SELECT id FROM registrations")[0]["id"]
    codes = []
    for _ in range(5):
        with database.session() as session:
            session.execute(text("UPDATE registrations SET token_issued_at = now() - interval '1 hour'"))
        codes.append(guide.resend(registration_id)[0])

    assert [202, 202, 202, 202, 429] == codes


def test_short_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong code, the right code twice, and a lock-out after five wrong codes."""
    monkeypatch.setenv("CODE_PEPPERS", json.dumps({"1": PEPPER}))
    guide = Guide("short-codes.md")
    ada, eve = guide.sign_up_with_code("ada@example.com"), guide.sign_up_with_code("eve@example.com")
    code = guide.mails[0][1]

    again = (200, "this mailbox is verified already: sign in")
    assert [(422, "wrong code, 4 more tries"), (200, ada), again] == [
        guide.type_code(ada, typed) for typed in ("wrong", code, f"{code[:3]} {code[3:]}")
    ]
    assert [422, 422, 422, 422, 422, 429] == [guide.type_code(eve, "wrong")[0] for _ in range(6)]
    assert guide.type_code(eve, guide.mails[1][1])[0] == 429


def test_express_cluster(rows: Rows) -> None:
    """The first registration is stored once, also if its code runs twice."""
    for _ in range(2):
        Guide("express-cluster.md")

    assert [{"number": 1}] == rows("SELECT count(*) AS number FROM registrations")


def test_erase_a_person(rows: Rows) -> None:
    """Every registration of the mailbox is erased once."""
    guide = Guide("sign-up-flow.md", "erase-a-person.md")
    guide.sign_up_form()
    guide.sign_up_form("Ada@Example.com")
    guide.sign_up_form("eve@example.com")

    assert [[True, True], []] == [guide.forget("ada@example.com", "kim") for _ in range(2)]
    assert {"eve@example.com", None} == {row["email_key"] for row in rows("SELECT email_key FROM registrations")}
    assert {"admin:kim"} == {
        row["actor"] for row in rows("SELECT actor FROM registration_events WHERE type = 'erased'")
    }


def test_import() -> None:
    """A stream of people is imported, and the rejected rows are reported."""
    guide = Guide("import.md")

    report, problems = guide.bring_in(
        {"mail": mail, "name": "A"} for mail in ("a@example.com", "A@example.com", "nobody")
    )

    assert (1, 1, 1) == (report.inserted, report.duplicates, report.rejected)
    assert {2, 3} == {number for number, _ in problems}


@pytest.mark.parametrize("fenced", ["csv", "json"])
def test_the_example_files_can_be_imported(fenced: str, tmp_path: Path, rows: Rows) -> None:
    """The command `import` accepts the example files of the page."""
    from registration_persistence.cli import main

    found = re.search(rf"```{fenced}\n(.*?)```", (HOWTO / "import.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found
    file = tmp_path / ("people.csv" if fenced == "csv" else "people.jsonl")
    file.write_text(found[1], encoding="utf-8")

    assert main(["import", str(file), "--rejected", str(tmp_path / "rejected.csv")]) == 0

    assert len(found[1].splitlines()) - (fenced == "csv") == len(rows("SELECT id FROM registrations"))


def test_deliver_the_outbox(rows: Rows) -> None:
    """The worker mails a valid link, buries a message to an invalid mailbox, and skips purged registrations."""
    guide = Guide("sign-up-flow.md", "deliver-the-outbox.md")
    guide.sign_up_form()

    assert {"delivered": 1} == guide.handler(None, FakeLambdaContext())
    assert guide.open_link(guide.mails[-1][1])[0] == 200

    def reject(*_: object, **__: object) -> None:
        raise MailboxUnknown

    guide.sign_up_form("eve@example.com")
    send_link = guide.namespace["send_link"]
    guide.namespace["send_link"] = reject
    assert {"delivered": 2, "buried": 1} == guide.handler(None, FakeLambdaContext())
    with get_db().session() as session:
        (dead,) = OutboxRepository(session).dead()
    assert "smtp:550" == dead.last_error
    assert [{"n": 1}] == rows("SELECT count(*) AS n FROM outbox")
    assert isinstance(dead.registration_id, UUID)

    guide.namespace["send_link"] = send_link
    guide.sign_up_form("kim@example.com")
    guide.sign_up_form("joe@example.com")
    guide.namespace["send_all"] = lambda messages: [(messages[0], "rejected"), (messages[1], "sent")]
    guide.namespace["batch_worker"].run_once()
    assert {"retried": 1, "delivered": 1} == guide.namespace["batch_worker"].counts


def test_deliver_the_outbox_with_asyncio(rows: Rows) -> None:
    """The asynchronous worker mails valid links at a time, and SIGTERM ends it after the running calls."""
    guide = Guide("sign-up-flow.md", "deliver-the-outbox.md")
    tokens = [guide.sign_up_form(f"{name}@example.com") for name in ("ada", "eve", "kim", "joe")]
    mails: dict[str, str] = {}
    at_a_time = asyncio.Barrier(3)

    async def send_link_async(address: str, secret: str, *, known: bool) -> None:
        if address == "joe@example.com":
            raise MailboxUnknown
        async with asyncio.timeout(10), at_a_time:
            mails[address] = secret
            assert not known
        os.kill(os.getpid(), signal.SIGTERM)

    guide.namespace["send_link_async"] = send_link_async
    asyncio.run(guide.main())

    assert {"ada@example.com", "eve@example.com", "kim@example.com"} == set(mails)
    assert not set(tokens) & set(mails.values())
    assert [200, 200, 200] == [guide.open_link(secret)[0] for secret in mails.values()]
    assert [("registration.registered", "smtp:550")] == [
        (row["type"], row["last_error"]) for row in rows("SELECT * FROM outbox WHERE type = 'registration.registered'")
    ]


def test_failover(database: Database, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign-up, its repetition, and an unavailable database."""
    guide = Guide("failover.md")

    code, registration_id = guide.sign_up({"email": "ada@example.com"}, "one")
    assert (202, (202, registration_id)) == (code, guide.sign_up({"email": "ada@example.com"}, "one"))
    assert len(rows("SELECT id FROM registrations")) == 1
    get_db().dispose()
    monkeypatch.setattr(process, "_this_process", process._ThisProcess())
    monkeypatch.setenv("APP_DATABASE_PORT", "1")
    monkeypatch.setenv("APP_DATABASE_CONNECT_TIMEOUT", "2")
    assert guide.sign_up({"email": "ada@example.com"}, "one")[0] == 503
    assert database.ping().writable


def test_datadog() -> None:
    """The code of the page, in a process of its own, writes the metrics of a unit of work for CloudWatch."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", (HOWTO / "datadog.md").read_text("utf-8"), re.DOTALL))
    use = "import sqlalchemy; get_db().run(lambda session: session.execute(sqlalchemy.text('SELECT 1')))"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    quiet = {"DD_DOGSTATSD_PORT": port, "DD_TRACE_ENABLED": "false", "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false"}
    command = [sys.executable, "-c", f"{code}\n{use}"]

    printed = subprocess.check_output(command, env=python_environment(**quiet), text=True, timeout=60)

    (line,) = printed.splitlines()
    assert "registration_persistence.unit_of_work.seconds" in {each.name for each in parse_line(line)}


def test_readers(rows: Rows) -> None:
    """A read-only unit of work finds a registration."""
    guide = Guide("sign-up-flow.md", "readers.md")
    guide.sign_up_form()
    (row,) = rows("SELECT id FROM registrations")

    assert guide.show(row["id"]).email == "ada@example.com"


def test_lambda() -> None:
    """The connection is open before the first request, and the request uses it."""
    guide = Guide("lambda.md")
    assert get_db().events.count("connection_opened", "cold") == 1

    answers = [
        guide.handler({"email": "ada@example.com", "idempotencyKey": "1"}, FakeLambdaContext()) for _ in range(2)
    ]

    assert answers[0]["statusCode"] == 202
    assert answers[0] == answers[1]
    assert get_db().events.count("connection_opened") == 1


def test_rotation() -> None:
    """Events of the database become metrics."""
    counted: list[tuple[str, list[str]]] = []

    class Metrics:
        def increment(self, name: str, tags: list[str]) -> None:
            counted.append((name, tags))

    Guide("rotation.md").namespace["metrics"] = Metrics()
    get_db().ping()

    assert ("database.connection_opened", ["cause:cold"]) in counted
    assert ("database.secret_read", ["cause:cold"]) in counted
