"""The application: its life, its routes, its pages, and the answers to errors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute

from registration_persistence import get_async_db
from signup_api import health, people, problems, registrations
from signup_api.body_limit import BodyLimit
from signup_api.cookies import Cookies
from signup_api.keys import Keys, is_local
from signup_api.mail import Mails
from signup_api.pages import SIGNUP_PAGE, serve_pages
from signup_api.readiness import Readiness

DESCRIPTION = """
People sign up, open the link in their mail or type its code, and see, change and erase their data.

An answer never tells whether a mailbox is known. Every error is a problem document (RFC 9457).
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Read the environment, the secret and the revision of the schema, and open the connections; close them later."""
    app.state.keys = keys = Keys.of_environment()
    app.state.cookies = Cookies(keys)
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


def create_app(mails: Mails, *more_pages: Path, navigation: str = "") -> FastAPI:
    """Return the application.

    Args:
        mails: Sends the mails.
        more_pages: Folders with further pages.
        navigation: HTML that each page shows at its top.
    """
    app = FastAPI(
        title="Sign-ups",
        version="1.0.0",
        description=DESCRIPTION,
        lifespan=lifespan,
        # These pages load scripts from other sites, which could use the session of a visitor.
        docs_url="/docs" if is_local() else None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
    )
    app.state.mails = mails
    app.add_middleware(BodyLimit)
    app.include_router(registrations.router)
    app.include_router(people.router)
    app.include_router(health.router)
    serve_pages(app, SIGNUP_PAGE, *more_pages, navigation=navigation)
    problems.answer_errors(app)
    return app


app = create_app(Mails())
