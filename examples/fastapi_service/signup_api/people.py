"""The routes of people who have verified their mailbox: see, download and change their data, and leave."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Response
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from registration_persistence import (
    Consent,
    ConsentRepository,
    PrivacyRepository,
    Registration,
    RegistrationRepository,
    Status,
)
from registration_persistence.errors import IllegalTransition, RegistrationNotFound
from signup_api.cookies import SignedIn, own_page, remove_cookies
from signup_api.forms import ChangeForm, NewsletterForm, Person
from signup_api.problems import DETAILS, described
from signup_api.registrations import Database, limited

_NEWSLETTER_VERSION = "1"

router = APIRouter(tags=["your data"], dependencies=[Depends(own_page), Depends(limited)])


@router.get("/me", responses=described(401))
async def show(registration_id: SignedIn, response: Response, database: Database) -> Person:
    """Return the data of the person who has verified their mailbox in this browser."""

    def work(session: Session) -> Person:
        return _person(session, _existing(RegistrationRepository(session).get(registration_id)))

    response.headers["Cache-Control"] = "no-store"
    return await database.run(work, autocommit=True)


@router.get("/me/export", responses=described(401))
async def export(registration_id: SignedIn, database: Database) -> JSONResponse:
    """Return everything that is stored about the person, as a file."""

    def work(session: Session) -> dict[str, Any]:
        return PrivacyRepository(session).export_subject(registration_id)

    with _unknown_if_erased():
        stored = await database.run(work, autocommit=True)
    if stored["registration"]["status"] == Status.ERASED:
        raise _unknown()
    headers = {"Content-Disposition": 'attachment; filename="my-data.json"', "Cache-Control": "no-store"}
    return JSONResponse(stored, headers=headers)


@router.patch("/me", responses=described(400, 401, 403, 409))
async def change(form: ChangeForm, registration_id: SignedIn, database: Database) -> Person:
    """Change the name, if nobody has changed the data since they were shown."""

    def work(session: Session) -> Person:
        repository = RegistrationRepository(session)
        patch = {"display_name": form.display_name}
        return _person(session, repository.update_profile(registration_id, patch, expected_version=form.version))

    with _unknown_if_erased():
        return await database.run(work)


@router.put("/me/newsletter", responses=described(400, 401, 403))
async def decide(form: NewsletterForm, registration_id: SignedIn, database: Database) -> Person:
    """Record the decision about the newsletter; each decision stays in the history."""

    def work(session: Session) -> Person:
        consent = Consent("newsletter", _NEWSLETTER_VERSION, granted=form.granted)
        return _person(session, ConsentRepository(session).record(registration_id, [consent]))

    with _unknown_if_erased():
        return await database.run(work)


@router.post("/me/cancellation", responses=described(401, 403, 409))
async def cancel(registration_id: SignedIn, database: Database) -> Person:
    """Cancel a registration that is not active; a repetition changes nothing."""

    def work(session: Session) -> Person:
        return _person(session, RegistrationRepository(session).cancel(registration_id).registration)

    try:
        with _unknown_if_erased():
            return await database.run(work)
    except IllegalTransition as error:
        raise HTTPException(409, f"this registration is {error.current}: it can only be erased") from None


@router.delete("/me", status_code=204, responses=described(401, 403))
async def erase(registration_id: SignedIn, response: Response, database: Database) -> None:
    """Erase the data of the person, and sign out; a repetition changes nothing."""

    def work(session: Session) -> None:
        PrivacyRepository(session, actor="user").erase(registration_id)

    with _unknown_if_erased():
        await database.run(work, autocommit=True)
    remove_cookies(response)


@router.delete("/session", status_code=204, responses=described(403))
async def sign_out(response: Response) -> None:
    """Forget who the visitor is."""
    remove_cookies(response)


def _person(session: Session, registration: Registration) -> Person:
    decisions = {record.purpose: record.granted for record in ConsentRepository(session).current(registration.id)}
    return Person(
        id=registration.id,
        status=registration.status,
        version=registration.version,
        email=registration.email or "",
        display_name=registration.profile.get("display_name", ""),
        newsletter=decisions.get("newsletter", False),
        signed_up_at=registration.created_at,
        verified_at=registration.verified_at,
        expires_at=registration.expires_at,
    )


def _existing(registration: Registration | None) -> Registration:
    if registration is None or registration.status == Status.ERASED:
        raise _unknown()
    return registration


@contextmanager
def _unknown_if_erased() -> Iterator[None]:
    """Raise 401 if the registration of the cookie was erased, or was purged later."""
    try:
        yield
    except RegistrationNotFound:
        raise _unknown() from None
    except IllegalTransition as error:
        if error.current == Status.ERASED:
            raise _unknown() from None
        raise


def _unknown() -> HTTPException:
    return HTTPException(401, DETAILS[401])
