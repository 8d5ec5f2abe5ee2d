"""The text that a setting may hold: what a server can receive, and what a log can show on one line."""

MAX_IDENTIFIER_BYTES = 63
"""PostgreSQL truncates longer identifiers (`NAMEDATALEN - 1`)."""

# A log would show a line break as the start of another line.
UNPRINTABLE = "holds a line break or another control character: expected printable characters"
"""The problem of a text that cannot be printed, after the name of its variable."""


def is_text(text: str) -> bool:
    """Return whether *text* is not empty and can be sent to the server: it has neither NUL nor lone surrogates."""
    try:
        return b"\0" not in text.encode() and text != ""
    except UnicodeEncodeError:
        return False
