"""Fixtures of the tests of pages: the local service, a browser, and what a person does with a keyboard."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Literal

import pytest
from browser import open_browser
from pages_of_people import Visitor
from playwright.sync_api import Browser, expect
from processes import python_environment
from signup_local.stage import Stage, open_stage


@pytest.fixture(scope="package")
def stage() -> Iterator[Stage]:
    """The local service, its PostgreSQL and its Secrets Manager."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update({name: before[name] for name in ("PATH", "COVERAGE_PROCESS_CONFIG") if name in before})
    os.environ["PYTHONPATH"] = python_environment()["PYTHONPATH"]
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener, open_stage(listener) as stage:
            server = Thread(target=stage.serve, daemon=True)
            server.start()
            os.environ.update(before)
            yield stage
            # Ends the loop of `serve`, before the servers end.
            with suppress(OSError):
                stage.control.shutdown(socket.SHUT_RDWR)
            server.join()
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. While it is open, this thread has an event loop, which other modules do not expect."""
    expect.set_options(timeout=30_000)
    with open_browser() as browser:
        yield browser


OpenVisitor = Callable[..., Visitor]


@pytest.fixture
def visit(browser: Browser, stage: Stage) -> Iterator[OpenVisitor]:
    """Opens a window of a new person; at the end, no window has left this machine or broken the rules of a page."""
    visitors: list[Visitor] = []

    def open_window(width: int = 1280, scheme: Literal["light", "dark"] = "light") -> Visitor:
        context = browser.new_context(
            base_url=stage.url,
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            reduced_motion="reduce",
            accept_downloads=True,
        )
        context.set_default_timeout(30_000)
        visitors.append(Visitor(context.new_page()))
        return visitors[-1]

    yield open_window
    for visitor in visitors:
        visitor.page.context.close()
    for visitor in visitors:
        assert not visitor.problems
        assert visitor.hosts <= {stage.url.removeprefix("http://")}


@pytest.fixture
def visitor(visit: OpenVisitor) -> Visitor:
    """A person with a wide window."""
    return visit()


@pytest.fixture
def database_is_down(stage: Stage) -> Callable[[], object]:
    """Returns a block in which the service does not reach its database."""

    @contextmanager
    def down() -> Iterator[None]:
        stage.cluster.endpoint.stop_accepting()
        stage.cluster.endpoint.cut()
        try:
            yield
        finally:
            stage.cluster.endpoint.resume_accepting()

    return down
