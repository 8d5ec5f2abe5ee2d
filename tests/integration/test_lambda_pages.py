"""The pages of the example on the Lambda function, in a process of its own, behind an HTTP API with real events."""

import ast
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from browser import open_browser
from http_api import HttpApi
from pages_of_people import Visitor
from playwright.sync_api import expect
from support import Rows

from registration_persistence.sandbox import LambdaProcess

TESTS = Path(__file__).parents[1]
HANDLER = TESTS.parent / "examples/registration_service/function/handler.py"
PRINTABLE_WORDS = ("ada@example.com", "Ada Lovelace")


@dataclass(frozen=True, slots=True)
class Service:
    """The function behind its HTTP API.

    Attributes:
        api: The HTTP API.
        process: The process of the function.
        mail_file: The file with the mails.
    """

    api: HttpApi
    process: LambdaProcess
    mail_file: Path

    def mails(self) -> list[dict[str, Any]]:
        """Return the mails so far, oldest first."""
        return [json.loads(line) for line in self.mail_file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def service(lambda_environment: object, tmp_path: Path) -> Iterator[Service]:
    """The function with the routes of its handler; it has a database of its own."""
    assert lambda_environment
    mails = tmp_path / "mails"
    mails.touch()
    variables = {name: value for name, value in os.environ.items() if name.startswith(("APP_", "AWS_", "MOTO"))}
    del variables["AWS_LAMBDA_FUNCTION_NAME"]
    with (
        LambdaProcess(
            f"{TESTS / 'signup_function.py'}:handle", environment={**variables, "MAILS": str(mails)}
        ) as process,
        HttpApi(routes(), process.invoke) as api,
    ):
        yield Service(api, process, mails)


def routes() -> list[str]:
    """Return the keys of `ROUTES` of the handler, which the test process does not import."""
    (found,) = (
        node.value
        for node in ast.parse(HANDLER.read_text(encoding="utf-8")).body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "ROUTES"
    )
    assert isinstance(found, ast.Dict)
    return [ast.literal_eval(key) for key in found.keys if key is not None]


def test_a_person_uses_the_pages(service: Service, rows: Rows) -> None:
    """Signing up by link, seeing, downloading, changing and erasing the data work as with the FastAPI service."""
    with open_browser() as browser:
        context = browser.new_context(base_url=service.api.url, reduced_motion="reduce", accept_downloads=True)
        context.set_default_timeout(20_000)
        visitor = Visitor(context.new_page())
        by_link(visitor, service)
        change_and_leave(visitor)
        by_code(visitor, service, rows)
        context.close()
    assert visitor.problems == []
    assert visitor.hosts == {service.api.url.removeprefix("http://")}
    # Neither the log of the function nor an address of a request contains a token, a code or personal data.
    secrets = [mail.get("token") or mail["code"] for mail in service.mails()]
    addresses = [event["rawPath"] + event["rawQueryString"] for event in service.api.events]
    output = service.process.log + "".join(addresses)
    assert not [word for word in (*PRINTABLE_WORDS, *secrets) if word in output]


def by_link(visitor: Visitor, service: Service) -> None:
    """Sign up, and follow the link of the mail."""
    page = visitor.page
    visitor.sign_up("ada@example.com", "Ada Lovelace", newsletter=True)
    expect(page.locator("#lead")).to_have_text("Open the link in it to confirm your address.")
    (mail,) = service.mails()
    page.goto(f"/confirm.html#token={mail['token']}")
    visitor.press("Confirm my address")
    page.wait_for_url("**/you.html")
    visitor.expect_message("Your address is confirmed. Welcome!")
    expect(page.locator("#shown-email")).to_have_text("ada@example.com")
    expect(page.locator("#shown-newsletter")).to_have_text("yes")


def change_and_leave(visitor: Visitor) -> None:
    """Download and change the data, and erase them."""
    page = visitor.page
    with page.expect_download() as download:
        visitor.press("Download my data")
    assert json.loads(Path(download.value.path()).read_text(encoding="utf-8"))["registration"]["status"] == "verified"
    visitor.type_into("Your name", "Countess")
    visitor.press("Save")
    visitor.expect_message("Your data is saved.")
    page.reload()
    expect(page.locator("#shown-name")).to_have_text("Countess")
    visitor.press("Cancel my registration")
    visitor.expect_message("Your registration is cancelled.")
    visitor.press("Erase my data")
    visitor.press("Erase my data")
    visitor.expect_message("Your data is erased.")
    page.reload()
    visitor.expect_message("This browser does not know you")


def by_code(visitor: Visitor, service: Service, rows: Rows) -> None:
    """Sign up again, and type a wrong code, and the right one of a second mail."""
    page = visitor.page
    visitor.sign_up("ada@example.com", "Ada Lovelace", code=True)
    code = service.mails()[-1]["code"]
    visitor.type_into("The six digits of the mail", str((int(code) + 1) % 1_000_000).zfill(6))
    page.keyboard.press("Enter")
    visitor.expect_message("The code is wrong. You can try 4 more times.")
    visitor.press("Send another mail")
    visitor.expect_message("The last mail was sent a moment ago.")
    visitor.type_into("The six digits of the mail", code)
    page.keyboard.press("Enter")
    page.wait_for_url("**/you.html")
    assert rows("SELECT status FROM registrations WHERE email IS NOT NULL") == [{"status": "verified"}]


def ask(service: Service, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    """Return status, headers (in lower case) and body of a response."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urlopen(Request(service.api.url + path, method=method, headers=named)) as answer:  # noqa: S310 our server
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read().decode()


def test_headers_and_refusals(service: Service) -> None:
    """Pages forbid everything from elsewhere; no other file is served; other sites and unknown visitors are refused."""
    status, headers, body = ask(service, "GET", "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert headers["content-security-policy"].startswith("default-src 'self'; base-uri 'none'; form-action 'none'")
    assert (headers["referrer-policy"], headers["x-content-type-options"]) == ("no-referrer", "nosniff")
    assert body == (TESTS.parent / "examples/signup_page/index.html").read_text(encoding="utf-8")
    for path in ("/README.md", "/handler.py", "/..%2fhandler.py", "/%2e%2e/handler.py", "/page/index.html"):
        assert ask(service, "GET", path)[0] == 404, path
    for method, path in (
        ("GET", "/me"),
        ("GET", "/me/export"),
        ("PATCH", "/me"),
        ("POST", "/mails"),
        ("DELETE", "/me"),
    ):
        status, headers, body = ask(service, method, path)
        assert (status, headers["content-type"]) == (401, "application/problem+json")
        assert headers["cache-control"] == "no-store"
        assert json.loads(body)["status"] == 401
    forged = "0" * 32 + ".9999999999." + "0" * 64
    assert ask(service, "GET", "/me", Cookie=f"session={forged}")[0] == 401
    assert ask(service, "DELETE", "/session", Origin="https://evil.example")[0] == 403
    assert ask(service, "DELETE", "/session", Origin=service.api.url)[0] == 204
