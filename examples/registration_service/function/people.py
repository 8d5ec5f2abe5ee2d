"""The handlers of people who have verified their mailbox: see, download and change their data, and leave."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from answers import Event, Refused, Response, answering_errors, form_of, response
from cookies import registration_of, unknown_visitor, without_cookies
from sqlalchemy.orm import Session

from registration_persistence import (
    Consent,
    ConsentRepository,
    PrivacyRepository,
    Registration,
    RegistrationRepository,
    Status,
    get_db,
    session_scope,
)
from registration_persistence.errors import IllegalTransition, RegistrationNotFound


@answering_errors
def show(event: Event, _: object) -> Response:
    """GET /me: return the data of the person who has verified their mailbox in this browser."""
    registration_id = registration_of(event, "session")
    with session_scope(autocommit=True) as session:
        registration = RegistrationRepository(session).get(registration_id)
        if registration is None or registration.status == Status.ERASED:
            raise unknown_visitor("session")
        return response(200, **_person(session, registration))


@answering_errors
def export(event: Event, _: object) -> Response:
    """GET /me/export: return everything that is stored about the person, as a file."""
    with _unknown_if_erased(), session_scope(autocommit=True) as session:
        stored = PrivacyRepository(session).export_subject(registration_of(event, "session"))
    if stored["registration"]["status"] == Status.ERASED:
        raise unknown_visitor("session")
    answer = response(200, {"Content-Disposition": 'attachment; filename="my-data.json"'})
    return {**answer, "body": json.dumps(stored)}


@answering_errors
def change(event: Event, _: object) -> Response:
    """PATCH /me: change the name, if nobody has changed the data since they were shown."""
    registration_id, form = registration_of(event, "session"), form_of(event, display_name=str, version=int)

    def work(session: Session) -> dict[str, Any]:
        patch = {"display_name": form["display_name"]}
        repository = RegistrationRepository(session)
        return _person(session, repository.update_profile(registration_id, patch, expected_version=form["version"]))

    with _unknown_if_erased():
        return response(200, **get_db().run(work))


@answering_errors
def decide(event: Event, _: object) -> Response:
    """PUT /me/newsletter: record the decision about the newsletter; each decision stays in the history."""
    registration_id, form = registration_of(event, "session"), form_of(event, granted=bool)

    def work(session: Session) -> dict[str, Any]:
        consent = Consent("newsletter", "1", granted=form["granted"])
        return _person(session, ConsentRepository(session).record(registration_id, [consent]))

    with _unknown_if_erased():
        return response(200, **get_db().run(work))


@answering_errors
def cancel(event: Event, _: object) -> Response:
    """POST /me/cancellation: cancel a registration that is not active; a repetition changes nothing."""
    registration_id = registration_of(event, "session")

    def work(session: Session) -> dict[str, Any]:
        return _person(session, RegistrationRepository(session).cancel(registration_id).registration)

    try:
        with _unknown_if_erased():
            return response(200, **get_db().run(work))
    except IllegalTransition as error:
        raise Refused(409, f"this registration is {error.current}: it can only be erased") from None


@answering_errors
def erase(event: Event, _: object) -> Response:
    """DELETE /me: erase the data of the person, and sign out; a repetition changes nothing."""
    registration_id = registration_of(event, "session")
    with _unknown_if_erased(), session_scope(autocommit=True) as session:
        PrivacyRepository(session, actor="user").erase(registration_id)
    return without_cookies(response(204))


@answering_errors
def sign_out(_event: Event, _: object) -> Response:
    """DELETE /session: forget who the visitor is."""
    return without_cookies(response(204))


def _person(session: Session, registration: Registration) -> dict[str, Any]:
    decisions = {record.purpose: record.granted for record in ConsentRepository(session).current(registration.id)}
    times = {
        "signed_up_at": registration.created_at,
        "verified_at": registration.verified_at,
        "expires_at": registration.expires_at,
    }
    return {
        "id": str(registration.id),
        "status": registration.status,
        "version": registration.version,
        "email": registration.email or "",
        "display_name": registration.profile.get("display_name", ""),
        "newsletter": decisions.get("newsletter", False),
        **{name: None if time is None else time.isoformat() for name, time in times.items()},
    }


@contextmanager
def _unknown_if_erased() -> Iterator[None]:
    """Refuse with 401 if the registration of the cookie was erased, or was purged later."""
    try:
        yield
    except RegistrationNotFound:
        raise unknown_visitor("session") from None
    except IllegalTransition as error:
        if error.current == Status.ERASED:
            raise unknown_visitor("session") from None
        raise
