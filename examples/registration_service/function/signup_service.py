"""Four Lambda handlers of a registration service behind API Gateway, written as a user of the package writes them.

Deploy them with `APP_DATABASE_*` set. Replace the body of `send_mail` to send real mail.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from registration_persistence import (
    Consent,
    LambdaContext,
    RegistrationPersistenceError,
    RegistrationRepository,
    VerificationRepository,
    deadline,
    get_db,
    outcomes,
    session_scope,
)
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    IdempotencyConflict,
    IllegalTransition,
    InvalidInput,
    RegistrationNotFound,
)

logger = logging.getLogger(__name__)

Event = Mapping[str, Any]
Response = dict[str, Any]


def send_mail(address: str, *, known: bool, token: str) -> None:
    """Send the verification link to *address*; if the mailbox is already *known*, the mail says so."""
    logger.info("mail to an address of %d characters, known=%s, token of %d", len(address), known, len(token))


def response(code: int, **body: str) -> Response:
    """Return a response in the format of API Gateway."""
    return {"statusCode": code, "body": json.dumps(body)}


class BadRequest(Exception):
    """The request is incomplete; the message says which part is missing."""


def form_of(event: Event, *fields: str) -> dict[str, Any]:
    """Return the body of *event*, which must be a JSON object with *fields*."""
    try:
        form = json.loads(event.get("body") or "")
    except ValueError:
        form = None
    if not isinstance(form, dict) or not set(fields) <= set(form):
        raise BadRequest(f"expected a JSON object with {', '.join(fields)}")
    return form


def header_of(event: Event, name: str) -> str:
    """Return the header *name* (in lower case) of *event*; API Gateway keeps the case that the client sent."""
    for key, value in event.get("headers", {}).items():
        if key.lower() == name:
            return str(value)
    raise BadRequest(f"expected the header {name}")


def answering_errors(handler: Callable[[Event, object], Response]) -> Callable[[Event, LambdaContext], Response]:
    """Translate errors to status codes: 400 invalid, 404 unknown, 409 conflict, 503 may be repeated, otherwise 500."""

    def answer(event: Event, context: LambdaContext) -> Response:
        try:
            with deadline(context):
                return handler(event, context)
        except (BadRequest, InvalidInput) as error:
            return response(400, problem=str(error))
        except IdempotencyConflict:
            return response(409, problem="this idempotency key was used for another form")
        except RegistrationNotFound:
            return response(404, problem="there is no such registration")
        except IllegalTransition:
            return response(409, problem="the mailbox is not verified, or the verification has expired")
        except (RegistrationPersistenceError, SQLAlchemyError) as error:
            logger.exception("the database failed")
            # After an unknown commit the client sends the same idempotency key, or opens the same link, again.
            again = isinstance(error, CommitOutcomeUnknown) or getattr(error, "retryable", False)
            return response(503 if again else 500, problem="please try again later")

    return answer


@answering_errors
def sign_up(event: Event, _: object) -> Response:
    """POST /registrations: return the same response for a new mailbox and for a known one."""
    form = form_of(event, "email", "display_name", "terms_version", "newsletter")
    key = header_of(event, "idempotency-key")

    def work(session: Session) -> outcomes.RegisterOutcome:
        return RegistrationRepository(session).register(
            form["email"],
            profile={"display_name": form["display_name"]},
            consents=[Consent("terms", form["terms_version"]), Consent("newsletter", "1", granted=form["newsletter"])],
            idempotency_key=key,
        )

    outcome = get_db().run(work, idempotent=True, autocommit=True)
    if isinstance(outcome, outcomes.Registered):
        send_mail(outcome.registration.email or "", known=outcome.email_verified_elsewhere, token=outcome.token)
    return response(202, status="check your mail")


@answering_errors
def verify(event: Event, _: object) -> Response:
    """POST /verifications: verify the mailbox; opening a link twice is a success, which shows no registration."""
    with session_scope(autocommit=True) as session:
        outcome = VerificationRepository(session).verify_by_token(form_of(event, "token")["token"])
    match outcome:
        case outcomes.Verified(registration):
            return response(200, id=str(registration.id), status=registration.status)
        case outcomes.AlreadyVerified():
            return response(200, status="verified before: please sign in")
        case _:
            return response(410, problem="the link is no longer valid: please sign up again")


def id_of(event: Event) -> UUID:
    """Return the id of the registration from the path of *event*."""
    try:
        return UUID(event["pathParameters"]["id"])
    except ValueError:
        raise BadRequest("expected the id of a registration") from None


@answering_errors
def resend(event: Event, _: object) -> Response:
    """POST /registrations/{id}/mails: send another link, at most one per minute and five in total.

    The previous link no longer works then.
    """
    with session_scope(autocommit=True) as session:
        outcome = VerificationRepository(session).issue_token(id_of(event))
    match outcome:
        case outcomes.Issued(registration, secret):
            send_mail(registration.email or "", known=False, token=secret)
            return response(202, status="check your mail")
        case outcomes.Throttled(retry_at):
            return response(429, problem=f"not before {retry_at.isoformat()}" if retry_at else "no more mails")
        case outcomes.NotPending(status):
            return response(409, problem=f"this registration is {status}")


@answering_errors
def activate(event: Event, _: object) -> Response:
    """POST /registrations/{id}/activation: activate a verified registration."""
    with session_scope(autocommit=True) as session:
        active = RegistrationRepository(session, actor="system").activate(id_of(event))
    return response(200, id=str(active.id), status=active.status)
