"""The pages of the example, from the sign-up to the erasure, with a keyboard only."""

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from pages_of_people import Visitor
from playwright.sync_api import expect
from signup_local.stage import Stage


def test_the_journey_by_link(visitor: Visitor, stage: Stage) -> None:
    """A person signs up, follows the link, sees, downloads and changes their data, cancels, and erases."""
    page, ada = visitor.page, "ada@link.example"
    visitor.sign_up(ada, newsletter=True)
    expect(page.locator("#lead")).to_have_text("Open the link in it to confirm your address.")
    visitor.confirm_by_link(ada)
    assert "token" not in page.url
    shown = {name: page.locator(f"#shown-{name}") for name in ("name", "email", "status", "newsletter")}
    expect(shown["email"]).to_have_text(ada)
    expect(shown["newsletter"]).to_have_text("yes")

    with page.expect_download() as download:
        visitor.press("Download my data")
    assert download.value.suggested_filename == "my-data.json"
    stored = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert stored["registration"]["email"] == ada
    assert [event["type"] for event in stored["events"]] == ["registered", "verified"]

    visitor.type_into("Your name", "<img src=x onerror=alert(1)><b>Ada</b>")
    visitor.check("I want the newsletter")
    visitor.press("Save")
    visitor.expect_message("Your data is saved.")
    page.reload()
    expect(shown["name"]).to_have_text("<img src=x onerror=alert(1)><b>Ada</b>")
    expect(shown["newsletter"]).to_have_text("no")
    assert page.locator("main img, main b").count() == 0

    visitor.press("Cancel my registration")
    visitor.expect_message("Your registration is cancelled.")
    expect(shown["status"]).to_have_text("cancelled")
    expect(page.locator("#change-section")).to_be_hidden()

    visitor.press("Erase my data")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Erase my data")).to_be_focused()
    page.keyboard.press("Enter")
    visitor.press("Erase my data")
    visitor.expect_message("Your data is erased.")
    page.reload()
    visitor.expect_message("This browser does not know you")
    with stage.cluster.primary.server.connect("registration") as connection:
        found = connection.execute("SELECT count(*) FROM registrations WHERE email LIKE '%link.example'").fetchone()
    assert found == (0,)


def test_the_journey_by_code(visitor: Visitor, stage: Stage) -> None:
    """A wrong code is counted, the right one confirms; another mail comes not at once; a link works once only."""
    page, eve = visitor.page, "eve@code.example"
    visitor.sign_up(eve, code=True)
    code = visitor.mail_to(eve).locator(".code").inner_text()
    assert re.fullmatch(r"\d{6}", code)
    page.goto("/mail.html#code")
    wrong = str((int(code) + 1) % 1_000_000).zfill(6)
    visitor.type_into("The six digits of the mail", wrong)
    page.keyboard.press("Enter")
    visitor.expect_message("The code is wrong. You can try 4 more times.")
    visitor.press("Send another mail")
    visitor.expect_message("The last mail was sent a moment ago. You can ask for another one from ")
    with stage.cluster.primary.server.connect("registration") as connection:
        connection.execute("UPDATE registrations SET token_issued_at = now() - interval '2 minutes'")
    visitor.press("Send another mail")
    visitor.expect_message("Another mail is on its way.")
    newest = visitor.mail_to(eve, number=2).locator(".code").inner_text()
    page.goto("/mail.html#code")
    visitor.type_into("The six digits of the mail", f"{newest[:3]} {newest[3:]}")
    page.keyboard.press("Enter")
    page.wait_for_url("**/you.html")
    visitor.expect_message("Your address is confirmed. Welcome!")
    expect(page.locator("#shown-email")).to_have_text(eve)


def test_texts_of_wrong_fields(visitor: Visitor) -> None:
    """The focus moves to the first wrong field, which its text describes; five wrong codes are the limit."""
    page = visitor.page
    page.goto("/")
    visitor.press("Sign up")
    expect(page.get_by_label("Your name")).to_be_focused()
    expect(page.locator("#email-error")).to_have_text("Please type an address such as ada@example.com.")
    expect(page.get_by_label("Email address")).to_have_attribute("aria-invalid", "true")
    visitor.type_into("Email address", "kim@nowhere")
    visitor.check("I accept the terms of January 2026")
    page.get_by_label("Your name").fill("Kim")
    visitor.press("Sign up")
    expect(page.get_by_label("Email address")).to_be_focused()

    visitor.sign_up("lee@errors.example", code=True)
    for attempt in range(6):
        visitor.type_into("The six digits of the mail", f"no code {attempt}")
        page.keyboard.press("Enter")
        left = {3: "The code is wrong. You can try once more.", 5: "The code was wrong too often."}
        visitor.expect_message(left.get(attempt, "The code "))


def test_texts_of_links_and_windows(visit: Callable[..., Visitor], stage: Stage) -> None:
    """A link that has expired, a stale window, a link that is used again, and a browser that is not known."""
    visitor = visit()
    page, kim = visitor.page, "kim@errors.example"
    visitor.sign_up(kim)
    link = visitor.mail_to(kim).get_by_role("link").get_attribute("href")
    assert link
    with stage.cluster.primary.server.connect("registration") as connection:
        expire = (
            "UPDATE verification_tokens SET created_at = now() - interval '1 day', expires_at = now() + %s::interval"
        )
        connection.execute(expire, ["-1 minute"])
        page.goto(link)
        visitor.press("Confirm my address")
        visitor.expect_message("This link is no longer valid: it has expired")
        connection.execute(expire, ["1 hour"])
    page.goto(link)
    visitor.press("Confirm my address")
    page.wait_for_url("**/you.html")

    other = page.context.new_page()
    other.goto("/you.html")
    other.get_by_label("Your name").fill("Kim of the other window")
    other.get_by_role("button", name="Save").click()
    expect(other.locator("#message")).to_have_text("Your data is saved.")
    other.close()
    visitor.type_into("Your name", "Kim of this window")
    visitor.press("Save")
    visitor.expect_message("Your data was changed in another window in the meantime.")
    expect(page.get_by_label("Your name")).to_have_value("Kim of the other window")

    # The link of the mail signs nobody in again.
    stranger = visit()
    stranger.page.goto(link)
    stranger.press("Confirm my address")
    stranger.expect_message("Your address was confirmed before.")
    stranger.page.goto("/you.html")
    stranger.expect_message("This browser does not know you")
    stranger.page.goto("/confirm.html")
    stranger.expect_message("This link is not complete.")
    stranger.page.goto("/mail.html")
    stranger.press("Send another mail")
    stranger.expect_message("This browser has no sign-up that waits for a mail.")


def test_the_service_is_down(visitor: Visitor, database_is_down: Callable[[], AbstractContextManager[None]]) -> None:
    """Without the service there is a text, and the form stays; without the database, the page repeats the request."""
    page = visitor.page
    page.goto("/")
    page.get_by_label("Your name").fill("Bob")
    page.get_by_label("Email address").fill("bob@down.example")
    page.get_by_label("I accept the terms").check()
    page.context.set_offline(offline=True)
    visitor.press("Sign up")
    visitor.expect_message("The service cannot be reached. Nothing that you have typed is lost")
    page.context.set_offline(offline=False)
    with database_is_down():
        visitor.press("Sign up")
        expect(visitor.message).to_contain_text("The database is busy. The request is sent again")
    page.wait_for_url("**/mail.html*")
    expect(visitor.mail_to("bob@down.example")).to_be_visible()
