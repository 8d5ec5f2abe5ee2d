"""`create_local_app`: the application with a mailbox, a worker of the outbox, and the operator's view."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from signup_api.app import create_app
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import Lifespan

from registration_persistence import AsyncOutboxWorker, get_async_db
from signup_local import operator
from signup_local.faults import Faults
from signup_local.mailbox import Delivery, Mailbox

_PAGES = Path(__file__).parent / "pages"

_WORKER_POLL_SECONDS = 0.3

_FIRST_SERVER_ERROR = 500


def create_local_app(faults: Faults) -> FastAPI:
    """Return the application of this machine.

    Args:
        faults: The list of the operator.

    Raises:
        RuntimeError: The environment is not `local`; others would see the mails of everybody.
    """
    environment = os.environ.get("APP_ENVIRONMENT")
    if environment != "local":
        raise RuntimeError(f"APP_ENVIRONMENT is {environment!r}: mailbox and operator's view need 'local'")
    mailbox = Mailbox()
    app = create_app(mailbox, _PAGES, navigation=(_PAGES / "navigation.txt").read_text(encoding="utf-8"))
    app.state.faults, app.state.requests = faults, Counter()
    app.include_router(operator.router)
    app.router.lifespan_context = _around(app.router.lifespan_context, mailbox, faults)
    app.middleware("http")(_count)
    # A page of another site must not reach this service under a host name that leads to 127.0.0.1.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    return app


async def _count(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Count the requests of people by their result."""
    result = "failed"
    try:
        response = await call_next(request)
        if response.status_code < _FIRST_SERVER_ERROR:
            result = "succeeded"
        return response
    finally:
        if not request.url.path.startswith("/local/"):
            request.app.state.requests[result] += 1


def _around(lifespan: Lifespan[Any], mailbox: Mailbox, faults: Faults) -> Lifespan[Any]:
    """Return *lifespan* with the worker of the outbox, and with the list of the operator."""

    @asynccontextmanager
    async def around(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app), asyncio.TaskGroup() as tasks:
            get_async_db().events.subscribe(faults.note)
            worker = AsyncOutboxWorker(get_async_db(), Delivery(mailbox, app.state.keys.peppers).deliver)
            app.state.delivered = worker.counts
            stop = asyncio.Event()
            tasks.create_task(worker.run(stop, poll=_WORKER_POLL_SECONDS))
            watcher = tasks.create_task(faults.watch())
            faults.ready()
            yield
            stop.set()
            watcher.cancel()

    return around
