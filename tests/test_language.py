"""The text of this project has none of the habits that CONTRIBUTING.md rejects."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prose import problems_in_markdown, problems_in_python

ROOT = Path(__file__).parents[1]
PYTHON_FOLDERS = ("src", "tests", "migrations", "infra", "benchmarks", "examples", "docs", "release")
SKIPPED_FOLDERS = {"node_modules", "build", "cdk.out", "site"}
# These two files name the words that they reject.
CHECKER = {Path(__file__), Path(__file__).with_name("prose.py")}


def test_python_is_plain_english() -> None:
    """No docstring, comment or message of any Python file has a rejected habit."""
    files = (file for folder in PYTHON_FOLDERS for file in _files(ROOT / folder, ".py") if file not in CHECKER)

    problems = _report(files, problems_in_python)
    assert not problems, "\n".join(problems)


def test_markdown_is_plain_english() -> None:
    """No page has a rejected habit outside of its code blocks."""
    problems = _report(_files(ROOT, ".md"), problems_in_markdown)

    assert not problems, "\n".join(problems)


def test_there_are_files_to_check() -> None:
    """Every folder of Python files is found, and so are the README and the how-tos."""
    assert [] == [folder for folder in PYTHON_FOLDERS if not list(_files(ROOT / folder, ".py"))]
    assert {"README.md", "docs/architecture.md", "docs/howto/lambda.md"} <= {
        file.relative_to(ROOT).as_posix() for file in _files(ROOT, ".md")
    }


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('"""What is not said is production."""', [(1, "What is not said is production.")]),
        ('"""Read it. Whoever asks gets it."""', [(1, "Whoever asks gets it.")]),
        ('"""A pool.\n\nWhere it is full, wait\nfor it."""', [(3, "Where it is full, wait for it.")]),
        ('def f(a):\n    """F.\n\n    Args:\n        a: Where it is.\n    """', [(5, "Where it is.")]),
        ('"""A list.\n\n- What is new.\n"""', [(3, "What is new.")]),
        ("a = 1\n# Where it is full,\n# it waits.\n", [(2, "Where it is full, it waits.")]),
        ("# One line.\n# What follows is wrong.\n", [(2, "What follows is wrong.")]),
        ("a = 1  # what counts\n", [(1, "what counts")]),
        ("a = 1\n'''What a is for.'''\n", [(2, "What a is for.")]),
        ('"""Read anew."""', [(1, "Read anew.")]),
        ("# Asks\n# afresh.\n", [(1, "Asks afresh.")]),
        ("raise E('is none that is known')", [(1, "is none that is known")]),
        ("raise E(f'{n} octets')", [(1, "octets")]),
        ("# Up to 64 octets.\n", [(1, "Up to 64 octets.")]),
    ],
)
def test_bad_habits_are_found_in_python(source: str, found: list[tuple[int, str]]) -> None:
    """Each habit is reported with its line and its sentence."""
    assert found == problems_in_python(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""What is a lease? A time."""',
        '"""Return the place where it is. It knows what is asked."""',
        '"""Up to 64 octets, by RFC 5321."""',
        '"""Whatever it is, log it."""',
        'QUERY = "SELECT 1 WHERE true. WHERE false"',
        'TITLE = "What is new"',
        "# It says\n# where it is.\n",
        "a = 1  # noqa: S102 what is run is ours\n",
        '"""Read `anew`."""',
        '"""Call it, e.g. where it fails.\n\n    >>> where\n"""',
    ],
)
def test_good_python_passes(source: str) -> None:
    """Questions, places, quoted standards and code are no bad habits."""
    assert [] == problems_in_python(source)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("# Title\n\nWhat is new is old.\n", [(3, "What is new is old.")]),
        ("First.\nWhere it waits,\nit sleeps.\n", [(2, "Where it waits, it sleeps.")]),
        ("1. **Whoever** asks.\n", [(1, "**Whoever** asks.")]),
        ("| a | b |\n|---|---|\n| x | what it is |\n", [(3, "what it is")]),
        ("> Where it is.\n", [(1, "Where it is.")]),
        ("# Make it anew\n\nAnd so on.\n", [(1, "# Make it anew")]),
        ("Text none\nthat is known.\n", [(1, "Text none that is known.")]),
    ],
)
def test_bad_habits_are_found_in_markdown(source: str, found: list[tuple[int, str]]) -> None:
    """Each habit is reported with its line and its sentence."""
    assert found == problems_in_markdown(source)


@pytest.mark.parametrize(
    "source",
    [
        "## What can fail\n\nNothing.\n",
        "What can fail? Nothing.\n",
        "| what | where |\n|:---|---:|\n| a | b |\n",
        "```python\n# What is this\nanew()\n```\n",
        "Ask it,\nwhere it is.\n",
    ],
)
def test_good_markdown_passes(source: str) -> None:
    """Headings, questions, column titles and code blocks are no bad habits."""
    assert [] == problems_in_markdown(source)


def _files(folder: Path, ending: str) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS and not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if name.endswith(ending))


def _report(files: Iterator[Path], problems_in: Callable[[str], list[tuple[int, str]]]) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}:{number}: {sentence}"
        for file in files
        for number, sentence in problems_in(file.read_text(encoding="utf-8"))
    ]
