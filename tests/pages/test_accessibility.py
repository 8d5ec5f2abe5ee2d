"""Each page in light and dark, narrow and wide: accessibility rules, and no sideways scrolling."""

from itertools import product
from typing import Literal

from pages_of_people import Visitor
from playwright.sync_api import Browser, expect
from signup_local.stage import Stage

PAGES = ("/", "/mail.html#code", "/mail.html", "/confirm.html#token=x", "/you.html", "/mailbox.html", "/operator.html")


SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = (360, 1280)


def test_accessibility(visitor: Visitor) -> None:
    """Axe finds no violation on a page, also while it shows errors, a person's data and the dialog."""
    page, address = visitor.page, "axe@pages.example"
    found: list[str] = []

    def check() -> None:
        for width, scheme in product(WIDTHS, SCHEMES):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            found.extend(f"{width} {scheme}: {violation}" for violation in visitor.violations())
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                found.append(f"{width}: {page.url} scrolls sideways")

    for path in PAGES:
        page.goto(path)
        check()
    page.goto("/")
    page.get_by_role("button", name="Sign up").click()
    expect(page.locator("#email-error")).to_be_visible()
    check()
    visitor.sign_up(address)
    visitor.confirm_by_link(address)
    check()
    page.get_by_role("button", name="Erase my data").click()
    check()
    page.goto("/operator.html")
    page.get_by_label("Mailbox, or id of a registration").fill(address)
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("#events tr")).to_have_count(2)
    check()
    assert not found


def test_the_content_security_policy(browser: Browser, stage: Stage) -> None:
    """A script or style that got into a page would not be executed, and a page reaches no other server."""
    context = browser.new_context(base_url=stage.url)
    page = context.new_page()
    for path in PAGES:
        response = page.goto(path)
        assert response
        assert response.headers["content-security-policy"].startswith("default-src 'self'; ")
        assert "unsafe" not in response.headers["content-security-policy"]
        assert response.headers["referrer-policy"] == "no-referrer"
        assert page.evaluate(_INJECTION) == [None, "visible", "TypeError"]
    context.close()


# Returns the effect of a script and of a style inside the page, and the result of a request to another server.
_INJECTION = """async () => {
  const script = document.createElement("script");
  script.textContent = "window.injected = true";
  const style = document.createElement("style");
  style.textContent = "body { visibility: hidden }";
  document.head.append(script, style);
  const elsewhere = location.origin.replace("127.0.0.1", "localhost");
  const result = await fetch(elsewhere, { mode: "no-cors" }).then(() => "answered", (error) => error.name);
  return [window.injected ?? null, getComputedStyle(document.body).visibility, result];
}"""


def test_without_scripts(browser: Browser, stage: Stage) -> None:
    """Each page says that it needs JavaScript, and is read without it."""
    context = browser.new_context(base_url=stage.url, java_script_enabled=False)
    page = context.new_page()
    for path in PAGES:
        page.goto(path)
        expect(page.locator("h1")).to_be_visible()
        assert "needs JavaScript" in page.inner_text("noscript")
    context.close()
