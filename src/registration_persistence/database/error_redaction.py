"""Removes the values of rows and parameters from errors, because an error tracker would send them.

The server quotes rows in DETAIL, statements in CONTEXT, and values in the messages of data exceptions.
"""

import re
from collections.abc import Iterator

import psycopg
from psycopg import pq
from sqlalchemy.exc import SQLAlchemyError, StatementError

from registration_persistence.lazy_pattern import lazy_pattern

_Field = pq.DiagnosticField

# The fields that name objects of the schema and places in the source of PostgreSQL; the others may quote values.
_KEPT_FIELDS = (
    _Field.SEVERITY, _Field.SEVERITY_NONLOCALIZED, _Field.SQLSTATE, _Field.STATEMENT_POSITION, _Field.SCHEMA_NAME,
    _Field.TABLE_NAME, _Field.COLUMN_NAME, _Field.DATATYPE_NAME, _Field.CONSTRAINT_NAME, _Field.SOURCE_FILE,
    _Field.SOURCE_LINE, _Field.SOURCE_FUNCTION,
)  # fmt: skip

_HIDDEN = "…"

# Up to the last quotation mark, because the value may contain others; the marks of other languages are included.
_QUOTED_VALUE = lazy_pattern(r"""["'«»„“].*["'»«“”]""", re.DOTALL)

_QUOTED_NAME = lazy_pattern(r'"[^"]*"')
_IDENTIFIER = lazy_pattern(r"[A-Za-z_$][A-Za-z0-9_$.-]{0,127}")
_WORD = lazy_pattern(r"\S+")

# The messages of these errors quote values: data exceptions, and the text near a syntax error.
_QUOTES_VALUES = (psycopg.DataError, psycopg.errors.SyntaxError)

# It rejects the value of a setting, for example the name of a role that does not exist.
_CHECK_OF_A_SETTING = "call_string_check_hook"

_SQL_PARTS = lazy_pattern(
    r"""(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<name>"(?:[^"]|"")*(?:"|\Z))
    | (?P<literal>
        [eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)
      | '(?:[^']|'')*(?:'|\Z)
      | (?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?:(?P=tag)|\Z)
      | \b\d{7,}\b)""",
    re.DOTALL | re.VERBOSE,
)


def redact_error(error: BaseException) -> None:
    """Remove values from *error*, and from the errors of driver, encoding and SQLAlchemy in its chain."""
    for link in _chain(error):
        if isinstance(link, psycopg.Error):
            _redact_driver_error(link)
        elif isinstance(link, StatementError):
            _redact_statement_error(link)
        elif isinstance(link, UnicodeEncodeError | UnicodeDecodeError):
            link.object = type(link.object)()
            link.args = (link.encoding, link.object, link.start, link.end, link.reason)


def redact_raised_error(raised: SQLAlchemyError | None, error: BaseException) -> None:
    """Remove values from *error*, and from *raised*, the error that SQLAlchemy raises instead."""
    redact_error(error)
    if isinstance(raised, StatementError):
        raised.args = (f"({type(error).__name__}) {masked_message(str(error))}",)
        _redact_statement_error(raised)


def masked_message(message: str, *, quotes_values: bool = False) -> str:
    """Return *message* without mailboxes, and without quoted text that is not a name.

    Args:
        message: A message of the server or the driver.
        quotes_values: Whether everything quoted is a value.
    """
    if quotes_values:
        message = _QUOTED_VALUE.sub(f'"{_HIDDEN}"', message)
    message = _QUOTED_NAME.sub(_masked_name, message)
    return _WORD.sub(lambda word: _HIDDEN if "@" in word[0][1:-1] else word[0], message)


def masked_statement(statement: str) -> str:
    """Return *statement* without its literals and comments."""
    return _SQL_PARTS.sub(_masked_part, statement)


def _redact_driver_error(error: psycopg.Error) -> None:
    primary = error.diag.message_primary
    quotes_values = isinstance(error, _QUOTES_VALUES) and error.diag.source_function != _CHECK_OF_A_SETTING
    if primary or error.args:
        message = masked_message(primary or str(error), quotes_values=quotes_values)
        error.args = (message,)
        result = error.pgresult
        if result is not None:
            # psycopg's own form of a pickled error; the result would also contain the whole message.
            fields: dict[int, bytes | None] = {field: result.error_field(field) for field in _KEPT_FIELDS}
            text = message.encode(error._encoding, "replace")  # noqa: SLF001 psycopg has no other way to ask
            error._info = fields | {_Field.MESSAGE_PRIMARY: text}  # noqa: SLF001 psycopg has no setter
    # The connection repeats the message, and knows the password.
    error._pgconn = None  # noqa: SLF001 psycopg has no setter


def _redact_statement_error(error: StatementError) -> None:
    error.params = None
    error.hide_parameters = True
    error.statement = error.statement and masked_statement(error.statement)


def _masked_name(quoted: re.Match[str]) -> str:
    return quoted[0] if _IDENTIFIER.fullmatch(quoted[0][1:-1]) else f'"{_HIDDEN}"'


def _masked_part(part: re.Match[str]) -> str:
    if part["comment"]:
        return " "
    if part["name"]:
        return _masked_name(part)
    return f"'{_HIDDEN}'"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Return *error*, its causes and the errors that were being handled, each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        link = waiting.pop()
        if id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting += [further for further in (link.__cause__, link.__context__) if further is not None]
