"""The spelling of the pages, the docstrings, the comments and the messages, with codespell."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# An index of PostgreSQL, a first name, and a variable of SQL that is true.
WORDS = ("brin", "ines", "tru")
# The tests have misspelled words on purpose.
PLACES = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "zensical.toml", "docs", "src", "migrations"]
PLACES += ["examples", "benchmarks", "infra/README.md", "infra/datadog", "infra/registration_infra"]
PLACES += ["infra/migrate_function", "infra/rotate_function"]
SKIPPED = "*.pem,*.json,*.svg,*.csv,__pycache__,FINGERPRINTS,reference_dump.sql"


def spelled_wrong(*places: str | Path) -> str:
    """Return the lines of codespell about *places*."""
    command = [sys.executable, "-m", "codespell_lib", "--skip", SKIPPED, "--ignore-words-list", ",".join(WORDS)]
    return subprocess.run([*command, *places], cwd=ROOT, capture_output=True, text=True, check=False).stdout


def test_the_spelling_is_right() -> None:
    """Codespell knows no word of the project as a misspelling."""
    assert [] == [place for place in PLACES if not (ROOT / place).exists()]
    assert spelled_wrong(*PLACES) == ""


@pytest.mark.parametrize("text", ["# Teh page\n", '"""Recieve it."""\n'])
def test_a_misspelling_is_found(text: str, tmp_path: Path) -> None:
    """A wrong word in a page or in a docstring is reported."""
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")

    assert "==>" in spelled_wrong(page)
