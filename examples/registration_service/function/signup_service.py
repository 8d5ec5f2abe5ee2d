"""The handlers of people who sign up, behind API Gateway, written as a user of the package writes them.

Deploy them with `APP_DATABASE_*` and `SIGNUP_SECRET` set. Replace the body of `send_mail` to send real mail.
"""

import logging
from typing import Any
from uuid import UUID

from answers import Event, Refused, Response, answering_errors, choice_of, form_of, header_of, response, throttled
from cookies import registration_of, with_cookie
from keys import peppers
from sqlalchemy.orm import Session

from registration_persistence import (
    Consent,
    Registration,
    RegistrationRepository,
    VerificationRepository,
    get_db,
    outcomes,
    session_scope,
)
from registration_persistence.errors import RegistrationNotFound

logger = logging.getLogger(__name__)

_GONE = "the link is no longer valid: please sign up again"
# Higher than the five mails that a person may ask for, because each sign-up with a code has issued a token before it.
_MAX_ISSUED = 20


def send_mail(address: str, *, known: bool, token: str = "", code: str = "") -> None:
    """Send the link with *token*, or *code*, to *address*; if the mailbox is already *known*, the mail says so.

    The link is `/confirm.html#token=…` below the variable SIGNUP_URL: not below the host of the request, which the
    client chooses. Browsers do not send the part after `#` to servers, so no log contains the token.
    """
    size = f"token of {len(token)}" if token else f"code of {len(code)}"
    logger.info("mail to an address of %d characters, known=%s, %s", len(address), known, size)


@answering_errors
def sign_up(event: Event, _: object) -> Response:
    """POST /registrations: return the same response for a new mailbox and for a known one."""
    form = form_of(event, email=str, display_name=str, terms_version=str)
    confirm_by = choice_of(form, "confirm_by", "link", "code")
    key = header_of(event, "idempotency-key")
    newsletter = form.get("newsletter", False)
    if key is None or not isinstance(newsletter, bool):
        raise Refused(400, "expected the header idempotency-key, and newsletter to be true or false")

    def work(session: Session) -> outcomes.RegisterOutcome:
        return RegistrationRepository(session).register(
            form["email"],
            profile={"display_name": form["display_name"]},
            consents=[Consent("terms", form["terms_version"]), Consent("newsletter", "1", granted=newsletter)],
            idempotency_key=key,
        )

    outcome = get_db().run(work, idempotent=True, autocommit=True)
    if isinstance(outcome, outcomes.Registered):
        address, known = outcome.registration.email or "", outcome.email_verified_elsewhere
        if confirm_by == "link":
            send_mail(address, known=known, token=outcome.token)
        else:
            code = _issued(outcome.registration.id, "code", min_gap=0, max_issued=_MAX_ISSUED).secret
            send_mail(address, known=known, code=code)
    return with_cookie(response(202, status="check your mail"), "sign_up", outcome.registration.id)


@answering_errors
def verify(event: Event, _: object) -> Response:
    """POST /verifications: verify the mailbox; opening a link twice is a success, which shows no registration."""
    with session_scope(autocommit=True) as session:
        outcome = VerificationRepository(session).verify_by_token(form_of(event, token=str)["token"])
    return _verified(outcome)


@answering_errors
def verify_by_code(event: Event, _: object) -> Response:
    """POST /verifications/code: verify the mailbox of the sign-up of this browser."""
    registration_id = registration_of(event, "sign_up")
    code = form_of(event, code=str)["code"]
    try:
        with session_scope(autocommit=True) as session:
            outcome = VerificationRepository(session, peppers=peppers()).verify_by_code(registration_id, code)
    except RegistrationNotFound:
        raise Refused(410, _GONE) from None
    match outcome:
        case outcomes.WrongCode(left):
            raise Refused(403, "the code is wrong", attempts_left=left)
        case outcomes.LockedOut():
            raise Refused(403, "the code was wrong too often: ask for another mail", attempts_left=0)
    return _verified(outcome)


@answering_errors
def send_again(event: Event, _: object) -> Response:
    """POST /mails: send another mail to the mailbox of the sign-up of this browser."""
    registration_id = registration_of(event, "sign_up")
    confirm_by = choice_of(form_of(event), "confirm_by", "link", "code")
    try:
        return _send_again(registration_id, confirm_by)
    except RegistrationNotFound:
        raise Refused(410, _GONE) from None


@answering_errors
def resend(event: Event, _: object) -> Response:
    """POST /registrations/{id}/mails: send another link, at most one per minute and five in total.

    The previous link no longer works then.
    """
    return _send_again(_id_of(event), "link")


@answering_errors
def activate(event: Event, _: object) -> Response:
    """POST /registrations/{id}/activation: activate a verified registration."""
    with session_scope(autocommit=True) as session:
        active = RegistrationRepository(session, actor="system").activate(_id_of(event))
    return response(200, id=str(active.id), status=active.status)


def _id_of(event: Event) -> UUID:
    """Return the id of the registration from the path of *event*."""
    try:
        return UUID(event["pathParameters"]["id"])
    except ValueError:
        raise Refused(400, "expected the id of a registration") from None


def _issued(registration_id: UUID, confirm_by: str, **limits: Any) -> outcomes.Issued:
    with session_scope(autocommit=True) as session:
        repository = VerificationRepository(session, peppers=peppers())
        issue = repository.issue_token if confirm_by == "link" else repository.issue_code
        outcome = issue(registration_id, **limits)
    match outcome:
        case outcomes.Issued():
            return outcome
        case outcomes.Throttled(retry_at):
            raise throttled(retry_at)
        case outcomes.NotPending(status):
            raise Refused(409, f"this registration is {status}")


def _send_again(registration_id: UUID, confirm_by: str) -> Response:
    outcome = _issued(registration_id, confirm_by)
    secret = {"token" if confirm_by == "link" else "code": outcome.secret}
    send_mail(outcome.registration.email or "", known=False, **secret)
    return response(202, status="check your mail")


def _verified(outcome: outcomes.VerifyOutcome) -> Response:
    match outcome:
        case outcomes.Verified(registration):
            return _signed_in(registration)
        case outcomes.AlreadyVerified():
            return response(200, status="verified before: please sign in")
        case _:
            raise Refused(410, _GONE)


def _signed_in(registration: Registration) -> Response:
    answer = response(200, id=str(registration.id), status=registration.status)
    return with_cookie(answer, "session", registration.id)
