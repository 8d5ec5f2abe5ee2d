"""The operator's view: faults while people sign up, the outbox, and the event log of a person."""

import re
from collections.abc import Callable

import httpx
import pytest
from pages_of_people import Visitor
from playwright.sync_api import expect
from signup_local.app import create_local_app
from signup_local.stage import Stage
from support import untyped

# The button, the fault in the list, and an event of the database layer that this fault causes.
FAULTS = (
    ("Rotate the secret", "secret rotation", r"connection opened rotation"),
    ("Kill the primary", "kill of the primary", r"wait not ready"),
    ("Freeze the service", "freeze of the service", r"connection opened (thaw|lost)"),
)


def number(visitor: Visitor, identity: str) -> int:
    """Return a number of the page."""
    return int(visitor.page.locator(f"#{identity}").inner_text())


def test_faults_while_people_sign_up(visit: Callable[..., Visitor]) -> None:
    """Each button causes its fault, which appears in the list; no sign-up fails, on this page or on another one."""
    operator, person = visit(), visit()
    operator.page.goto("/operator.html")
    operator.press("Sign four people up each second")
    entries = operator.page.locator("#entries")
    for position, (button, fault, event) in enumerate(FAULTS):
        before = number(operator, "succeeded")
        operator.press(button)
        expect(operator.message).to_have_text(f"The {fault} has started.")
        person.sign_up(f"{position}@faults.example")
        expect(operator.message).to_contain_text(f"The {fault} ended after", timeout=20_000)
        expect(entries.get_by_role("row", name=fault)).to_have_count(2)
        expect(entries.get_by_role("row", name=re.compile(event)).first).to_be_visible()
        # Those that were sent before the fault ended, and more.
        operator.page.wait_for_function(
            "n => Number(document.querySelector('#succeeded').textContent) >= n", arg=before + 6
        )
    operator.press("Stop")
    operator.page.wait_for_timeout(500)
    assert number(operator, "failed") == 0
    for position in range(len(FAULTS)):
        expect(person.mail_to(f"{position}@faults.example")).to_be_visible()


def test_a_person_and_the_outbox(visitor: Visitor, stage: Stage) -> None:
    """The event log of a mailbox or of an id, and a message that waits; markup in a message is shown as text."""
    page, eva, tim = visitor.page, "eva@log.example", "tim@log.example"
    visitor.sign_up(tim)
    visitor.sign_up(eva)
    visitor.confirm_by_link(eva)
    page.goto("/operator.html")
    visitor.type_into("Mailbox, or id of a registration", eva)
    page.keyboard.press("Enter")
    expect(page.locator("#events tr")).to_have_count(2)
    expect(page.locator("#events")).to_contain_text("registered")
    expect(page.locator("#no-events")).to_have_text("2 events")
    visitor.type_into("Mailbox, or id of a registration", tim)
    page.keyboard.press("Enter")
    expect(page.locator("#no-events")).to_have_text("1 event")
    visitor.type_into("Mailbox, or id of a registration", "eva")
    page.keyboard.press("Enter")
    visitor.expect_message("Please check what you have typed.")
    assert number(visitor, "delivered") > 0
    with stage.cluster.primary.server.connect("registration") as connection:
        insert = (
            "INSERT INTO outbox (event_id, registration_id, type, payload, available_at) "
            "SELECT gen_random_uuid(), id, '<b>x</b>', '{}', now() + interval '1 hour' FROM registrations LIMIT 1"
        )
        connection.execute(insert)
        expect(page.locator("#messages")).to_contain_text("<b>x</b>")
        connection.execute("DELETE FROM outbox WHERE type = '<b>x</b>'")
    expect(page.locator("#messages")).not_to_contain_text("<b>x</b>")


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Origin": "https://evil.example"}, 403), ({"Host": "evil.example"}, 400), ({}, 404)],
    ids=["another site", "another host name", "no such fault"],
)
def test_requests_of_other_sites(stage: Stage, headers: dict[str, str], status: int) -> None:
    """Neither a page of another site nor a host name that leads to 127.0.0.1 reaches the operator's view."""
    with httpx.Client(base_url=stage.url) as client:
        path = "/local/faults/rotate" if headers else "/local/nothing"
        assert client.post(path, headers=headers).status_code == status
        assert client.delete("/session", headers=headers).status_code == (status if headers else 204)


@pytest.mark.parametrize("environment", ["prod", "test", None])
def test_only_in_local(environment: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another environment, the application with mailbox and operator's view is not created."""
    monkeypatch.delenv("APP_ENVIRONMENT", raising=False)
    if environment is not None:
        monkeypatch.setenv("APP_ENVIRONMENT", environment)
    with pytest.raises(RuntimeError, match=f"APP_ENVIRONMENT is {environment!r}: mailbox and operator's view need"):
        create_local_app(untyped(None))
