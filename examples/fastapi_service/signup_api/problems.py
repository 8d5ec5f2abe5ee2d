"""Problem documents (RFC 9457): the answer to every error, and their description in OpenAPI."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from registration_persistence import RegistrationPersistenceError
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    IdempotencyConflict,
    IllegalTransition,
    InvalidInput,
    RegistrationNotFound,
    StaleVersion,
    StatementTimeout,
)

MEDIA_TYPE = "application/problem+json"
# A failover of Aurora and the rotation of a secret take longer, but most causes of 503 are over by then.
RETRY_AFTER_SECONDS = 2

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

logger = logging.getLogger(__name__)


class Problem(BaseModel):
    """A problem document."""

    title: str
    status: int
    detail: str
    attempts_left: int | None = None


class ProblemResponse(JSONResponse):
    """A response with a problem document."""

    media_type = MEDIA_TYPE


# The `detail` of a problem by its status; some have one of their own, and this is an example.
DETAILS = {
    400: "There was an error parsing the body",
    401: "this browser is not known, or not any more: verify your mailbox first",
    403: "the request comes from another site",
    404: "there is no such registration",
    409: "the mailbox is not verified, or the verification has expired",
    410: "the link is no longer valid: please sign up again",
    422: "body.email: Field required",
    429: "not before 2026-11-29T12:00:00+00:00",
    500: "an internal error",
    503: "please try again later",
}

_ANSWERS: tuple[tuple[type[RegistrationPersistenceError], int, str], ...] = (
    (RegistrationNotFound, 404, DETAILS[404]),
    (IdempotencyConflict, 409, "this idempotency key was used for another form"),
    (StaleVersion, 409, "the registration was changed in the meantime: read it again, then decide"),
    (IllegalTransition, 409, DETAILS[409]),
)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the description of the problems that every route has, and of those with *statuses*."""
    return {status: _described(status) for status in sorted({*statuses, 422, 500, 503})}


def answer_errors(app: FastAPI) -> None:
    """Answer each error of *app* with a problem document."""
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(RegistrationPersistenceError, _failed)
    app.add_exception_handler(Exception, _bug)


def problem(
    status: int, detail: str, headers: dict[str, str] | None = None, *, attempts_left: int | None = None
) -> ProblemResponse:
    """Return a response with a problem document."""
    document = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, attempts_left=attempts_left)
    return ProblemResponse(document.model_dump(exclude_none=True), status, headers)


def _described(status: int) -> dict[str, Any]:
    example = {"title": HTTPStatus(status).phrase, "status": status, "detail": DETAILS[status]}
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema(), "example": example}}
    seconds = {"description": "When to send the request again.", "schema": {"type": "string"}}
    headers = {"headers": {"Retry-After": seconds}} if status in (429, 503) else {}
    return {"description": HTTPStatus(status).phrase, "content": content, **headers}


async def _http_error(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods(request))
    return problem(error.status_code, error.detail, headers)


def _methods(request: Request) -> list[str]:
    """Return the methods of the path of *request*; each may have a route of its own."""
    scopes = {method: {**request.scope, "method": method} for method in _METHODS}
    routes = request.app.routes
    return [name for name in _METHODS if any(route.matches(scopes[name])[0] is Match.FULL for route in routes)]


async def _invalid_request(_: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RequestValidationError)
    # Without the input, which may be a token or a mailbox.
    places = [(".".join(map(str, place["loc"])), place["msg"]) for place in error.errors()]
    return problem(422, "; ".join(f"{place}: {message}" for place, message in places))


async def _failed(_: Request, error: Exception) -> ProblemResponse:
    """Answer an error of the package: 422 invalid, 404 unknown, 409 conflict, 503 may be repeated, otherwise 500."""
    assert isinstance(error, RegistrationPersistenceError)
    if isinstance(error, InvalidInput):
        return problem(422, str(error))
    for kind, status, detail in _ANSWERS:
        if isinstance(error, kind):
            return problem(status, detail)
    logger.error("the database failed: %s: %s", type(error).__name__, error)
    # A statement that reached the deadline of the request was undone. After an unknown commit the client sends the same
    # idempotency key, or opens the same link, again.
    if error.retryable or isinstance(error, StatementTimeout | CommitOutcomeUnknown):
        return problem(503, DETAILS[503], {"Retry-After": str(RETRY_AFTER_SECONDS)})
    return problem(500, DETAILS[500])


async def _bug(_: Request, error: Exception) -> ProblemResponse:  # noqa: ARG001 the server logs it
    return problem(500, DETAILS[500])
