"""The cursor of `RegistrationRepository.list_page`: an id and a checksum."""

from hashlib import blake2s
from uuid import UUID

from registration_persistence.domain.text import plain_text
from registration_persistence.errors import InvalidCursor
from registration_persistence.lazy_pattern import lazy_pattern

_CHECKSUM_BYTES = 2
_CURSOR_CHARACTERS = 32 + 2 * _CHECKSUM_BYTES
_CURSOR = lazy_pattern(r"[0-9a-f]{36}")


def checked_cursor(cursor: str | None) -> UUID:
    """Return the id after which the page begins.

    Raises:
        InvalidCursor: *cursor* was not returned by `list_page`, or was edited.
    """
    if cursor is None:
        return UUID(int=0)
    given = plain_text(cursor, _CURSOR_CHARACTERS)
    last = UUID(hex=given[:32]) if given and _CURSOR.fullmatch(given) else None
    if last is None or given != cursor_after(last):
        raise InvalidCursor("the cursor was not returned by list_page: pass the next_cursor of a page")
    return last


def cursor_after(last: UUID) -> str:
    """Return the cursor of the page after *last*; its checksum detects an edited cursor."""
    return last.hex + blake2s(last.bytes, digest_size=_CHECKSUM_BYTES).hexdigest()
