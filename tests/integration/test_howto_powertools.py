"""The code of docs/howto/powertools.md, and the numbers of its table: with real PostgreSQL, and DynamoDB of moto."""

import importlib
import json
import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import boto3
import pytest
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyValidationError,
)
from moto import mock_aws
from sqlalchemy import event as event_of_sqlalchemy
from support import Rows

from registration_persistence import get_db
from registration_persistence.errors import IdempotencyConflict
from registration_persistence.sandbox import FakeLambdaContext

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/howto/powertools.md"
FUNCTION = ROOT / "examples/registration_service/function"

pytestmark = [
    pytest.mark.usefixtures("fresh_process"),
    # Of Powertools, after an invocation that raised.
    pytest.mark.filterwarnings("ignore:No application metrics:UserWarning"),
]


class Context(FakeLambdaContext):
    """A context with the attributes that Powertools' Logger reads."""

    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:eu-central-1:111111111111:function:sign-up"


@pytest.fixture
def calls() -> Iterator[Counter[str]]:
    """An empty table, and the calls of DynamoDB by API."""
    counted: Counter[str] = Counter()
    # Only DynamoDB is simulated by this; the secret is read from the sandbox before.
    get_db().warm_up()
    with mock_aws():
        boto3.client("dynamodb", region_name="eu-central-1").create_table(
            TableName="idempotency",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield counted


@pytest.fixture(autouse=True)
def new_loggers() -> Iterator[None]:
    """Loggers as in a new process: Powertools configures a name once, with the stdout of that moment."""
    configured = [logging.getLogger(name) for name in ("registration_persistence", "signup_service")]
    states = [(each, each.handlers[:], each.propagate, each.level) for each in configured]
    logging.root.manager.loggerDict.pop("sign-up", None)
    yield
    for logger, handlers, propagate, level in states:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def read_page(calls: Counter[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], SimpleNamespace]:
    """Executes the code of the page and returns its names; in the test, because loggers keep the stdout they find."""

    def read() -> SimpleNamespace:
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        mails: list[object] = []
        names: dict[str, Any] = {"__name__": "howto_powertools", "send_mail": mails.append, "mails": mails}
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
            exec(compile(block, PAGE.name, "exec"), names)  # noqa: S102 the code is our own documentation
        events = names["store"].client.meta.events
        events.register("before-call.dynamodb", lambda model, **_: calls.update([model.name]))
        return SimpleNamespace(**names)

    return read


def registered(rows: Rows) -> int:
    """Return the number of registrations."""
    return int(rows("SELECT count(*) AS number FROM registrations")[0]["number"])


def form(**changes: str) -> dict[str, str]:
    """Return the event of a sign-up."""
    return {"email": "ada@example.com", "key": str(uuid4()), **changes}


def ended_by(error: type[BaseException]) -> Callable[[object], Any]:
    """Return a stand-in for `deadline` whose block ends with *error*, after the COMMIT inside."""

    @contextmanager
    def block(_: object) -> Iterator[None]:
        yield
        raise error

    return block


def test_their_record_and_our_key(read_page: Callable[[], SimpleNamespace], calls: Counter[str], rows: Rows) -> None:
    """The table of the page: calls of DynamoDB, another form, and the death of the process after COMMIT."""

    def ask(handler: Callable[..., Any], event: dict[str, str], context: Context | None = None) -> dict[str, int]:
        calls.clear()
        try:
            assert handler(event, context or Context()) == {"statusCode": 202}
        finally:
            counted = dict(calls)
        return counted

    guide = read_page()
    ours, theirs, event = guide.handler, guide.handler_with_record, form()
    assert (ask(ours, event), ask(ours, event), registered(rows)) == ({}, {}, 1)
    with pytest.raises(IdempotencyConflict):
        ask(ours, event | {"email": "eve@example.com"})
    assert ask(theirs, event) == {"PutItem": 1, "UpdateItem": 1}
    statements: list[str] = []
    event_of_sqlalchemy.listen(get_db().engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    assert (ask(theirs, event), len(statements)) == ({"PutItem": 1}, 0)
    assert (ask(ours, event), len(statements)) == ({}, 1)
    with pytest.raises(IdempotencyValidationError):
        ask(theirs, event | {"email": "eve@example.com"})
    assert registered(rows) == 2

    names = theirs.__wrapped__.__globals__
    whole = names["deadline"]
    # The process dies after COMMIT: ours registers once, theirs again after the time of the invocation.
    for handler, expected in ((ours, 1), (theirs, 2)):
        before, event = registered(rows), form()
        names["deadline"] = ended_by(SystemExit)
        with pytest.raises(SystemExit):
            ask(handler, event, Context(timeout=1))
        names["deadline"] = whole
        if handler is theirs:
            with pytest.raises(IdempotencyAlreadyInProgressError):
                ask(handler, event)
            time.sleep(1)
        ask(handler, event)
        assert registered(rows) - before == expected
    # The handler raises after COMMIT: their record is deleted.
    before, event = registered(rows), form()
    names["deadline"] = ended_by(ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        ask(theirs, event)
    assert dict(calls) == {"PutItem": 1, "DeleteItem": 1}
    names["deadline"] = whole
    ask(theirs, event)
    assert registered(rows) - before == 2


def test_a_message_is_delivered_again(read_page: Callable[[], SimpleNamespace], calls: Counter[str]) -> None:
    """A second delivery of a message sends no second mail, and the record costs two calls."""
    guide = read_page()
    message = SimpleNamespace(type="registration.registered", event_id=uuid4(), registration_id=uuid4())
    guide.mail_config.register_lambda_context(Context())

    guide.deliver(message)
    assert dict(calls) == {"PutItem": 1, "UpdateItem": 1}
    guide.deliver(message)
    guide.deliver(SimpleNamespace(type="registration.verified"))

    assert guide.mails == [message.registration_id]


def test_logs_and_metrics(capfd: pytest.CaptureFixture[str], read_page: Callable[[], SimpleNamespace]) -> None:
    """Each line is JSON; those of the package have their fields, and none contains a mailbox."""
    guide = read_page()
    get_db().dispose()

    guide.handler({**form(), "requestContext": {"requestId": "a-request"}}, Context())

    output = capfd.readouterr().out
    lines = [json.loads(line) for line in output.splitlines()]
    assert "ada@example.com" not in output
    (signed_up,) = (line for line in lines if line.get("message") == "signed up")
    assert (signed_up["service"], signed_up["correlation_id"]) == ("sign-up", "a-request")
    (opened,) = (line for line in lines if line.get("event") == "connection_opened")
    assert (opened["cause"], opened["service"]) == ("recycled", "sign-up")
    (values,) = (line for line in lines if "_aws" in line)
    assert (values["database.connection_opened"], values["sign_ups"]) == ([1.0], [1.0])


def test_the_variant_of_the_example(
    calls: Counter[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], rows: Rows
) -> None:
    """The handlers of the example log no mailbox and no token, and a repeated message sends no second welcome mail."""
    assert not calls
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("IDEMPOTENCY_TABLE", "idempotency")
    monkeypatch.syspath_prepend(str(FUNCTION))
    for module in FUNCTION.glob("*.py"):
        monkeypatch.delitem(sys.modules, module.stem, raising=False)
    variant, service = (importlib.import_module(name) for name in ("powertools_handler", "signup_service"))
    tokens: list[str] = []
    monkeypatch.setattr(service, "send_mail", lambda *_, token, **__: tokens.append(token))
    sign_up = {"email": "ada@example.com", "display_name": "Ada", "terms_version": "1"}
    headers = {"idempotency-key": "1", "content-type": "application/json"}

    answers = [
        variant.handle({**request, "requestContext": {"requestId": "a-request"}}, Context())["statusCode"]
        for request in (
            {"routeKey": "POST /registrations", "headers": headers, "body": json.dumps(sign_up)},
            {"routeKey": "POST /verifications", "headers": headers, "body": json.dumps({"token": "nonsense"})},
        )
    ]
    verified = {"routeKey": "POST /verifications", "headers": headers, "body": json.dumps({"token": tokens[0]})}
    assert [*answers, variant.handle(verified, Context())["statusCode"]] == [202, 410, 200]
    counts = variant.deliver_outbox({}, Context())
    assert counts["delivered"] == 2
    (event,) = rows("SELECT id, registration_id FROM registration_events WHERE type = 'verified'")
    names = {"event_id": event["id"], "registration_id": event["registration_id"]}
    variant.deliver(SimpleNamespace(type="registration.verified", **names))

    output = capfd.readouterr().out
    assert output.count("welcome mail") == 1
    assert not [word for word in ("ada@example.com", "Ada", tokens[0]) if word in output]
    values = [json.loads(line) for line in output.splitlines() if '"_aws"' in line]
    assert [name for line in values for name in line if name.startswith("responses.")] == [
        *("responses.2xx", "responses.4xx", "responses.2xx"),
    ]
