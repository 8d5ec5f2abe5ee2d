"""No exception from a public method has a frame with an argument, whatever raised it."""

import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from support import untyped

from registration_persistence import (
    Consent,
    ConsentRepository,
    EventRepository,
    ImportRow,
    OutboxRepository,
    Peppers,
    PrivacyRepository,
    RegistrationRepository,
    Retention,
    VerificationRepository,
    bulk_import,
)
from registration_persistence.database.events import Events
from registration_persistence.outcomes import OutboxMessage

MAILBOX, NAME, TOKEN = "ada.lovelace@example.com", "Augusta Ada King", "T" * 43
REPOSITORIES = (
    RegistrationRepository, VerificationRepository, ConsentRepository, EventRepository, OutboxRepository, Retention,
    PrivacyRepository,
)  # fmt: skip
IDENTITY = UUID(int=7)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MESSAGE = OutboxMessage(IDENTITY, IDENTITY, "registration.verified", 1, 1, None, NOW, None)
VALID: dict[str, Any] = {
    "email": MAILBOX, "profile": {"name": NAME}, "patch": {"name": NAME}, "consents": [Consent("terms", "1")],
    "idempotency_key": f"key of {MAILBOX}", "token": TOKEN, "code": "123456", "registration_id": IDENTITY,
    "before": NOW, "message": MESSAGE, "messages": [MESSAGE], "event_ids": [IDENTITY], "reason": "user",
    "delay": 1, "rows": [ImportRow(MAILBOX, profile={"name": NAME})],
}  # fmt: skip


class Bug(Exception):
    """A mistake in the service."""


class Stop(BaseException):
    """The end of the process."""


def explode(*_arguments: object, **_options: object) -> Any:
    """Raise the mistake."""
    raise Bug


OF_THE_DECORATOR = {"error", "handled", "link", "function", "kinds", "observation", "method", "name"}
DUNDERS = (
    "__iter__", "__len__", "__str__", "__repr__", "__bool__", "__int__", "__float__", "__index__", "__hash__",
    "__eq__", "__lt__", "__gt__", "__le__", "__ge__", "__contains__", "__getitem__", "__format__", "keys", "items",
    "values", "encode", "split", "strip", "utcoffset", "total_seconds", "lower", "casefold", "bytes", "isascii",
)  # fmt: skip


def exploding(base: type) -> type:
    """Return a subclass of *base* whose methods raise."""
    methods: dict[str, Any] = {
        name: explode for name in DUNDERS if hasattr(base, name) or name in {"__iter__", "__len__", "__bool__", "keys"}
    }
    return type(f"Exploding{base.__name__}", (base,), methods)


class BrokenZone(tzinfo):
    """A time zone that raises."""

    utcoffset = dst = tzname = explode


def broken_generator() -> Iterator[Any]:
    """Yield a valid consent, then raise."""
    yield VALID["consents"][0]
    raise Bug


def broken_values() -> list[Any]:
    """Return values that raise when they are looked at."""
    return [
        broken_generator(),
        exploding(object)(),
        exploding(str)(MAILBOX),
        exploding(dict)(name=NAME),
        exploding(list)([NAME]),
        exploding(int)(7),
        exploding(float)(7),
        exploding(bytes)(b"7"),
        exploding(timedelta)(7),
        exploding(UUID)(int=7),
        datetime(2026, 1, 1, tzinfo=BrokenZone()),
        {"name": exploding(object)()},
        [exploding(object)()],
        [ImportRow(exploding(str)(MAILBOX), profile=exploding(dict)(name=NAME))],
    ]


def calls(*, observed: bool) -> Iterator[tuple[str, inspect.Signature, Callable[..., Any]]]:
    """Yield every public method of the repositories, bound to a session whose engine raises `Stop`.

    Args:
        observed: Whether each call is an operation that is observed.
    """

    def stop() -> Any:
        raise Stop

    engine: Any = create_engine("postgresql+psycopg://", creator=stop)
    if observed:
        engine.dialect.events = Events()
        engine.dialect.events.observe(lambda _operation: nullcontext())
    session = Session(engine)
    for repository in REPOSITORIES:
        bound: Any = repository
        made = (
            bound(session, peppers=Peppers({1: b"1" * 32})) if repository is VerificationRepository else bound(session)
        )
        for name, method in inspect.getmembers(made, inspect.ismethod):
            if not name.startswith("_"):
                yield f"{repository.__name__}.{name}", inspect.signature(method), method
    importer = partial(untyped(bulk_import), session)
    yield "bulk_import", inspect.signature(importer), importer


def leaks(error: BaseException | None) -> list[str]:
    """Return the frames outside of this file that have local variables other than the decorator's."""
    found = []
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename != __file__ and not set(frame.f_locals) <= OF_THE_DECORATOR:
                found.append(f"{frame.f_code.co_qualname}: {sorted(frame.f_locals)}")
        error = error.__cause__ or error.__context__
    return found


@pytest.mark.parametrize("observed", [False, True])
def test_no_argument_is_in_a_frame_of_the_package(*, observed: bool) -> None:
    """Each argument of each method is replaced by each broken value; the exception keeps its frames, without locals."""
    found, raised, stopped = [], 0, 0
    for name, signature, method in calls(observed=observed):
        required = {n: VALID[n] for n, p in signature.parameters.items() if n in VALID}
        for parameter in (None, *signature.parameters):
            for value in broken_values() if parameter else [None]:
                arguments = {**required, **({parameter: value} if parameter else {})}
                try:
                    method(**arguments)
                except Bug as error:
                    raised += 1
                    found += [(name, parameter, leak) for leak in leaks(error)]
                except Stop as error:
                    stopped += 1
                    found += [(name, parameter, leak) for leak in leaks(error)]
                except Exception as error:  # noqa: BLE001 whatever it is, it must not leak
                    found += [(name, parameter, leak) for leak in leaks(error)]

    assert [] == found
    assert raised > 20
    assert stopped > 20


def test_the_traceback_of_a_bug_still_names_its_lines() -> None:
    """A developer sees the functions and lines through which the exception came."""
    with pytest.raises(Bug) as raised:
        RegistrationRepository(Session()).register(MAILBOX, consents=broken_generator())

    names = [entry.name for entry in raised.traceback]
    assert ["register", "checked_consents", "at_most", "broken_generator"] == names[-4:]


def test_the_frames_of_the_caller_are_kept() -> None:
    """A generator that raises a stored exception is not closed, and what the caller was handling keeps its locals."""

    def numbers() -> Iterator[Any]:
        try:
            explode(MAILBOX)
        except Bug as error:
            yield error
        yield "still open"

    suspended = numbers()
    stored = next(suspended)

    def raise_stored() -> Iterator[Any]:
        yield VALID["consents"][0]
        raise stored

    with pytest.raises(Bug):
        RegistrationRepository(Session()).register(MAILBOX, consents=raise_stored())

    assert "still open" == next(suspended)

    frames = []
    try:
        explode(MAILBOX)
    except Bug as outer:
        with pytest.raises(Bug):
            RegistrationRepository(Session()).register(MAILBOX, consents=broken_generator())
        frames = [frame for frame, _ in traceback.walk_tb(outer.__traceback__)]
    assert "_arguments" in frames[-1].f_locals


@pytest.mark.parametrize("argument", ["actor", "correlation_id", "purposes"])
def test_a_constructor_keeps_no_argument(argument: str) -> None:
    """A mailbox that is passed as another argument by mistake is in no frame of the package."""
    with pytest.raises(Exception, match=r"actor|correlation|purposes") as raised:
        RegistrationRepository(Session(), **untyped({argument: f"{MAILBOX} {NAME}"}))

    assert [] == leaks(raised.value)
