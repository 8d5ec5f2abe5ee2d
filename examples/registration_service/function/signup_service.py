"""Four Lambda handlers of a registration service behind API Gateway, as a user of the package writes them.

Deploy them with `APP_DATABASE_*` set. How mail is sent is for `send_mail`.
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
    session_scope,
)
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    IdempotencyConflict,
    IllegalTransition,
    InvalidInput,
    RegistrationNotFound,
)
from registration_persistence.outcomes import (
    AlreadyVerified,
    Issued,
    NotPending,
    Registered,
    Replayed,
    Throttled,
    Verified,
)

logger = logging.getLogger(__name__)

Event = Mapping[str, Any]
Response = dict[str, Any]


def send_mail(address: str, *, known: bool, token: str) -> None:
    """Send *address* the verification link, or where it is *known* already, a note that somebody tried to sign up."""
    logger.info("mail to an address of %d characters, known=%s, token of %d", len(address), known, len(token))


def response(code: int, **body: str) -> Response:
    """What API Gateway expects."""
    return {"statusCode": code, "body": json.dumps(body)}


class BadRequest(Exception):
    """The request lacks something; the message says what."""


def form_of(event: Event, *fields: str) -> dict[str, Any]:
    """Return the body of *event*, which must be an object with *fields*."""
    try:
        form = json.loads(event.get("body") or "")
    except ValueError:
        form = None
    if not isinstance(form, dict) or not set(fields) <= set(form):
        raise BadRequest(f"expected a JSON object with {', '.join(fields)}")
    return form


def header_of(event: Event, name: str) -> str:
    """Return a header of *event*; HTTP does not care about its case, API Gateway passes on what came."""
    for key, value in event.get("headers", {}).items():
        if key.lower() == name:
            return str(value)
    raise BadRequest(f"expected the header {name}")


def answering_errors(handler: Callable[[Event, object], Response]) -> Callable[[Event, LambdaContext], Response]:
    """Answer 400 to what is wrong, 409 to what cannot be done now, 503 to what may be repeated, 500 to the rest."""

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
            return response(409, problem="the mailbox is not proven, or that was too long ago")
        except (RegistrationPersistenceError, SQLAlchemyError) as error:
            logger.exception("the database failed")
            # After an unknown outcome the client sends the same idempotency key, or opens the same link, again.
            again = isinstance(error, CommitOutcomeUnknown) or getattr(error, "retryable", False)
            return response(503 if again else 500, problem="please try again later")

    return answer


@answering_errors
def sign_up(event: Event, _: object) -> Response:
    """POST /registrations: the same answer for a new and for a known mailbox."""
    form = form_of(event, "email", "display_name", "terms_version", "newsletter")
    key = header_of(event, "idempotency-key")

    def work(session: Session) -> Registered | Replayed:
        return RegistrationRepository(session).register(
            form["email"],
            profile={"display_name": form["display_name"]},
            consents=[Consent("terms", form["terms_version"]), Consent("newsletter", "1", granted=form["newsletter"])],
            idempotency_key=key,
        )

    outcome = get_db().run(work, idempotent=True, autocommit=True)
    if isinstance(outcome, Registered):
        send_mail(outcome.registration.email or "", known=outcome.email_verified_elsewhere, token=outcome.token)
    return response(202, status="check your mail")


@answering_errors
def verify(event: Event, _: object) -> Response:
    """POST /verifications: a link that is opened twice is no error."""
    with session_scope(autocommit=True) as session:
        outcome = VerificationRepository(session).verify_by_token(form_of(event, "token")["token"])
    match outcome:
        case Verified(registration) | AlreadyVerified(registration):
            return response(200, id=str(registration.id), status=registration.status)
        case _:
            return response(410, problem="the link is not valid any more: please sign up again")


def id_of(event: Event) -> UUID:
    """Return the registration's id, from the path of *event*."""
    try:
        return UUID(event["pathParameters"]["id"])
    except ValueError:
        raise BadRequest("expected the id of a registration") from None


@answering_errors
def resend(event: Event, _: object) -> Response:
    """POST /registrations/{id}/mails: another link, once a minute, five in all; the one before is dead then."""
    with session_scope(autocommit=True) as session:
        outcome = VerificationRepository(session).issue_token(id_of(event))
    match outcome:
        case Issued(registration, secret):
            send_mail(registration.email or "", known=False, token=secret)
            return response(202, status="check your mail")
        case Throttled(retry_at):
            return response(429, problem=f"not before {retry_at.isoformat()}" if retry_at else "no more mails")
        case NotPending(status):
            return response(409, problem=f"this registration is {status}")


@answering_errors
def activate(event: Event, _: object) -> Response:
    """POST /registrations/{id}/activation."""
    with session_scope(autocommit=True) as session:
        active = RegistrationRepository(session, actor="system").activate(id_of(event))
    return response(200, id=str(active.id), status=active.status)
