"""`Visitor`: a person who uses the pages of the example with a keyboard, in a window of their own."""

from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

_MAX_TABS = 40


class Visitor:
    """A person with a window.

    Args:
        page: The window.

    Attributes:
        hosts: The hosts, with ports, to which the window has sent requests.
        problems: Errors of scripts, and violations of the Content Security Policy.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.hosts: set[str] = set()
        self.problems: list[str] = []
        page.on("request", lambda request: self._note_host(request.url))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda message: self._note_message(message.text))

    @property
    def message(self) -> Locator:
        """The message at the top of the page."""
        return self.page.locator("#message")

    def tab_to(self, wanted: Locator) -> None:
        """Press Tab until *wanted* has the focus."""
        for _ in range(_MAX_TABS):
            self.page.keyboard.press("Tab")
            if wanted.and_(self.page.locator("*:focus")).count():
                return
        raise AssertionError(f"no Tab leads to {wanted}")

    def type_into(self, name: str, text: str) -> None:
        """Replace the text of a field."""
        self.tab_to(self.page.get_by_label(name, exact=True))
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.type(text)

    def press(self, name: str) -> None:
        """Press a button."""
        self.tab_to(self.page.get_by_role("button", name=name, exact=True))
        self.page.keyboard.press("Enter")

    def check(self, name: str) -> None:
        """Press the space bar on a checkbox."""
        self.tab_to(self.page.get_by_label(name, exact=True))
        self.page.keyboard.press("Space")

    def sign_up(self, address: str, name: str = "Ada", *, code: bool = False, newsletter: bool = False) -> None:
        """Fill in the form, and wait for the next page."""
        self.page.goto("/")
        self.type_into("Your name", name)
        self.type_into("Email address", address)
        self.page.keyboard.press("Tab")  # the first choice
        if code:
            self.page.keyboard.press("ArrowDown")
        self.check("I accept the terms of January 2026")
        if newsletter:
            self.check("I want the newsletter")
        self.press("Sign up")
        self.page.wait_for_url("**/mail.html*")

    def mail_to(self, address: str, number: int = 1) -> Locator:
        """Open the local mailbox, and return the newest mail to *address* when there are *number* of them."""
        self.page.goto("/mailbox.html")
        mails = self.page.locator("#mails > li").filter(has_text=f"To {address},")
        expect(mails).to_have_count(number)
        return mails.first

    def confirm_by_link(self, address: str) -> None:
        """Follow the link of the mail, and confirm."""
        self.tab_to(self.mail_to(address).get_by_role("link"))
        self.page.keyboard.press("Enter")
        self.page.wait_for_url("**/confirm.html")
        self.press("Confirm my address")
        self.page.wait_for_url("**/you.html")
        self.expect_message("Your address is confirmed. Welcome!")

    def expect_message(self, text: str) -> None:
        """Wait for a message that begins with *text*; it has the focus, and a screen reader announces it."""
        expect(self.message).to_contain_text(text)
        expect(self.message).to_be_focused()
        expect(self.message).to_have_attribute("aria-live", "polite")

    def violations(self) -> list[str]:
        """Return the violations of accessibility rules that axe finds on the page."""
        found = Axe().run(self.page).response["violations"]
        return [f"{self.page.url} {rule['id']}: {[node['html'] for node in rule['nodes']]}" for rule in found]

    def _note_host(self, url: str) -> None:
        if not url.startswith(("blob:", "data:")):
            self.hosts.add(urlsplit(url).netloc)

    def _note_message(self, text: str) -> None:
        if "Content Security Policy" in text:
            self.problems.append(text)
