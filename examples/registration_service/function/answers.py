"""Requests and responses of API Gateway: their parts, problem documents (RFC 9457), and the answer to each error."""

import base64
import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any

from keys import is_local
from sqlalchemy.exc import SQLAlchemyError

from registration_persistence import LambdaContext, RegistrationPersistenceError, deadline
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
Handler = Callable[[Event, LambdaContext], Response]

# A failover of Aurora and the rotation of a secret take longer, but most causes of 503 are over by then.
_RETRY_AFTER_SECONDS = 2
# No answer of the API may be stored or guessed to be a page.
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Refused(Exception):
    """The request is refused with a problem document.

    Args:
        status: The status of the response.
        detail: A sentence for the person.
        headers: More headers of the response.
        members: More members of the document.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: object) -> None:
        super().__init__(detail)
        self.response = problem(status, detail, headers, **members)


def response(code: int, headers: Mapping[str, str] | None = None, /, **body: object) -> Response:
    """Return a response in the format of API Gateway; without *body*, it is empty."""
    answer: Response = {"statusCode": code, "headers": {"Content-Type": "application/json", **_HEADERS}}
    answer["headers"].update(headers or {})
    if body:
        answer["body"] = json.dumps(body)
    return answer


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **members: object) -> Response:
    """Return a response with a problem document."""
    more = {"Content-Type": "application/problem+json", **(headers or {})}
    return response(status, more, title=HTTPStatus(status).phrase, status=status, detail=detail, **members)


def throttled(retry_at: datetime | None) -> Refused:
    """Return the refusal of a mail that is allowed at *retry_at*, or never if it is `None`."""
    if retry_at is None:
        return Refused(429, "no more mails")
    # HTTP knows no fractions of a second.
    allowed = format_datetime(retry_at + timedelta(seconds=1), usegmt=True)
    return Refused(429, f"not before {retry_at.isoformat()}", {"Retry-After": allowed})


def form_of(event: Event, **fields: type) -> dict[str, Any]:
    """Return the body of *event*, which must be a JSON object with *fields* of these types; others are ignored."""
    media_type = (header_of(event, "content-type") or "").partition(";")[0].strip().lower()
    if media_type != "application/json":  # a form of another site cannot send it
        raise Refused(400, "expected Content-Type: application/json")
    body = event.get("body") or ""
    try:
        form = json.loads(base64.b64decode(body) if event.get("isBase64Encoded") else body)
    except (ValueError, RecursionError):
        form = None
    # bool is a subtype of int.
    if not isinstance(form, dict) or not all(type(form.get(name)) is kind for name, kind in fields.items()):
        words = ", ".join(f"{name} ({kind.__name__})" for name, kind in fields.items())
        raise Refused(400, f"expected a JSON object with {words}")
    return form


def choice_of(form: Mapping[str, Any], name: str, *values: str) -> str:
    """Return the field *name* of *form*, which must be one of *values*; the first one if it is missing."""
    value = form.get(name, values[0])
    if value not in values:
        raise Refused(400, f"expected {name} to be one of {', '.join(values)}")
    return str(value)


def header_of(event: Event, name: str) -> str | None:
    """Return the header *name* (in lower case) of *event*; API Gateway may keep the case that the client sent."""
    return next((str(value) for key, value in event.get("headers", {}).items() if key.lower() == name), None)


def answering_errors(handler: Callable[[Event, object], Response]) -> Handler:
    """Limit the time of *handler*, reject requests of other sites, and translate errors to problem documents."""

    def answer(event: Event, context: LambdaContext) -> Response:
        try:
            _require_own_page(event)
            with deadline(context):
                return handler(event, context)
        except Refused as refused:
            return refused.response
        except (RegistrationPersistenceError, SQLAlchemyError) as error:
            return _answer_to(error)

    return answer


def _require_own_page(event: Event) -> None:
    """Refuse a request that a page of another site has sent: browsers name it in `Origin` if anything can change."""
    origin = header_of(event, "origin")
    scheme, _, host = (origin or "").partition("://")
    # A page without TLS may have been changed on its way.
    is_own = host == header_of(event, "host") and (scheme == "https" or is_local())
    if origin is not None and not is_own:
        raise Refused(403, "the request comes from another site")


def _answer_to(error: Exception) -> Response:
    """Return 400 invalid, 404 unknown, 409 conflict, 503 may be repeated, otherwise 500."""
    match error:
        case InvalidInput():
            return problem(400, str(error))
        case IdempotencyConflict():
            return problem(409, "this idempotency key was used for another form")
        case RegistrationNotFound():
            return problem(404, "there is no such registration")
        case IllegalTransition():
            return problem(409, "the mailbox is not verified, or the verification has expired")
    logger.error("the database failed", exc_info=error)
    # After an unknown commit the client sends the same idempotency key, or opens the same link, again.
    if isinstance(error, CommitOutcomeUnknown) or getattr(error, "retryable", False):
        return problem(503, "please try again later", {"Retry-After": str(_RETRY_AFTER_SECONDS)})
    return problem(500, "an internal error")
