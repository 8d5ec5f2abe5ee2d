"""The routes for the platform: whether to restart this process, and whether to send it requests."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from signup_api.forms import Notice
from signup_api.problems import RETRY_AFTER_SECONDS, described, problem
from signup_api.readiness import NotReady, Readiness

router = APIRouter(tags=["platform"])


@router.get("/health")
async def health() -> Notice:
    """Tell that the process runs; it does not use the database, because a restart would not repair that."""
    return Notice(status="running")


@router.get("/ready", response_model=Notice, responses={503: described()[503]})
async def ready(request: Request) -> Notice | Response:
    """Tell whether the database answers and its schema is new enough for this code."""
    readiness: Readiness = request.app.state.readiness
    try:
        await readiness.check()
    except NotReady as error:
        return problem(503, str(error), {"Retry-After": str(RETRY_AFTER_SECONDS)})
    return Notice(status="ready")
