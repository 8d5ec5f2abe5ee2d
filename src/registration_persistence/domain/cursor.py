"""The cursor of `RegistrationRepository.list_page`: an id and a checksum."""

import re
from hashlib import blake2s
from uuid import UUID

from registration_persistence.errors import InvalidCursor

_CHECKSUM_BYTES = 2
_CURSOR = re.compile(r"[0-9a-f]{36}")


def checked_cursor(cursor: str | None) -> UUID:
    """Return the id after which the page begins.

    Raises:
        InvalidCursor: *cursor* was not returned by `list_page`, or was edited.
    """
    if cursor is None:
        return UUID(int=0)
    last = UUID(hex=cursor[:32]) if isinstance(cursor, str) and _CURSOR.fullmatch(cursor) else None
    if last is None or cursor != cursor_after(last):
        raise InvalidCursor("the cursor was not returned by list_page: pass the next_cursor of a page")
    return last


def cursor_after(last: UUID) -> str:
    """Return the cursor of the page after *last*; its checksum detects an edited cursor."""
    return last.hex + blake2s(last.bytes, digest_size=_CHECKSUM_BYTES).hexdigest()
