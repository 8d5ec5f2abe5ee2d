"""Cells of CSV files, which a spreadsheet must not run as formulas."""

import re

# A spreadsheet runs a cell that begins with one of these characters, also with the full-width ones and after spaces.
# An apostrophe marks text. Further apostrophes count too, so that the escape can be undone.
_FORMULA = re.compile(r"'*(?:\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")


def escaped(value: str) -> str:
    """Return a value for a CSV file, with an apostrophe in front if a spreadsheet would run it as a formula.

    Args:
        value: The value of the cell.
    """
    return f"'{value}" if _FORMULA.match(value) else value


def unescaped(cell: str) -> str:
    """Undo `escaped`.

    Args:
        cell: A cell that `escaped` has returned.
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell, 1) else cell
