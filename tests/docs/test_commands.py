"""Every command of the pages exists with its options, and those that need nothing but a database are run."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from executed_blocks import EXECUTED
from page_blocks import blocks_of
from site_pages import SitePages
from workspace import Workspace

from registration_persistence import ImportRow, PrivacyRepository, bulk_import
from registration_persistence.cli.console import WrongUse
from registration_persistence.cli.main import build_parser

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROGRAM = "registration-persistence"
PAGES = {page: (ROOT / page).read_text(encoding="utf-8") for page in SitePages(ROOT, "").paths}
# Their commands need a database alone.
RUN = sorted(
    page for (page, language), test in EXECUTED.items() if language == "sh" and test.endswith("test_commands.py")
)
_SPAN = re.compile(r"`([^`\n]+)`")
_ID = re.compile(r"\bID\b…?")
_SCHEDULE = re.compile(r"(?:[\d*/,-]+ +){5}")


def shell_lines() -> Iterator[tuple[str, str]]:
    """Yield each line of the shell and cron blocks, and each code span, with its place."""
    for page, text in PAGES.items():
        for block in blocks_of(text):
            if block.language in {"sh", "cron", ""}:
                for line in block.text.replace("\\\n", " ").splitlines():
                    yield f"{page}:{block.line}", _SCHEDULE.sub("", line)
        for span in _SPAN.findall(re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)):
            yield page, span


def commands(program: str) -> list[tuple[str, list[str]]]:
    """Return the arguments of each command of *program*, with its place."""
    start = re.compile(rf"(?:^|[|&;`] *|[A-Z_]+=\S+ )(?:\.venv/bin/)?{re.escape(program)}(?: +(.*)|$)")
    found = []
    for place, line in shell_lines():
        if (match := start.search(line)) and (typed := match[1] or "").strip():
            typed = _ID.sub("01890a5d-ac96-774b-bcce-b302099a8057", re.split(r"[|<>&;]", typed)[0])
            words = shlex.split(typed, comments=True)
            found.append((place, [word for word in words if word != "…"]))
    return [(place, words) for place, words in found if "COMMAND" not in words]


@pytest.mark.parametrize(("place", "arguments"), commands(PROGRAM))
def test_the_parser_accepts_each_command(place: str, arguments: list[str]) -> None:
    """The command and its options exist; a code span may leave out the required arguments."""
    problem = ""
    try:
        build_parser().parse(arguments)
    except WrongUse as error:
        problem = str(error)
    except SystemExit as end:
        problem = "" if end.code == 0 else f"it ended with {end.code}"  # --help and --version end with 0

    assert not problem or (":" not in place and re.search("required|is missing", problem)), f"{place}: {problem}"


def test_the_commands_are_found() -> None:
    """Code blocks, tables of cron and code spans are searched."""
    found = commands(PROGRAM)

    assert len(found) > 30
    assert {"expire", "import", "outbox", "bootstrap"} <= {arguments[0] for _, arguments in found}


def test_each_target_of_make_exists() -> None:
    """`make …` names a target of the Makefile, and variables that it uses."""
    targets = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))
    variables = set(re.findall(r"\$\(?\(?([A-Z_]+)\)", MAKEFILE)) | {"PYTHON"}
    words = [(place, word) for place, arguments in commands("make") for word in arguments]

    assert [] == [found for found in words if "=" not in found[1] and found[1] not in targets]
    assert [] == [found for found in words if "=" in found[1] and found[1].partition("=")[0] not in variables]
    assert len(words) > 20


@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_succeed(page: str, workspace: Workspace, tmp_path: Path) -> None:
    """The shell blocks of the page run one after the other, on a database with the people whom they name."""
    with workspace.database.session() as session:
        bulk_import(session, [ImportRow("ada@example.com"), ImportRow("eve@example.com")])
        (ada,) = PrivacyRepository(session).ids_by_email("ada@example.com")
    csv = [block.text for block in blocks_of(PAGES[page]) if block.language == "csv"]
    (tmp_path / "people.csv").write_text("".join(csv), encoding="utf-8")
    (tmp_path / "address.txt").write_text("ada@example.com\n", encoding="utf-8")
    scripts = [block.text for block in blocks_of(PAGES[page]) if block.language == "sh"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    for script in scripts:
        done = subprocess.run(
            ["bash", "-ec", _ID.sub(str(ada), script)],
            cwd=tmp_path,
            env={**workspace.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stderr}"
        assert done.stdout + done.stderr or ">" in script
