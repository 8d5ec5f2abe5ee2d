"""Three Lambda handlers of a registration service behind API Gateway, as a user of the package writes them.

Deploy them with `APP_DATABASE_*` set. How mail is sent is for `send_mail`.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from registration_persistence import (
    AlreadyVerified,
    Consent,
    IdempotencyConflict,
    InvalidInput,
    Registered,
    RegistrationNotFound,
    RegistrationPersistenceError,
    RegistrationRepository,
    StaleVersion,
    Verified,
    session_scope,
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


def answering_errors(handler: Callable[[Event, object], Response]) -> Callable[[Event, object], Response]:
    """Answer 400 to what the caller did wrong, 503 to what may be repeated, 500 to the rest."""

    def answer(event: Event, context: object) -> Response:
        try:
            return handler(event, context)
        except (InvalidInput, IdempotencyConflict) as error:
            return response(400, problem=str(error))
        except RegistrationNotFound:
            return response(404, problem="there is no such registration")
        except RegistrationPersistenceError as error:
            logger.exception("the database failed")
            return response(503 if error.retryable else 500, problem="please try again later")

    return answer


@answering_errors
def sign_up(event: Event, _: object) -> Response:
    """POST /registrations: the same answer for a new and for a known mailbox."""
    form = json.loads(event["body"])
    with session_scope(autocommit=True) as session:
        outcome = RegistrationRepository(session).register(
            form["email"],
            profile={"display_name": form["display_name"]},
            consents=[Consent("terms", form["terms_version"]), Consent("newsletter", "1", granted=form["newsletter"])],
            idempotency_key=event["headers"]["idempotency-key"],
        )
    if isinstance(outcome, Registered):
        send_mail(outcome.registration.email or "", known=outcome.email_proven, token=outcome.secret)
    return response(202, status="check your mail")


@answering_errors
def verify(event: Event, _: object) -> Response:
    """POST /verifications: a link that is opened twice is no error."""
    with session_scope(autocommit=True) as session:
        outcome = RegistrationRepository(session).verify_by_token(json.loads(event["body"])["token"])
    match outcome:
        case Verified(registration) | AlreadyVerified(registration):
            return response(200, id=str(registration.id), status=registration.status)
        case _:
            return response(410, problem="the link is not valid any more: please sign up again")


@answering_errors
def activate(event: Event, _: object) -> Response:
    """POST /registrations/{id}/activation: two statements in one transaction."""
    with session_scope() as session:
        registrations = RegistrationRepository(session, actor="system")
        registration = registrations.get(UUID(event["pathParameters"]["id"]))
        if registration is None or registration.status != "verified":
            return response(409, problem="the mailbox is not proven")
        try:
            active = registrations.activate(registration.id, expected_version=registration.version)
        except StaleVersion:
            return response(409, problem="somebody else changed it: please read it again")
    return response(200, id=str(active.id), status=active.status)
