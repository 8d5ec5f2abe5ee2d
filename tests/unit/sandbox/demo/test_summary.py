"""The summary of the demo."""

from collections import Counter
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from registration_persistence.sandbox.demo.summary import Tally, print_summary


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        (1, ["1 sign-up in 0.0 s", "1 row, with line and reason, is in people.rejected.csv"]),
        (2, ["2 sign-ups in 0.0 s", "2 rows, with line and reason, are in people.rejected.csv"]),
    ],
)
def test_nouns_agree_with_their_number(rows: int, lines: list[str]) -> None:
    """One sign-up and one row have no plural."""
    printed = StringIO()

    print_summary(Console(file=printed), Tally(rows=rows, rejected=Counter(wrong=rows)), Path("people.rejected.csv"))

    first, *_, last = printed.getvalue().splitlines()
    assert lines == [first.strip(), last.strip()]
