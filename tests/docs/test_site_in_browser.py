"""The site in a headless Chromium: light and dark, narrow and wide, without a request to another host."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request

PAGES = (
    "index.html",
    "tutorial.html",
    "howto/lambda.html",
    "reference/registration_persistence.errors.html",
    "performance.html",
)
SIZES_AND_SCHEMES: tuple[tuple[int, Literal["light", "dark"]], ...] = (
    (360, "light"),
    (1440, "light"),
    (360, "dark"),
    (1440, "dark"),
)
BROKEN_PICTURES = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
SHOWN_SCHEMES = "[...document.images].filter(i => i.offsetWidth).map(i => i.src.match(/-(\\w+)\\.svg/)[1])"
_SETTLED = "document.readyState === 'complete' && document.fonts.status === 'loaded'"


@contextmanager
def opened(
    chromium: Browser, address: str, *, width: int, scheme: Literal["light", "dark"]
) -> Iterator[tuple[Page, list[str]]]:
    """Open a page of the site, and record the requests to other hosts and the errors of scripts."""
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    try:
        page = context.new_page()
        host = "/".join(address.split("/")[:3])
        problems: list[str] = []

        def note(request: Request) -> None:
            if not request.url.startswith((host, "data:", "blob:")):
                problems.append(request.url)

        page.on("request", note)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
        page.goto(address)
        page.wait_for_function(_SETTLED)
        yield page, problems
    finally:
        context.close()


@pytest.mark.parametrize("path", PAGES)
def test_pages_fit_and_follow_the_system(chromium: Browser, address: str, path: str) -> None:
    """A page scrolls sideways at no width, has the colours of the system, and makes no request to another host."""
    for width, scheme in SIZES_AND_SCHEMES:
        with opened(chromium, f"{address}/{path}", width=width, scheme=scheme) as (page, problems):
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            background = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (scheme == "dark") == (max(map(int, background.strip("rgba()").split(",")[:3])) < 128), background
            assert [] == [*problems, *page.evaluate(BROKEN_PICTURES)]


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_accessible(chromium: Browser, address: str, path: str) -> None:
    """No page breaks a serious or critical rule of axe, in light on a wide window and in dark on a narrow one."""
    for width, scheme in SIZES_AND_SCHEMES[1:3]:
        with opened(chromium, f"{address}/{path}", width=width, scheme=scheme) as (page, _):
            assert {} == violations(page), f"{scheme} at {width} px"


def violations(page: Page) -> dict[str, list[str]]:
    """Return the elements that break each serious or critical rule of axe."""
    results = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return {
        rule["id"]: [f"{node['target']}: {node['failureSummary']}" for node in rule["nodes"][:3]]
        for rule in results
        if rule["impact"] in {"serious", "critical"}
    }


@pytest.mark.nightly
def test_no_page_scrolls_sideways_on_a_telephone(chromium: Browser, address: str, site: Path) -> None:
    """Each page is as wide as a narrow window: tables and code scroll within themselves."""
    context = chromium.new_context(viewport={"width": 360, "height": 700})
    page = context.new_page()
    too_wide = []
    for file in sorted(site.rglob("*.html")):
        page.goto(f"{address}/{file.relative_to(site)}", wait_until="domcontentloaded")
        if page.evaluate("document.documentElement.scrollWidth") > 360:
            too_wide.append(file.name)
    context.close()

    assert [] == too_wide


def test_the_search_finds_pages_without_network(chromium: Browser, address: str) -> None:
    """The search for "rotate" leads to the how-to about rotation."""
    with opened(chromium, f"{address}/index.html", width=1440, scheme="light") as (page, problems):
        page.keyboard.press("Control+k")
        page.keyboard.type("rotate")
        link = page.locator("a[href*='howto/rotation.html']").locator("visible=true").first
        link.click()
        page.wait_for_url("**/howto/rotation.html*")

    assert [] == problems


def test_the_reader_can_switch_to_dark(chromium: Browser, address: str) -> None:
    """The button changes the colours of the page and of its diagrams, whatever the system prefers."""
    with opened(chromium, f"{address}/diagrams.html", width=1440, scheme="light") as (page, _):
        assert {"light"} == set(page.evaluate(SHOWN_SCHEMES))
        for _ in range(2):
            page.locator("label[for^=__palette]").locator("visible=true").click()
        assert {"dark"} == set(page.evaluate(SHOWN_SCHEMES))
