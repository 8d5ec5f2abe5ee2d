"""The routes of people who sign up; each is one repository call in one round trip."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, HTTPException
from sqlalchemy import Connection

from registration_persistence import (
    AsyncDatabase,
    Consent,
    Registration,
    RegistrationRepository,
    VerificationRepository,
    deadline,
    get_async_db,
    outcomes,
)
from signup_api.forms import KnownRegistration, Notice, SignUpForm, VerificationForm
from signup_api.mail import send_mail
from signup_api.problems import DETAILS, described

REQUEST_SECONDS = 5


async def limited() -> AsyncIterator[None]:
    """End every wait of the request in time; a dependency that is not `async` would set the deadline in a thread."""
    with deadline(REQUEST_SECONDS):
        yield


async def async_database() -> AsyncDatabase:
    """Return the database of this process."""
    return get_async_db()


Database = Annotated[AsyncDatabase, Depends(async_database)]
Key = Annotated[
    str,
    Header(
        description="Random text, the same if the client repeats the request.",
        pattern=r"^[!-~]{1,255}$",
        examples=["6f1c9e3a"],
    ),
]

router = APIRouter(tags=["registrations"], dependencies=[Depends(limited)])


@router.post("/registrations", status_code=202, responses=described(400, 409))
async def sign_up(form: SignUpForm, idempotency_key: Key, database: Database) -> Notice:
    """Store a sign-up and mail a link; the response is the same for a new mailbox and for a known one."""

    def work(connection: Connection) -> outcomes.RegisterOutcome:
        return RegistrationRepository(connection).register(
            form.email,
            profile={"display_name": form.display_name},
            consents=[Consent("terms", form.terms_version), Consent("newsletter", "1", granted=form.newsletter)],
            idempotency_key=idempotency_key,
        )

    outcome = await database.run(work, single=True, idempotent=True)
    if isinstance(outcome, outcomes.Registered):
        await send_mail(outcome.registration.email or "", known=outcome.email_verified_elsewhere, token=outcome.token)
    return Notice(status="check your mail")


@router.post("/verifications", responses=described(400, 410))
async def verify(form: VerificationForm, database: Database) -> KnownRegistration | Notice:
    """Verify the mailbox; opening a link twice is a success, which shows no registration."""

    def work(connection: Connection) -> outcomes.VerifyOutcome:
        return VerificationRepository(connection).verify_by_token(form.token)

    match await database.run(work, single=True):
        case outcomes.Verified(registration):
            return KnownRegistration(id=registration.id, status=registration.status)
        case outcomes.AlreadyVerified():
            return Notice(status="verified before: please sign in")
        case _:
            raise HTTPException(410, DETAILS[410])


@router.post("/registrations/{registration_id}/mails", status_code=202, responses=described(404, 409, 429))
async def resend(registration_id: UUID, database: Database) -> Notice:
    """Send another link, at most one per minute and five in total; the previous link no longer works then."""

    def work(connection: Connection) -> outcomes.IssueOutcome:
        return VerificationRepository(connection).issue_token(registration_id)

    match await database.run(work, single=True):
        case outcomes.Issued(registration, secret):
            await send_mail(registration.email or "", known=False, token=secret)
            return Notice(status="check your mail")
        case outcomes.Throttled(retry_at):
            raise _throttled(retry_at)
        case outcomes.NotPending(status):
            raise HTTPException(409, f"this registration is {status}")


@router.post("/registrations/{registration_id}/activation", responses=described(404, 409))
async def activate(registration_id: UUID, database: Database) -> KnownRegistration:
    """Activate a verified registration."""

    def work(connection: Connection) -> Registration:
        return RegistrationRepository(connection, actor="system").activate(registration_id)

    active = await database.run(work, single=True)
    return KnownRegistration(id=active.id, status=active.status)


def _throttled(retry_at: datetime | None) -> HTTPException:
    if retry_at is None:
        return HTTPException(429, "no more mails")
    # HTTP knows no fractions of a second.
    allowed = format_datetime(retry_at + timedelta(seconds=1), usegmt=True)
    return HTTPException(429, f"not before {retry_at.isoformat()}", {"Retry-After": allowed})
