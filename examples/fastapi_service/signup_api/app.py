"""The application: its life, its routes, and the answers to errors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute

from registration_persistence import get_async_db
from signup_api import health, problems, registrations
from signup_api.readiness import Readiness

DESCRIPTION = """
People sign up, open the link in their mail, and are activated.

An answer never tells whether a mailbox is known. Every error is a problem document (RFC 9457).
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Read the environment, the secret and the revision of the schema, and open the connections; close them later."""
    database = get_async_db()
    app.state.readiness = readiness = Readiness(database)
    await database.warm_up()
    await readiness.warm_up()
    yield
    await readiness.dispose()
    await database.dispose()


def operation_id(route: APIRoute) -> str:
    """Return the id of an operation, which is the name of its function."""
    return route.name


app = FastAPI(
    title="Sign-ups",
    version="1.0.0",
    description=DESCRIPTION,
    lifespan=lifespan,
    generate_unique_id_function=operation_id,
)
app.include_router(registrations.router)
app.include_router(health.router)
problems.answer_errors(app)
