"""Limits of arguments: every public method rejects a huge value before it reads it, and before it sends anything."""

import asyncio
import re
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from public_callables import CALLABLES, arguments_of, entries_of
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import registration_persistence as rp
from registration_persistence import errors, outcomes, sandbox, schema, testing
from registration_persistence.database.settings_rules import VARIABLES
from registration_persistence.domain.email import normalise_email
from registration_persistence.domain.records import OutboxMessage
from registration_persistence.repositories.bulk_import import OTHER_REASONS
from registration_persistence.repositories.outbox import OutboxPosition

LIMITS = Path(__file__).parents[2] / "docs" / "limits.md"
MIB = 1024 * 1024
MAX_PEAK_BYTES = 5 * MIB
MAX_SECONDS = 0.5
MAX_MESSAGE_CHARACTERS = 300
MAX_TAKEN = 1001
HUGE = 10_000_000

ID = UUID(int=1)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
KEY = b"k" * 32
ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:x"
MESSAGE = OutboxMessage(ID, ID, "registration.registered", 1, 1, None, NOW, None)
SETTINGS = rp.DatabaseSettings(host="127.0.0.1", name="x", environment="test", user="u", password="p")


class Liar(str):
    """Text of a subclass that claims to be short and to be valid."""

    __slots__ = ()

    def __len__(self) -> int:
        return 3

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("user")


class Counted:
    """An endless iterable that counts its items."""

    def __init__(self, item: object) -> None:
        self.taken = 0
        self._item = item

    def __iter__(self) -> Iterator[object]:
        while True:
            self.taken += 1
            yield self._item


def nested(kind: type) -> Any:
    """Return a list or dictionary with 100,000 levels."""
    innermost: Any = kind()
    for _ in range(100_000):
        innermost = [innermost] if kind is list else {"a": innermost}
    return innermost


def in_itself(kind: type) -> Any:
    """Return a list or dictionary that contains itself."""
    outer: Any = kind()
    if kind is list:
        outer.append(outer)
    else:
        outer["a"] = outer
    return outer


_TEXT, _LIAR, _SPACE, _WORDS = "x" * HUGE, Liar("x" * HUGE), " " * HUGE, "1 " * (HUGE // 2)
_LABELS, _BRACKETS, _BYTES = "a." * (HUGE // 2) + "@example.com", "[" * HUGE, b"x" * HUGE
_LISTS, _OBJECTS = nested(list), nested(dict)
_ITEMS, _KEYS, _NUMBER = ["x"] * 1_000_000, dict.fromkeys(range(1_000_000)), 10**100_000

HOSTILE: dict[str, Any] = {
    "text": _TEXT,
    "text of a subclass": _LIAR,
    "white space": _SPACE,
    "words": _WORDS,
    "labels": _LABELS,
    "brackets": _BRACKETS,
    "bytes": _BYTES,
    "nested lists": _LISTS,
    "nested objects": _OBJECTS,
    "list in itself": in_itself(list),
    "object in itself": in_itself(dict),
    "a million items": _ITEMS,
    "a million keys": _KEYS,
    "endless": None,
    "huge number": _NUMBER,
    "huge negative number": -_NUMBER,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "negative infinity": float("-inf"),
    "longest timedelta": timedelta.max,
    "shortest timedelta": timedelta.min,
    "last local time": datetime.max,  # noqa: DTZ901 a time without a zone is the invalid value
    "time outside of UTC": datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))),
}
"""The values that each argument gets, by name."""

_ANY_DURATION = frozenset(
    {"huge number", "huge negative number", "infinity", "negative infinity", "longest timedelta", "shortest timedelta"}
)
_FLAG = "a bool, of which only the truth is used"
_OBJECT = "an object of this package or of SQLAlchemy"
_CALLED = "a function of the caller, which is called"

normalise_email("ada@example.com")  # loads the validator, whose time and memory would count otherwise

sent: list[str] = []


def refuse() -> Any:
    """Note that a statement was about to be sent."""
    sent.append("a statement")
    raise ConnectionRefusedError


SESSION = Session(create_engine("postgresql+psycopg://", creator=refuse))
DATABASE = rp.Database(SETTINGS)
ASYNC_DATABASE = rp.AsyncDatabase(SETTINGS)
PEPPERS = rp.Peppers({1: KEY})
REGISTRATIONS, CONSENTS = rp.RegistrationRepository(SESSION), rp.ConsentRepository(SESSION)
VERIFICATION = rp.VerificationRepository(SESSION, peppers=PEPPERS)
OUTBOX, RETENTION, PRIVACY = rp.OutboxRepository(SESSION), rp.Retention(SESSION), rp.PrivacyRepository(SESSION)
ON_REPOSITORIES = {"session": _OBJECT}


@dataclass(frozen=True)
class Case:
    """The limits of one public function, class or method.

    Args:
        call: Calls it.
        valid: The arguments of a call that is accepted.
        subjects: The words by which the error names an argument, for each argument with a limit.
        free: The arguments that have no limit, with the reason.
        accepted: The hostile values that an argument accepts, because it has no upper limit.
        results: The result of a call with a wrong value, for an argument whose wrong values are no errors.
        sends: Whether the call with valid arguments sends a statement to the session of this module.
    """

    call: Callable[..., object]
    valid: Mapping[str, Any]
    subjects: Mapping[str, str]
    free: Mapping[str, str] = field(default_factory=dict)
    accepted: Mapping[str, frozenset[str]] = field(default_factory=dict)
    results: Mapping[str, object] = field(default_factory=dict)
    sends: bool = True


def on_repository(kind: Callable[..., object], **more: Any) -> Case:
    """Return the case of the class of a repository."""
    subjects = {"actor": "actor", "correlation_id": "correlation id", **more.pop("subjects", {})}
    # An object with the key "a" is a collection of names.
    accepted = {"purposes": frozenset({"nested objects", "object in itself"})}
    return Case(kind, {"session": SESSION}, subjects, {**ON_REPOSITORIES, **more}, accepted, sends=False)


def by_id(call: Callable[..., object], **more: str) -> Case:
    """Return the case of a method that takes an id and *more* arguments with these subjects."""
    return Case(call, {"registration_id": ID}, {"registration_id": "id of the registration", **more})


def entered(call: Callable[..., Any]) -> Callable[..., object]:
    """Return a function that calls *call*, and enters and leaves the context manager that it returns."""

    def enter(**arguments: Any) -> None:
        with call(**arguments):
            pass

    return enter


def awaited(call: Callable[..., Coroutine[Any, Any, object]]) -> Callable[..., object]:
    """Return a function that awaits *call* in an event loop of its own."""
    return lambda **arguments: asyncio.run(call(**arguments))


async def deliver_nothing(_message: OutboxMessage) -> None:
    """Deliver nothing."""


_VERSION = {"expected_version": "expected_version"}
_ISSUE = {"min_gap": "min_gap", "max_issued": "max_issued", "ttl": "ttl"}
_CLAIM = {"limit": "limit", "lease": "lease"}

CASES: dict[str, Case] = {
    "RegistrationRepository": on_repository(rp.RegistrationRepository, subjects={"purposes": "purposes"}),
    "RegistrationRepository.register": Case(
        REGISTRATIONS.register,
        {"email": "ada@example.com"},
        {
            "email": "e-mail address",
            "profile": "profile",
            "consents": "consent",
            "idempotency_key": "idempotency key",
            "ttl": "ttl",
            "token_ttl": "token_ttl",
            "max_pending": "max_pending",
        },
    ),
    "RegistrationRepository.activate": by_id(REGISTRATIONS.activate, **_VERSION),
    "RegistrationRepository.update_profile": replace(
        by_id(REGISTRATIONS.update_profile, patch="profile", **_VERSION), valid={"registration_id": ID, "patch": {}}
    ),
    "RegistrationRepository.cancel": by_id(REGISTRATIONS.cancel, reason="reason", **_VERSION),
    "RegistrationRepository.get": by_id(REGISTRATIONS.get),
    "RegistrationRepository.find_by_email": Case(
        REGISTRATIONS.find_by_email, {"email": "ada@example.com"}, {"email": "e-mail address"}
    ),
    "RegistrationRepository.list_page": Case(
        REGISTRATIONS.list_page, {}, {"status": "status", "after": "cursor", "limit": "limit"}
    ),
    "VerificationRepository": on_repository(rp.VerificationRepository, peppers=_OBJECT),
    "VerificationRepository.issue_token": by_id(VERIFICATION.issue_token, **_ISSUE),
    "VerificationRepository.issue_code": by_id(VERIFICATION.issue_code, **_ISSUE),
    "VerificationRepository.peek_token": Case(
        VERIFICATION.peek_token, {"token": "x" * 43}, {"token": ""}, results={"token": outcomes.TokenUnknown()}
    ),
    "VerificationRepository.verify_by_token": Case(
        VERIFICATION.verify_by_token,
        {"token": "x" * 43},
        {"token": "", "ttl": "ttl"},
        results={"token": outcomes.TokenUnknown()},
    ),
    "VerificationRepository.verify_by_code": replace(
        by_id(VERIFICATION.verify_by_code, code="code", max_attempts="max_attempts", ttl="ttl"),
        valid={"registration_id": ID, "code": "123456"},
    ),
    "ConsentRepository": on_repository(rp.ConsentRepository, subjects={"purposes": "purposes"}),
    "ConsentRepository.record": replace(
        by_id(CONSENTS.record, consents="consent"),
        valid={"registration_id": ID, "consents": [rp.Consent("terms", "1")]},
    ),
    "ConsentRepository.current": by_id(CONSENTS.current),
    "ConsentRepository.history": by_id(CONSENTS.history),
    "EventRepository": on_repository(rp.EventRepository),
    "EventRepository.list_events": by_id(rp.EventRepository(SESSION).list_events, after="after", limit="limit"),
    "OutboxRepository": on_repository(rp.OutboxRepository),
    "OutboxRepository.claim": Case(OUTBOX.claim, {}, _CLAIM),
    "OutboxRepository.claim_from": Case(
        OUTBOX.claim_from,
        {"position": OutboxPosition()},
        {"position": "position", **_CLAIM, "delivered": "messages"},
    ),
    "OutboxRepository.ack": Case(OUTBOX.ack, {"messages": [MESSAGE]}, {"messages": "messages"}),
    "OutboxRepository.release": Case(OUTBOX.release, {"messages": [MESSAGE]}, {"messages": "messages"}),
    "OutboxRepository.retry": Case(
        OUTBOX.retry,
        {"message": MESSAGE, "reason": "smtp:421", "delay": 1},
        {"message": "messages", "reason": "reason", "delay": "delay"},
    ),
    "OutboxRepository.bury": Case(
        OUTBOX.bury, {"message": MESSAGE, "reason": "smtp:550"}, {"message": "messages", "reason": "reason"}
    ),
    "OutboxRepository.dead": Case(OUTBOX.dead, {}, {"limit": "limit"}),
    "OutboxRepository.revive": Case(OUTBOX.revive, {"event_ids": [ID]}, {"event_ids": "event ids"}),
    "Retention": on_repository(rp.Retention),
    "Retention.expire_due": Case(RETENTION.expire_due, {}, {"limit": "limit"}),
    "Retention.purge_closed": Case(RETENTION.purge_closed, {"before": NOW}, {"before": "before", "limit": "limit"}),
    "Retention.purge_tokens": Case(RETENTION.purge_tokens, {"before": NOW}, {"before": "before", "limit": "limit"}),
    "PrivacyRepository": on_repository(rp.PrivacyRepository),
    "PrivacyRepository.erase": by_id(PRIVACY.erase),
    "PrivacyRepository.ids_by_email": Case(
        PRIVACY.ids_by_email, {"email": "ada@example.com"}, {"email": "e-mail address"}
    ),
    "PrivacyRepository.export_subject": by_id(PRIVACY.export_subject),
    "bulk_import": Case(
        rp.bulk_import,
        {"session": SESSION, "rows": [rp.ImportRow("ada@example.com")]},
        {"actor": "actor", "correlation_id": "correlation id", "ttl": "ttl", "batch": "batch"},
        {
            **ON_REPOSITORIES,
            "rows": "a stream of any length, of which one batch is in memory",
            "announce": _FLAG,
            "on_skipped": _CALLED,
        },
    ),
    "Peppers": Case(rp.Peppers, {"keys": {1: KEY}}, {"keys": "pepper", "newest": "newest"}, sends=False),
    "Peppers.from_json": Case(
        rp.Peppers.from_json,
        {"text": '{"1": "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="}'},
        {"text": "peppers"},
        sends=False,
    ),
    "Peppers.hashes": replace(
        by_id(PEPPERS.hashes, code="code"), valid={"registration_id": ID, "code": "123456"}, sends=False
    ),
    "Credentials": Case(
        rp.Credentials,
        {"username": "u", "password": "p"},
        {"username": "username", "password": "password", "origin": "origin"},
        sends=False,
    ),
    "StaticCredentials": Case(
        rp.StaticCredentials, {"credentials": rp.Credentials("u", "p")}, {}, {"credentials": _OBJECT}, sends=False
    ),
    "DatabaseSettings": Case(
        rp.DatabaseSettings,
        {"host": "127.0.0.1", "name": "x", "environment": "test", "user": "u", "password": "p"},
        {
            **{name: f"APP_DATABASE_{name.upper()}" for name in arguments_of(rp.DatabaseSettings)},
            "environment": "APP_ENVIRONMENT",
            "application_name": "application_name",
        },
        sends=False,
    ),
    "DatabaseSettings.from_env": Case(
        rp.DatabaseSettings.from_env, {"environ": {}}, {}, {"environ": "a mapping; tested below"}, sends=False
    ),
    "Database": Case(
        rp.Database, {"settings": SETTINGS}, {}, {"settings": _OBJECT, "credentials": _OBJECT}, sends=False
    ),
    "Database.session": Case(DATABASE.session, {}, {}, {"autocommit": _FLAG, "read_only": _FLAG}, sends=False),
    "Database.run": Case(
        DATABASE.run,
        {"work": len},
        {"work": "unit of work", "attempts": "attempts"},
        {"idempotent": _FLAG, "autocommit": _FLAG, "read_only": _FLAG, "single": _FLAG},
        sends=False,
    ),
    "AsyncDatabase": Case(
        rp.AsyncDatabase, {"settings": SETTINGS}, {}, {"settings": _OBJECT, "credentials": _OBJECT}, sends=False
    ),
    "AsyncDatabase.session": Case(
        ASYNC_DATABASE.session, {}, {}, {"autocommit": _FLAG, "read_only": _FLAG}, sends=False
    ),
    "AsyncDatabase.run": Case(
        awaited(ASYNC_DATABASE.run),
        {"work": len},
        {"work": "unit of work", "attempts": "attempts"},
        {"idempotent": _FLAG, "autocommit": _FLAG, "read_only": _FLAG, "single": _FLAG},
        sends=False,
    ),
    "deadline": Case(
        entered(rp.deadline),
        {"limit": 1},
        {"limit": "deadline", "reserve": "reserve"},
        accepted={
            "limit": _ANY_DURATION,
            "reserve": _ANY_DURATION - {"huge negative number", "negative infinity", "shortest timedelta"},
        },
        sends=False,
    ),
    "session_scope": Case(rp.session_scope, {}, {}, {"autocommit": _FLAG, "read_only": _FLAG}, sends=False),
    "async_session_scope": Case(rp.async_session_scope, {}, {}, {"autocommit": _FLAG, "read_only": _FLAG}, sends=False),
    "OutboxWorker": Case(
        rp.OutboxWorker,
        {"database": DATABASE, "deliver": print},
        {name: name for name in arguments_of(rp.OutboxWorker) if name != "database"},
        {"database": _OBJECT},
        sends=False,
    ),
    "OutboxWorker.run": Case(
        rp.OutboxWorker(DATABASE, print).run, {"stop": None}, {"poll": "poll"}, {"stop": _OBJECT}, sends=False
    ),
    "OutboxWorker.run_once": Case(len, {}, {}, {"stop": _OBJECT}, sends=False),
    "AsyncOutboxWorker": Case(
        rp.AsyncOutboxWorker,
        {"database": ASYNC_DATABASE, "deliver": deliver_nothing},
        {name: name for name in arguments_of(rp.AsyncOutboxWorker) if name != "database"},
        {"database": _OBJECT},
        sends=False,
    ),
    "AsyncOutboxWorker.run": Case(
        awaited(rp.AsyncOutboxWorker(ASYNC_DATABASE, deliver_nothing).run),
        {"stop": None},
        {"poll": "poll"},
        {"stop": _OBJECT},
        sends=False,
    ),
    "AsyncOutboxWorker.run_once": Case(len, {}, {}, {"stop": _OBJECT}, sends=False),
    "schema.upgrade": Case(
        schema.upgrade,
        {"database": DATABASE},
        {"revision": "revision", "owner_role": "owner_role", "wait": "wait"},
        {"database": _OBJECT},
        sends=False,
    ),
    "schema.downgrade": Case(
        schema.downgrade,
        {"database": DATABASE, "revision": "base"},
        {"revision": "revision", "owner_role": "owner_role"},
        {"database": _OBJECT},
        sends=False,
    ),
    "schema.upgrade_sql": Case(schema.upgrade_sql, {}, {"revision": "revision"}, sends=False),
    "schema.is_known": Case(
        schema.is_known, {"revision": "head"}, {"revision": ""}, results={"revision": False}, sends=False
    ),
    "schema.deployment": Case(
        entered(schema.deployment),
        {"database": DATABASE, "name": "x"},
        {"name": "name", "wait": "wait", "create_version_table_as": "create_version_table_as"},
        {"database": _OBJECT},
        sends=False,
    ),
    "schema.apply_grants": Case(
        schema.apply_grants, {"connection": SESSION}, {"logins": "logins"}, {"connection": _OBJECT}
    ),
    "schema.bootstrap": Case(
        schema.bootstrap, {}, {}, dict.fromkeys(("database", "application", "monitoring"), _OBJECT), sends=False
    ),
    "schema.bootstrap_from_secrets": Case(
        schema.bootstrap_from_secrets,
        {"database": DATABASE, "application": ARN},
        {
            "application": "APP_DATABASE_APPLICATION_SECRET_ARN",
            "application_user": "APP_DATABASE_APPLICATION_USER",
            "monitoring": "APP_DATABASE_MONITORING_SECRET_ARN",
        },
        {"database": _OBJECT},
        sends=False,
    ),
    "schema.set_role_statement": Case(schema.set_role_statement, {}, {"role": "role"}, sends=False),
    "schema.check": Case(schema.check, {}, {}, {"database": _OBJECT}, sends=False),
    "schema.current": Case(schema.current, {}, {}, {"database": _OBJECT}, sends=False),
    "schema.ensure_event_partitions": Case(
        schema.ensure_event_partitions, {"session": SESSION}, {"months": "months"}, ON_REPOSITORIES
    ),
    "schema.drop_event_partitions": Case(
        schema.drop_event_partitions,
        {"session": SESSION, "before": NOW - timedelta(days=99)},
        {"before": "before"},
        ON_REPOSITORIES,
    ),
    "sandbox.FakeLambdaContext": Case(
        sandbox.FakeLambdaContext,
        {},
        {"timeout": "timeout"},
        dict.fromkeys(("function_name", "aws_request_id", "clock"), "stored, and not read"),
        sends=False,
    ),
    "sandbox.wait_until": Case(
        sandbox.wait_until,
        {"condition": lambda: True, "what": "x"},
        {"timeout": "timeout", "interval": "interval"},
        {"condition": _CALLED, "what": "words for the error message"},
        sends=False,
    ),
    "sandbox.TcpProxy.lose_replies": Case(
        entered(sandbox.TcpProxy("127.0.0.1", 1).lose_replies),
        {"fraction": 1},
        {"fraction": "fraction"},
        {"seed": "any seed of `random.Random`"},
        sends=False,
    ),
    "testing.RoundTripCounter": Case(
        testing.RoundTripCounter,
        {"host": "127.0.0.1", "port": 1},
        {"latency": "latency"},
        dict.fromkeys(("host", "port"), "passed to the operating system"),
        sends=False,
    ),
}
"""The limits of each public function, class and method."""

EXEMPT = {
    r"outcomes\..*|Registration|database\.(DatabaseEvent|Health)|schema\.Bootstrapped": "the package creates it",
    r"Consent|ImportRow": "the methods that take it check it, which is tested below",
    r"(CredentialSource|StaticCredentials|LambdaContext)\..*": "an interface that the package calls",
    r"schema\.(is_ours|exclude_ours)": "Alembic calls it with names from the catalog",
    r"(sandbox|testing)\..*": "starts or changes a server of a test on this machine",
}
"""The names that have no case, with the reason."""


def _unique() -> dict[str, Callable[..., Any]]:
    """Return the public callables with arguments, each under its shortest name, without the name of the package."""
    shortest: dict[int, tuple[str, Callable[..., Any]]] = {}
    for name, public in CALLABLES.items():
        key = id(getattr(public, "__func__", public))
        short = name.removeprefix("registration_persistence.")
        if key not in shortest or len(short) < len(shortest[key][0]):
            shortest[key] = (short, public)
    return {name: public for name, public in shortest.values() if arguments_of(public)}


PUBLIC = _unique()
"""The public functions, classes and methods that have arguments."""


@pytest.fixture(scope="module", autouse=True)
def _traced_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def problem_of(case: Case, argument: str, value_name: str) -> str | None:
    """Call *case* with a hostile value, and return what is wrong with its reaction."""
    value = Counted("x") if value_name == "endless" else HOSTILE[value_name]
    is_accepted = value_name in case.accepted.get(argument, ())
    sent.clear()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    started = time.process_time()
    try:
        result = case.call(**{**case.valid, argument: value})
        reaction = "" if is_accepted or case.results.get(argument, ...) == result else "accepts it"
    except (errors.RegistrationPersistenceError, TypeError, ValueError) as error:
        text = str(error)
        names_it = case.subjects[argument] in text and not is_accepted
        reaction = "" if names_it and len(text) <= MAX_MESSAGE_CHARACTERS else f"{type(error).__name__}: {text[:200]}"
    except Exception as error:  # noqa: BLE001 each other error is a failure of the check
        reaction = f"raises {type(error).__name__}"
    seconds = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1] - before
    faults = [
        reaction,
        f"takes {peak / MIB:.1f} MiB" if peak > MAX_PEAK_BYTES else "",
        f"takes {seconds:.1f} s" if seconds > MAX_SECONDS else "",
        "sends a statement" if sent else "",
        f"takes {value.taken} items" if isinstance(value, Counted) and value.taken > MAX_TAKEN else "",
    ]
    found = ", ".join(fault for fault in faults if fault)
    return f"{argument}, {value_name}: {found}" if found else None


def test_every_public_method_has_a_case() -> None:
    """A new method, and a new argument, needs a case with its limit, or a reason why it has none."""
    exempt = re.compile("|".join(EXEMPT))
    missing = [name for name in PUBLIC if name not in CASES and not exempt.fullmatch(name)]
    undecided = [
        f"{name}: {argument}"
        for name, case in CASES.items()
        for argument in arguments_of(PUBLIC[name])
        if argument not in {**case.subjects, **case.free}
    ]

    assert ([], []) == (missing, undecided)


@pytest.mark.parametrize("name", CASES)
def test_a_huge_argument_is_rejected_before_any_work(name: str) -> None:
    """The error names the argument and does not quote it; no memory is used, and no statement is sent."""
    case = CASES[name]
    arguments = [argument for argument in arguments_of(PUBLIC[name]) if argument in case.subjects]

    problems = [problem_of(case, argument, value) for argument in arguments for value in HOSTILE]

    assert [] == [problem for problem in problems if problem]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.sends])
def test_valid_arguments_reach_the_server(name: str) -> None:
    """The same call with valid arguments sends a statement, so that the rejections above are due to the values."""
    sent.clear()

    with pytest.raises(ConnectionRefusedError):
        CASES[name].call(**CASES[name].valid)

    assert ["a statement"] == sent


@pytest.mark.parametrize("name", CASES)
def test_the_docstring_states_each_limit(name: str) -> None:
    """The entry of an argument with a limit has a number, a type without other values, or its words."""
    entries = entries_of(PUBLIC[name])
    limited = [argument for argument in arguments_of(PUBLIC[name]) if argument in CASES[name].subjects]

    assert [] == [
        argument
        for argument in limited
        if not re.search(r"\d|UUID|ten years|a day|`\w+`|plain function|Whether|time zone|NaN", entries[argument])
    ]


def test_the_documentation_lists_each_argument_with_a_limit() -> None:
    """docs/limits.md has a row for every argument in the table of this module."""
    listed = set(re.findall(r"`(\w+)`", LIMITS.read_text()))

    assert set() == {argument for case in CASES.values() for argument in case.subjects} - listed


@pytest.mark.parametrize("name", ["purpose", "document_version", "granted", "source"])
def test_a_huge_field_of_a_consent_is_rejected_before_any_work(name: str) -> None:
    """The field is checked when the consent is passed to a method."""
    consent = {"purpose": "terms", "document_version": "1"}
    case = Case(lambda **fields: CONSENTS.record(ID, [rp.Consent(**fields)]), consent, {name: "consent"})

    problems = [problem_of(case, name, value) for value in HOSTILE]

    assert [] == [problem for problem in problems if problem]


@pytest.mark.parametrize(
    "name", ["email", "status", "profile", "consents", "idempotency_key", "registered_at", "the whole row"]
)
def test_a_huge_field_of_an_import_is_rejected_before_any_work(name: str) -> None:
    """The report counts the row under a short reason, and nothing is sent."""

    def reason_of(**fields: Any) -> None:
        rows = [fields["the whole row"]] if "the whole row" in fields else [rp.ImportRow(**fields)]
        report = rp.bulk_import(SESSION, rows)
        assert (0, 1) == (report.inserted, report.rejected)
        raise errors.InvalidInput(f"rejected: {next(iter(report.reasons))}")

    case = Case(reason_of, {"email": "ada@example.com"}, {name: "rejected"})

    problems = [problem_of(case, name, value) for value in HOSTILE]

    assert [] == [problem for problem in problems if problem]


@pytest.mark.parametrize("name", ["event_id", "attempts", "available_at"])
def test_a_huge_field_of_a_message_is_rejected_before_any_work(name: str) -> None:
    """A message has the form in which `claim` returned it."""
    case = Case(lambda **fields: OUTBOX.release([replace(MESSAGE, **fields)]), {}, {name: "messages"})

    problems = [problem_of(case, name, value) for value in HOSTILE]

    assert [] == [problem for problem in problems if problem]


@pytest.mark.parametrize("name", ["due_since", "event_id"])
def test_a_huge_field_of_a_position_is_rejected_before_any_work(name: str) -> None:
    """A position has the form in which `claim_from` returned it."""
    subjects = {"due_since": "due_since", "event_id": "position"}
    case = Case(lambda **fields: OUTBOX.claim_from(replace(OutboxPosition(), **fields)), {}, subjects)

    problems = [problem_of(case, name, value) for value in HOSTILE]

    assert [] == [problem for problem in problems if problem]


@pytest.mark.parametrize("variable", [*VARIABLES.values(), "APP_DATABASE_UNKNOWN"])
def test_a_huge_environment_variable_is_rejected_before_any_work(variable: str) -> None:
    """The problem names the variable and does not quote its value."""
    environ = {
        "APP_ENVIRONMENT": "test",
        "APP_DATABASE_HOST": "127.0.0.1",
        "APP_DATABASE_NAME": "x",
        "APP_DATABASE_USER": "u",
        "APP_DATABASE_PASSWORD": "p",
    }
    case = Case(lambda **given: rp.DatabaseSettings.from_env({**environ, **given}), {}, {variable: variable})

    problems = [problem_of(case, variable, value) for value in ("text", "white space", "words", "labels", "brackets")]

    assert [] == [problem for problem in problems if problem]


def test_many_and_long_unknown_variables_are_one_short_error() -> None:
    """The error lists the first ten, and cuts off their names."""
    environ = {f"APP_DATABASE_{number:06}_{'X' * 10_000}": "x" for number in range(1000)}
    case = Case(rp.DatabaseSettings.from_env, {}, {"environ": "APP_DATABASE_000000"})
    started = time.process_time()

    with pytest.raises(errors.ConfigurationError) as raised:
        case.call(environ=environ)

    assert len(str(raised.value)) < 5_000
    assert time.process_time() - started < MAX_SECONDS


def test_an_import_takes_no_more_rows_than_its_batch() -> None:
    """Rows come from a stream; those after the batch are not taken before its statement."""
    rows: Any = Counted(rp.ImportRow("ada@example.com"))

    with pytest.raises(ConnectionRefusedError):
        rp.bulk_import(SESSION, rows, batch=10)

    assert 10 == rows.taken


def test_an_import_counts_a_limited_number_of_reasons() -> None:
    """A reason may contain a part of a row, so each row could have its own."""
    rows = (rp.ImportRow("ada@example.com", consents=(rp.Consent(f"p{number}", ""),)) for number in range(1000))

    report = rp.bulk_import(SESSION, rows)

    assert (1000, 101) == (report.rejected, len(report.reasons))
    assert 900 == report.reasons[OTHER_REASONS]


NASTY = {
    "punycode labels": "a@" + "xn--" + "a" * 59 + ".xn--a.com",
    "many labels": "a@" + "a." * 120 + "com",
    "unicode labels": "a@" + "\u00e4." * 80 + "com",
    "combining marks": "a" + "\u0316\u0300" * 60 + "@example.com",
    "compatibility": "\ufdfa" * 60 + "@example.com",
    "joiners": "a@" + "\u0627\u200c" * 40 + ".com",
    "digits of many scripts": "a@" + "\u0660\u06f0" * 40 + ".com",
    "dots": "." * 200 + "@example.com",
    "at signs": "@" * 254,
    "quotes": '"' * 250 + "@example.com",
    "no end": "a." * 127,
    "white space": " " * 300 + "a@example.com" + " " * 190,
}


@pytest.mark.parametrize("name", NASTY)
def test_an_address_is_checked_in_little_time(name: str) -> None:
    """No address within the limit of the length makes the check slow; the fastest of five attempts counts."""
    tracemalloc.stop()  # it would count a multiple of the time

    def seconds() -> float:
        started = time.process_time()
        with suppress(errors.InvalidEmail):
            normalise_email(NASTY[name])
        return time.process_time() - started

    fastest = min(seconds() for _ in range(5))
    tracemalloc.start()

    assert fastest < 0.01
