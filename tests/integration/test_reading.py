"""Tests of `RegistrationRepository.get`, `find_by_email` and `list_page`."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from support import SignUp

from registration_persistence import Database, Registration, RegistrationRepository, Status, VerificationRepository
from registration_persistence.errors import InvalidCursor, InvalidEmail, InvalidInput


def test_unknown_registrations_are_none(registrations: RegistrationRepository) -> None:
    """An unknown id and an unknown mailbox give `None`."""
    assert registrations.get(uuid4()) is None
    assert registrations.find_by_email("ada@example.com") is None


def test_finds_every_spelling_of_a_mailbox(registrations: RegistrationRepository, sign_up: SignUp) -> None:
    """Case, width and Unicode form make no difference."""
    made = sign_up("Zoë@Bücher.example").registration

    for spelling in ("zoë@bücher.example", "ZOË@xn--bcher-kva.example", "zoe\u0308@BU\u0308CHER.example"):
        assert made == registrations.find_by_email(spelling)


def test_finds_the_verified_registration_first(
    registrations: RegistrationRepository, verification: VerificationRepository, sign_up: SignUp
) -> None:
    """A verified registration comes before newer ones that are not verified."""
    first = sign_up()
    verification.verify_by_token(first.token)
    sign_up()

    found = registrations.find_by_email("ada@example.com")

    assert found is not None
    assert (first.registration.id, Status.VERIFIED) == (found.id, found.status)


def test_finds_the_newest_pending_registration(registrations: RegistrationRepository, sign_up: SignUp) -> None:
    """If no registration of the mailbox is verified, the latest sign-up is returned."""
    sign_up()
    newest = sign_up().registration

    assert newest == registrations.find_by_email("ada@example.com")


def test_a_lapsed_registration_is_not_found_by_mailbox(
    database: Database, registrations: RegistrationRepository, sign_up: SignUp
) -> None:
    """A pending registration past its `expires_at` is returned only by its id."""
    made = sign_up().registration
    with database.session() as session:
        session.execute(text("UPDATE registrations SET expires_at = now() - interval '1 s'"))

    assert registrations.find_by_email("ada@example.com") is None
    assert registrations.get(made.id) is not None


def test_an_invalid_address_is_rejected(registrations: RegistrationRepository) -> None:
    """`find_by_email` raises the same error as `register`."""
    with pytest.raises(InvalidEmail):
        registrations.find_by_email("nobody")


def test_pages_hold_every_registration_once(registrations: RegistrationRepository, sign_up: SignUp) -> None:
    """All pages together hold each registration in the order of sign-up; the last page has no cursor."""
    made = [sign_up(f"ada{number}@example.com").registration for number in range(7)]

    seen: list[Registration] = []
    sizes, cursor = [], None
    while True:
        page = registrations.list_page(after=cursor, limit=3)
        seen += page.items
        sizes.append(len(page.items))
        cursor = page.next_cursor
        if cursor is None:
            break

    assert made == seen
    assert [3, 3, 1] == sizes


def test_a_full_last_page_has_no_cursor(registrations: RegistrationRepository, sign_up: SignUp) -> None:
    """If the last registrations fill the page, no empty page follows."""
    for number in range(3):
        sign_up(f"ada{number}@example.com")

    assert registrations.list_page(limit=3).next_cursor is None


def test_pages_can_be_filtered_by_status(
    registrations: RegistrationRepository, verification: VerificationRepository, sign_up: SignUp
) -> None:
    """The pages hold only registrations of the given status."""
    first, second = sign_up("ada@example.com"), sign_up("eve@example.com")
    verification.verify_by_token(second.token)

    assert [first.registration] == list(registrations.list_page(status="pending").items)
    assert [second.registration.id] == [item.id for item in registrations.list_page(status=Status.VERIFIED).items]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"after": "edited"}, InvalidCursor),
        ({"after": "+" + "1" * 31}, InvalidCursor),
        ({"after": "1_" * 15 + "11"}, InvalidCursor),
        ({"after": ""}, InvalidCursor),
        ({"after": UUID(int=1)}, InvalidCursor),
        ({"status": "gone"}, InvalidInput),
        ({"status": []}, InvalidInput),
        ({"limit": 0}, InvalidInput),
        ({"limit": 1001}, InvalidInput),
        ({"limit": "10"}, InvalidInput),
        ({"limit": True}, InvalidInput),
    ],
)
def test_invalid_arguments_are_rejected(
    registrations: RegistrationRepository, arguments: dict[str, Any], error: type[InvalidInput]
) -> None:
    """An edited cursor, an unknown status and a limit out of range are rejected."""
    with pytest.raises(error):
        registrations.list_page(**arguments)


def test_results_outlive_the_session(database: Database, sign_up: SignUp) -> None:
    """The results of a repository can be read after the session has closed."""
    made = sign_up(profile={"name": "Ada"}).registration
    with database.session(read_only=True) as session:
        found = RegistrationRepository(session).get(made.id)

    assert found is not None
    assert {"name": "Ada"} == found.profile


def test_a_cursor_with_any_edited_digit_is_rejected(registrations: RegistrationRepository, sign_up: SignUp) -> None:
    """Whichever digit is changed, the cursor is not accepted."""
    sign_up()
    sign_up()
    cursor = registrations.list_page(limit=1).next_cursor
    assert cursor is not None
    assert len(registrations.list_page(after=cursor).items) == 1

    for place in range(len(cursor)):
        edited = cursor[:place] + ("0" if cursor[place] != "0" else "1") + cursor[place + 1 :]
        with pytest.raises(InvalidCursor):
            registrations.list_page(after=edited)
