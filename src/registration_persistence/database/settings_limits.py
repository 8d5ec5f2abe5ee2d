"""The lengths and characters of settings.

Lengths are checked before the rules: a rule reads the text, and its message quotes it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

# In characters; the rules of names count bytes, and allow 63.
_MAX_CHARACTERS: Mapping[str, int] = {
    "host": 300,
    "reader_host": 300,
    "name": 1024,
    "auth": 100,
    "secret_arn": 2048,
    "secret_source": 100,
    "environment": 100,
    "sslmode": 100,
    "ssl_root_cert": 1024,
    "require_auth": 100,
    "ssl_negotiation": 100,
    "tls_groups": 100,
    "pool": 100,
    "user": 1024,
    "password": 8192,
    "application_name": 1024,
}

MAX_QUOTED_CHARACTERS = 100
"""The length at which a value is cut off in an error message."""

MAX_SHOWN_NUMBER = 10**40
"""The number from which an error message does not show a number itself."""

_MAX_SHOWN_ITEMS = 5

MAX_IDENTIFIER_BYTES = 63
"""PostgreSQL truncates longer identifiers (`NAMEDATALEN - 1`)."""

# A log would show a line break as the start of another line.
UNPRINTABLE = "holds a line break or another control character: expected printable characters"
"""The problem of a text that cannot be printed, after the name of its variable."""


def length_problems(values: Mapping[str, Any], subjects: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield subject and problem of each value that is too long to be read.

    Args:
        values: The settings, of any type.
        subjects: The subject of the error message about a setting, if it is not its name.
    """
    for name, most in _MAX_CHARACTERS.items():
        value, subject = values.get(name), subjects.get(name, name)
        if isinstance(value, str):
            if str.__len__(value) > most:
                yield subject, f"{subject} has {str.__len__(value)} characters: expected at most {most}"
        elif not _is_short(value):
            yield subject, f"{subject} is of the type {type(value).__name__}: expected text"


def is_text(text: str) -> bool:
    """Return whether *text* is not empty and can be sent to the server: it has neither NUL nor lone surrogates."""
    try:
        return b"\0" not in text.encode() and text != ""
    except UnicodeEncodeError:
        return False


def _is_short(value: object) -> bool:
    """Return whether a message can show *value*, which is no text: it is short, and not nested."""
    if isinstance(value, list | tuple | set | frozenset):
        return len(value) <= _MAX_SHOWN_ITEMS and all(
            isinstance(item, str) and len(item) <= MAX_QUOTED_CHARACTERS for item in value
        )
    if isinstance(value, bytes | bytearray):
        return len(value) <= MAX_QUOTED_CHARACTERS
    return value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < MAX_SHOWN_NUMBER)
