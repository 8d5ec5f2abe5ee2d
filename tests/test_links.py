"""The relative links of the documentation."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]+)")


def pages() -> list[Path]:
    """Return the Markdown files at the root, in docs/ and in examples/."""
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]


def test_every_link_has_a_target() -> None:
    """No link of the README, of the other pages at the root, of docs/ or of examples/ is broken."""
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages()
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]

    assert [] == broken


def test_the_links_are_found() -> None:
    """Each promise of the README has a link, and external addresses are ignored."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    promises = re.findall(r"^\| \w.*\. \| (.*) \|$", readme, re.MULTILINE)

    assert len(promises) > 10
    assert [] == [promise for promise in promises if not LINK.search(promise)]
    assert ["a.md"] == LINK.findall("[a](a.md#b) [c](https://example.com/d) [e](#f)")
