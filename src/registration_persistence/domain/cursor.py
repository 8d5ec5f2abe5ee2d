"""The cursor of `RegistrationRepository.list_page`."""

import re
from hashlib import blake2s
from uuid import UUID

from registration_persistence.errors import InvalidCursor

_CURSOR = re.compile(r"[0-9a-f]{36}")


def checked_cursor(cursor: str | None) -> UUID:
    """Return the id that a page continues after."""
    if cursor is None:
        return UUID(int=0)
    last = UUID(hex=cursor[:32]) if isinstance(cursor, str) and _CURSOR.fullmatch(cursor) else None
    if last is None or cursor != cursor_after(last):
        raise InvalidCursor("the cursor is not one that list_page gave out")
    return last


def cursor_after(last: UUID) -> str:
    """Return the cursor of the page that begins behind *last*, with two octets by which an edited one is known."""
    return last.hex + blake2s(last.bytes, digest_size=2).hexdigest()
