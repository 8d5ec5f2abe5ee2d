"""The routes of people who sign up; each is one repository call in one round trip."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, HTTPException, Request, Response
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
from registration_persistence.errors import RegistrationNotFound
from signup_api.cookies import Cookies, SignedUp, VisitorCookies, own_page
from signup_api.forms import CodeForm, KnownRegistration, MailForm, Notice, SignUpForm, VerificationForm
from signup_api.keys import Keys
from signup_api.mail import ConfirmBy, Mails, mail_of
from signup_api.problems import DETAILS, ProblemResponse, described, problem

REQUEST_SECONDS = 5

# Both are higher than the five that a person may ask for, because each attempt to send a mail issues a token.
_MAX_ISSUED = 20


async def limited() -> AsyncIterator[None]:
    """End every wait of the request in time; a dependency that is not `async` would set the deadline in a thread."""
    with deadline(REQUEST_SECONDS):
        yield


async def async_database() -> AsyncDatabase:
    """Return the database of this process."""
    return get_async_db()


async def service_mails(request: Request) -> Mails:
    """Return what sends the mails of this process."""
    mails: Mails = request.app.state.mails
    return mails


async def service_keys(request: Request) -> Keys:
    """Return the keys of this process."""
    keys: Keys = request.app.state.keys
    return keys


Database = Annotated[AsyncDatabase, Depends(async_database)]
ServiceMails = Annotated[Mails, Depends(service_mails)]
ServiceKeys = Annotated[Keys, Depends(service_keys)]
Key = Annotated[
    str,
    Header(
        description="Random text, the same if the client repeats the request.",
        pattern=r"^[!-~]{1,255}$",
        examples=["6f1c9e3a"],
    ),
]

router = APIRouter(tags=["registrations"], dependencies=[Depends(own_page), Depends(limited)])


@router.post("/registrations", status_code=202, responses=described(400, 403, 409))
async def sign_up(
    *,
    form: SignUpForm,
    idempotency_key: Key,
    response: Response,
    database: Database,
    mails: ServiceMails,
    cookies: VisitorCookies,
    keys: ServiceKeys,
) -> Notice:
    """Store a sign-up and mail a link or a code; the response is the same for a new mailbox and for a known one."""

    def work(connection: Connection) -> outcomes.RegisterOutcome:
        return RegistrationRepository(connection).register(
            form.email,
            profile={"display_name": form.display_name, "confirm_by": form.confirm_by},
            consents=[Consent("terms", form.terms_version), Consent("newsletter", "1", granted=form.newsletter)],
            idempotency_key=idempotency_key,
        )

    outcome = await database.run(work, single=True, idempotent=True)
    registration = outcome.registration
    if isinstance(outcome, outcomes.Registered) and not mails.from_outbox:
        secret = outcome.token
        if form.confirm_by == "code":
            secret = (await issued(database, keys, registration.id, "code", min_gap=0, max_issued=_MAX_ISSUED)).secret
        await mails.send(mail_of(registration, secret, form.confirm_by, known=outcome.email_verified_elsewhere))
    cookies.set(response, "sign_up", registration.id)
    return Notice(status="check your mail")


@router.post("/verifications", responses=described(400, 403, 410))
async def verify(
    form: VerificationForm, response: Response, database: Database, cookies: VisitorCookies
) -> KnownRegistration | Notice:
    """Verify the mailbox; opening a link twice is a success, which shows no registration."""

    def work(connection: Connection) -> outcomes.VerifyOutcome:
        return VerificationRepository(connection).verify_by_token(form.token)

    return _verified(await database.run(work, single=True), response, cookies)


@router.post("/verifications/code", response_model=KnownRegistration | Notice, responses=described(400, 401, 403, 410))
async def verify_by_code(
    *,
    form: CodeForm,
    registration_id: SignedUp,
    response: Response,
    database: Database,
    cookies: VisitorCookies,
    keys: ServiceKeys,
) -> KnownRegistration | Notice | ProblemResponse:
    """Verify the mailbox of the sign-up of this browser; after five wrong codes, only another mail helps."""

    def work(connection: Connection) -> outcomes.CodeOutcome:
        return VerificationRepository(connection, peppers=keys.peppers).verify_by_code(registration_id, form.code)

    try:
        outcome = await database.run(work, single=True)
    except RegistrationNotFound:
        raise HTTPException(410, DETAILS[410]) from None
    match outcome:
        case outcomes.WrongCode(left):
            return problem(403, "the code is wrong", attempts_left=left)
        case outcomes.LockedOut():
            return problem(403, "the code was wrong too often: ask for another mail", attempts_left=0)
    return _verified(outcome, response, cookies)


@router.post("/mails", status_code=202, responses=described(400, 401, 403, 409, 410, 429))
async def send_again(
    form: MailForm, registration_id: SignedUp, database: Database, mails: ServiceMails, keys: ServiceKeys
) -> Notice:
    """Send another mail to the mailbox of the sign-up of this browser, as `POST /registrations/{id}/mails` does."""
    try:
        return await _send_again(database, mails, keys, registration_id, form.confirm_by)
    except RegistrationNotFound:
        raise HTTPException(410, DETAILS[410]) from None


@router.post("/registrations/{registration_id}/mails", status_code=202, responses=described(403, 404, 409, 429))
async def resend(registration_id: UUID, database: Database, mails: ServiceMails, keys: ServiceKeys) -> Notice:
    """Send another link, at most one per minute and five in total; the previous link no longer works then."""
    return await _send_again(database, mails, keys, registration_id, "link")


@router.post("/registrations/{registration_id}/activation", responses=described(403, 404, 409))
async def activate(registration_id: UUID, database: Database) -> KnownRegistration:
    """Activate a verified registration."""

    def work(connection: Connection) -> Registration:
        return RegistrationRepository(connection, actor="system").activate(registration_id)

    active = await database.run(work, single=True)
    return KnownRegistration(id=active.id, status=active.status)


async def issued(
    database: AsyncDatabase,
    keys: Keys,
    registration_id: UUID,
    confirm_by: ConfirmBy,
    **limits: Any,
) -> outcomes.Issued:
    """Issue a token or a code, with the *limits* of `VerificationRepository.issue_token`.

    Raises:
        HTTPException: 429 if it is too early or too often; 409 if the registration does not wait for verification.
        RegistrationNotFound: There is no such registration.
    """

    def work(connection: Connection) -> outcomes.IssueOutcome:
        repository = VerificationRepository(connection, peppers=keys.peppers)
        issue = repository.issue_token if confirm_by == "link" else repository.issue_code
        return issue(registration_id, **limits)

    match await database.run(work, single=True):
        case outcomes.Issued() as outcome:
            return outcome
        case outcomes.Throttled(retry_at):
            raise _throttled(retry_at)
        case outcomes.NotPending(status):
            raise HTTPException(409, f"this registration is {status}")


async def _send_again(
    database: AsyncDatabase, mails: Mails, keys: Keys, registration_id: UUID, confirm_by: ConfirmBy
) -> Notice:
    outcome = await issued(database, keys, registration_id, confirm_by)
    await mails.send(mail_of(outcome.registration, outcome.secret, confirm_by))
    return Notice(status="check your mail")


def _verified(outcome: outcomes.VerifyOutcome, response: Response, cookies: Cookies) -> KnownRegistration | Notice:
    match outcome:
        case outcomes.Verified(registration):
            cookies.set(response, "session", registration.id)
            return KnownRegistration(id=registration.id, status=registration.status)
        case outcomes.AlreadyVerified():
            return Notice(status="verified before: please sign in")
        case _:
            raise HTTPException(410, DETAILS[410])


def _throttled(retry_at: datetime | None) -> HTTPException:
    if retry_at is None:
        return HTTPException(429, "no more mails")
    # HTTP knows no fractions of a second.
    allowed = format_datetime(retry_at + timedelta(seconds=1), usegmt=True)
    return HTTPException(429, f"not before {retry_at.isoformat()}", {"Retry-After": allowed})
