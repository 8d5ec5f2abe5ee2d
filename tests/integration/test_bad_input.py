"""Invalid input: each kind has its own error, which is raised before anything is written."""

import inspect
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import TABLES, TERMS, Rows, SignUp

from registration_persistence import (
    Consent,
    ConsentRepository,
    Database,
    EventRepository,
    ImportRow,
    Peppers,
    PrivacyRepository,
    RegistrationPersistenceError,
    RegistrationRepository,
    Retention,
    VerificationRepository,
    bulk_import,
)
from registration_persistence.errors import (
    IdempotencyConflict,
    InvalidConsent,
    InvalidCursor,
    InvalidEmail,
    InvalidInput,
    InvalidProfile,
    ProfileTooLarge,
)
from registration_persistence.outcomes import Registered, TokenUnknown
from registration_persistence.schema.partitions import drop_event_partitions

KEY = "a key that was used"
NAIVE = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 a time without a zone is the invalid input
PEPPERS = Peppers({1: b"p" * 32})
UNPRINTABLE = "^the e-mail address has a space, or a character that is invisible or unassigned$"

Call = Callable[[Session, Registered], object]


def all_rows(session: Session) -> list[Sequence[Any]]:
    """Return all rows of all tables, as *session* sees them."""
    return [session.execute(text(f"SELECT * FROM {table} ORDER BY 1, 2")).all() for table in TABLES]


def registering(**arguments: Any) -> Call:
    """Register Bob with *arguments*."""
    return lambda session, _: RegistrationRepository(session, purposes=["terms"]).register(
        **{"email": "bob@example.com", **arguments}
    )


def addressing(address: Any) -> list[Call]:
    """Pass *address* to every method that takes an address."""
    return [
        registering(email=address),
        lambda session, _: RegistrationRepository(session).find_by_email(address),
        lambda session, _: PrivacyRepository(session).ids_by_email(address),
    ]


def describing(profile: Any) -> list[Call]:
    """Pass *profile* to every method that takes a profile."""
    return [
        registering(profile=profile),
        lambda session, made: RegistrationRepository(session).update_profile(made.registration.id, profile),
    ]


def agreeing(consent: Consent) -> list[Call]:
    """Pass *consent* to every method that takes a consent."""
    return [
        registering(consents=[consent]),
        lambda session, made: ConsentRepository(session, purposes=["terms"]).record(made.registration.id, [consent]),
    ]


def limiting(moment: Any) -> list[Call]:
    """Pass *moment* to every method that takes a point in time."""
    return [
        lambda session, _: Retention(session).purge_closed(moment),
        lambda session, _: Retention(session).purge_tokens(moment),
        lambda session, _: drop_event_partitions(session, moment),
    ]


def paging(edit: Callable[[str], Any]) -> list[Call]:
    """Ask for the page after a cursor that was returned by `list_page` and changed by *edit*."""

    def ask(session: Session, _: Registered) -> object:
        registrations = RegistrationRepository(session)
        cursor = registrations.list_page(limit=1).next_cursor
        assert cursor is not None
        return registrations.list_page(after=edit(cursor))

    return [ask]


BY_ID: dict[str, Callable[[Session, Any], object]] = {
    "get": lambda session, identity: RegistrationRepository(session).get(identity),
    "issue_token": lambda session, identity: VerificationRepository(session).issue_token(identity),
    "issue_code": lambda session, identity: VerificationRepository(session, peppers=PEPPERS).issue_code(identity),
    "verify_by_code": lambda session, identity: VerificationRepository(session, peppers=PEPPERS).verify_by_code(
        identity, "123456"
    ),
    "activate": lambda session, identity: RegistrationRepository(session).activate(identity),
    "update_profile": lambda session, identity: RegistrationRepository(session).update_profile(identity, {"x": 1}),
    "cancel": lambda session, identity: RegistrationRepository(session).cancel(identity),
    "record": lambda session, identity: ConsentRepository(session).record(identity, [TERMS]),
    "current": lambda session, identity: ConsentRepository(session).current(identity),
    "history": lambda session, identity: ConsentRepository(session).history(identity),
    "list_events": lambda session, identity: EventRepository(session).list_events(identity),
    "erase": lambda session, identity: PrivacyRepository(session).erase(identity),
    "export_subject": lambda session, identity: PrivacyRepository(session).export_subject(identity),
}


def identifying(convert: Callable[[Any], Any]) -> list[Call]:
    """Pass the result of *convert* for an existing id to every method that takes an id."""

    def calling(method: Callable[[Session, Any], object]) -> Call:
        return lambda session, made: method(session, convert(made.registration.id))

    return [calling(method) for method in BY_ID.values()]


REPOSITORIES = (
    RegistrationRepository,
    VerificationRepository,
    ConsentRepository,
    EventRepository,
    Retention,
    PrivacyRepository,
)


def test_every_method_that_takes_an_id_is_tried() -> None:
    """The list above has all of them."""
    assert set(BY_ID) == {
        name
        for repository in REPOSITORIES
        for name, method in inspect.getmembers(repository, inspect.isfunction)
        if not name.startswith("_") and "registration_id" in inspect.signature(method).parameters
    }


@pytest.mark.parametrize(
    ("calls", "error", "message", "value"),
    [
        pytest.param(
            addressing(f"lovelace@{'x.' * 160}com"),
            InvalidEmail,
            "longer than 254 bytes$",
            "lovelace",
            id="long address",
        ),
        pytest.param(
            addressing(f"lovelace@{'ä.' * 85}com"),
            InvalidEmail,
            "longer than 254 bytes$",
            "lovelace",
            id="long in bytes",
        ),
        pytest.param(addressing("a.\x07lovelace@example.com"), InvalidEmail, UNPRINTABLE, "lovelace", id="control"),
        pytest.param(addressing("a.\0lovelace@example.com"), InvalidEmail, UNPRINTABLE, "lovelace", id="NUL"),
        pytest.param(addressing("a.\u202elovelace@example.com"), InvalidEmail, UNPRINTABLE, "lovelace", id="bidi"),
        pytest.param(
            addressing("a.\u0378lovelace@example.com"), InvalidEmail, UNPRINTABLE, "lovelace", id="unassigned"
        ),
        pytest.param(addressing("a.\ud800lovelace@example.com"), InvalidEmail, UNPRINTABLE, "lovelace", id="surrogate"),
        pytest.param(
            addressing("lovelace@"),
            InvalidEmail,
            "There must be something after the @-sign",
            "lovelace",
            id="no domain",
        ),
        pytest.param(addressing("lovelace"), InvalidEmail, "must have an @-sign", "lovelace", id="no @"),
        pytest.param(
            addressing(["lovelace@example.com"]),
            InvalidEmail,
            "is of type list: expected a string",
            "lovelace",
            id="no string",
        ),
        pytest.param(
            describing(["lovelace"]), InvalidProfile, "is a list: expected an object$", "lovelace", id="no object"
        ),
        pytest.param(
            describing({"x": "lovelace" * 1024}),
            ProfileTooLarge,
            "^the profile takes 8201 bytes of JSON: expected at most 8192$",
            "lovelace",
            id="large profile",
        ),
        pytest.param(describing({"x": "love\0lace"}), InvalidProfile, "contains NUL", "lace", id="NUL in a value"),
        pytest.param(describing({"love\0lace": 1}), InvalidProfile, "contains NUL", "lace", id="NUL in a key"),
        pytest.param(
            describing({"x": [{"y": ["love\\\0lace"]}]}),
            InvalidProfile,
            "contains NUL",
            "lace",
            id="NUL deep down",
        ),
        pytest.param(
            describing({"lovelace": float("nan")}), InvalidProfile, "cannot be written as JSON", "lovelace", id="NaN"
        ),
        pytest.param(
            describing({"lovelace": [float("inf")]}),
            InvalidProfile,
            "cannot be written as JSON",
            "lovelace",
            id="infinite",
        ),
        pytest.param(
            agreeing(Consent("lovelace", "1")),
            InvalidConsent,
            "^the purpose of a consent is unknown: expected one of terms$",
            "lovelace",
            id="unknown purpose",
        ),
        pytest.param(limiting(NAIVE), InvalidInput, "^before is not a datetime with a time zone", "2026", id="naive"),
        pytest.param(
            limiting("2026-01-02T03:04:05Z"), InvalidInput, "^before is not a datetime with", "2026", id="no datetime"
        ),
        *(
            pytest.param(
                paging(edit),
                InvalidCursor,
                "^the cursor was not returned by list_page: pass the next_cursor of a page$",
                "zz",
                id=f"cursor {name}",
            )
            for name, edit in {
                "made up": lambda _: "zz",
                "edited": lambda cursor: cursor[:7] + "x" + cursor[8:],
                "cut": lambda cursor: cursor[:-1],
                "longer": lambda cursor: cursor + "0",
                "empty": lambda _: "",
                "in bytes": lambda cursor: cursor.encode(),
                "surrogate": lambda cursor: cursor[:-1] + "\ud800",
            }.items()
        ),
        *(
            pytest.param(
                [registering(idempotency_key=KEY, **payload)],
                IdempotencyConflict,
                r"^the idempotency key was used before with another payload: use a new key",
                quoted,
                id=f"key of another {name}",
            )
            for name, payload, quoted in (
                ("address", {"email": "lovelace@example.com", "consents": [TERMS]}, "lovelace"),
                ("profile", {"email": "ada@example.com", "consents": [TERMS], "profile": {"x": 1}}, KEY),
                ("consent", {"email": "ada@example.com"}, "ada@"),
            )
        ),
        *(
            pytest.param(
                [registering(idempotency_key=key)],
                InvalidInput,
                "^the idempotency key is not text of 1 to 255 bytes of UTF-8$",
                "lovelace",
                id=f"key {name}",
            )
            for name, key in {
                "empty": "",
                "long": "lovelace" * 32,
                "long in bytes": "lovelace" + "é" * 124,
                "in bytes": b"lovelace",
                "surrogate": "lovelace\ud800",
            }.items()
        ),
        *(
            pytest.param(identifying(convert), InvalidInput, message, "-", id=f"id {name}")
            for name, convert, message in (
                ("text", str, r"^the id of the registration is a str: expected a uuid\.UUID$"),
                ("number", int, r"^the id of the registration is a int: expected a uuid\.UUID$"),
                ("none", lambda _: None, r"^the id of the registration is a NoneType: expected a uuid\.UUID$"),
            )
        ),
    ],
)
def test_bad_input_has_its_own_error_and_writes_nothing(
    database: Database,
    sign_up: SignUp,
    rows: Rows,
    *,
    calls: list[Call],
    error: type[RegistrationPersistenceError],
    message: str,
    value: str,
) -> None:
    """The message does not quote the value, and the transaction continues and commits."""
    made = sign_up(idempotency_key=KEY)
    sign_up("bob@example.com")
    with database.session() as session:
        before = all_rows(session)
        for call in calls:
            with pytest.raises(error, match=message) as raised:
                call(session, made)
            assert error is raised.type
            assert value not in str(raised.value)
        assert before == all_rows(session)
        RegistrationRepository(session).register("eve@example.com")

    assert [{"n": 1}] == rows("SELECT count(*) AS n FROM registrations WHERE email = 'eve@example.com'")


def test_an_unusable_token_is_unknown(database: Database, sign_up: SignUp, rows: Rows) -> None:
    """A token that is too short, not ASCII or of an erased registration gives one outcome, and nothing is written."""
    made, erased = sign_up("ada@example.com"), sign_up("eve@example.com")
    with database.session() as session:
        PrivacyRepository(session).erase(erased.registration.id)
    with database.session() as session:
        verification = VerificationRepository(session)
        before = all_rows(session)
        for token in (made.token[:-1], "é" + made.token[1:], made.token + "=", erased.token):
            assert TokenUnknown() == verification.verify_by_token(token)
            assert TokenUnknown() == verification.peek_token(token)
        assert before == all_rows(session)
        verification.verify_by_token(made.token)

    assert [{"email": "ada@example.com"}] == rows("SELECT email FROM registrations WHERE status = 'verified'")


def test_an_import_row_without_a_time_zone_is_rejected(database: Database, rows: Rows) -> None:
    """The report counts the row under a reason that does not quote it, and the other rows are imported."""
    moment = NAIVE.replace(tzinfo=UTC)
    with database.session() as session:
        report = bulk_import(session, [ImportRow("ada@example.com", registered_at=at) for at in (NAIVE, moment, NAIVE)])

    assert (1, 0, 2) == (report.inserted, report.duplicates, report.rejected)
    assert {"registered_at is not a datetime with a time zone: use datetime.now(UTC), for example": 2} == report.reasons
    assert [{"created_at": moment}] == rows("SELECT created_at FROM registrations")
