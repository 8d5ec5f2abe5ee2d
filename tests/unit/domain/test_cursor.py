"""The cursor of `list_page`."""

from typing import Any
from uuid import UUID

import pytest

from registration_persistence.domain.cursor import checked_cursor, cursor_after
from registration_persistence.errors import InvalidCursor

LAST = UUID("01a20a8a-9603-733d-9a12-6297a9d994f0")


def test_a_cursor_returns_its_id() -> None:
    """The cursor after an id leads back to the id."""
    assert LAST == checked_cursor(cursor_after(LAST))


def test_without_a_cursor_the_first_page_begins() -> None:
    """No id is smaller than the one that is returned."""
    assert UUID(int=0) == checked_cursor(None)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        str(LAST),
        LAST.hex,
        f"{LAST.hex}0000",
        cursor_after(LAST).upper(),
        f"{cursor_after(LAST)}\n",
        f"{UUID(int=1).hex}{cursor_after(LAST)[-4:]}",
        LAST,
        7,
    ],
)
def test_an_edited_cursor_is_rejected(cursor: Any) -> None:
    """Form and checksum must be those of a returned cursor."""
    with pytest.raises(InvalidCursor, match="was not returned by list_page"):
        checked_cursor(cursor)
