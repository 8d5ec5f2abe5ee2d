"""The masks of messages and statements."""

import time

import pytest

from registration_persistence.database.error_redaction import masked_message, masked_statement


@pytest.mark.parametrize(
    ("message", "masked"),
    [
        ('relation "public.gone" does not exist', 'relation "public.gone" does not exist'),
        ('prepared statement "_pg3_0" does not exist', 'prepared statement "_pg3_0" does not exist'),
        ("operator does not exist: jsonb @> integer", "operator does not exist: jsonb @> integer"),
        ('column "ada@example.com" does not exist', 'column "…" does not exist'),
        ('role "Ada King" does not exist', 'role "…" does not exist'),
        ("no mail to <ada@example.com>, please", "no mail to … please"),
    ],
)
def test_a_message_keeps_its_names(message: str, masked: str) -> None:
    """Quoted text that cannot be a name, and every word with a mailbox, is hidden."""
    assert masked == masked_message(message)


@pytest.mark.parametrize(
    ("message", "masked"),
    [
        ('invalid input syntax for type integer: "Ada"', 'invalid input syntax for type integer: "…"'),
        ('invalid input syntax for type integer: "A "B" C"', 'invalid input syntax for type integer: "…"'),
        ("ungültige Eingabesyntax für Typ integer: »Ada«", 'ungültige Eingabesyntax für Typ integer: "…"'),
        ("can't parse date '0001-01-01 BC'", 'can"…"'),
    ],
)
def test_a_data_exception_shows_no_value(message: str, masked: str) -> None:
    """Everything from the first to the last quotation mark is hidden, in every language of the server."""
    assert masked == masked_message(message, quotes_values=True)


@pytest.mark.parametrize(
    ("statement", "masked"),
    [
        ("SELECT 'Ada''s', E'\\'Ada', $$Ada$$, $t$ Ada's $t$", "SELECT '…', '…', '…', '…'"),
        ("SELECT 1 -- don't\nWHERE x = 'Ada'", "SELECT 1  \nWHERE x = '…'"),
        ("SELECT /* it's */ 'Ada'", "SELECT   '…'"),
        ("SELECT 'Ada", "SELECT '…'"),
        ('SELECT "column", "it\'s", \'Ada\'', 'SELECT "column", "…", \'…\''),
        ("SELECT 442071234567, $1, 12", "SELECT '…', $1, 12"),
    ],
)
def test_a_statement_shows_no_literal(statement: str, masked: str) -> None:
    """Strings, comments and long numbers are hidden; names, short numbers and parameters are kept."""
    assert masked == masked_statement(statement)


@pytest.mark.parametrize("part", ["x", "'", '"', "$a$", "E'\\", "/*", "a@", "1", "\\", "é«"])
def test_a_long_text_takes_linear_time(part: str) -> None:
    """Fifty thousand parts take less than the half second that a quadratic mask would need for a few kilobytes."""
    started = time.process_time()
    masked_message(part * 50_000)
    masked_message(part * 50_000, quotes_values=True)
    masked_statement(part * 50_000)

    assert time.process_time() - started < 2
