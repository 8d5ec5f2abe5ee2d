"""The built documentation site: its links, its navigation, its pictures, its reference and llms.txt."""

import importlib
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import site_reference
from markdown_it import MarkdownIt
from site_html import Page
from site_markdown import for_python_markdown
from site_pages import SitePages
from site_text import article_text

ROOT = Path(__file__).parents[2]
STAGE = ROOT / "build/site-source"
SOURCE = ROOT / "src/registration_persistence"


def test_every_link_and_anchor_resolves(pages: dict[Path, Page], site: Path) -> None:
    """A link leads to a file of the site and to an element of it, or has a scheme."""
    broken = [
        f"{file.relative_to(site)}: {link}"
        for file, page in pages.items()
        for link in page.links
        if ":" not in link.partition("#")[0] and not _resolves(file, link, pages)
    ]

    assert [] == broken
    assert sum(len(page.links) for page in pages.values()) > 1000


def _resolves(file: Path, link: str, pages: dict[Path, Page]) -> bool:
    path, _, anchor = unquote(link).partition("#")
    target = (file.parent / path).resolve() if path else file
    if target.is_dir():
        target /= "index.html"
    return target.exists() and (not anchor or target.suffix != ".html" or anchor in pages[target].anchors)


def test_links_to_the_repository_name_existing_files(pages: dict[Path, Page]) -> None:
    """The address of the repository is that of pyproject.toml, and the file or folder behind it exists."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    prefix = re.escape(project["urls"]["Repository"])
    found = {
        match[1]
        for page in pages.values()
        for link in page.links
        if (match := re.match(rf"{prefix}/\w+/main/([^#]+)", link))
    }

    assert len(found) > 20
    assert [] == [path for path in sorted(found) if not (ROOT / path).exists()]


def test_every_page_is_in_the_navigation(site: Path) -> None:
    """Each Markdown file has one place in the navigation, so that the home page leads to it."""
    listed = re.findall(r"^- \[.+\]\((.+)\)$", (site / "llms.txt").read_text(encoding="utf-8"), re.MULTILINE)
    staged = [file.relative_to(STAGE).as_posix() for file in STAGE.rglob("*.md") if file.name != "SUMMARY.md"]

    assert [] == [path for path in staged if listed.count(path) != 1]
    assert len(staged) == len(listed)
    assert [] == [path for path in listed if not (site / path).exists()]
    full = (site / "llms-full.txt").read_text(encoding="utf-8")
    assert [] == [path for path in listed if f"<!-- {path} -->" not in full]
    assert "Store a sign-up with its verification token" in full
    assert "\n::: " not in full


def test_the_pages_load_nothing_from_elsewhere(pages: dict[Path, Page]) -> None:
    """Scripts, styles, fonts and pictures are files of the site."""
    assert [] == [(str(file), address) for file, page in pages.items() for address in page.loaded if "//" in address]


def test_diagrams_and_figures_are_pictures(pages: dict[Path, Page], site: Path) -> None:
    """No page has a diagram that a script would have to draw, and each picture is a file with its own description."""
    html = {file: file.read_text(encoding="utf-8") for file in pages}

    assert [] == [str(file) for file, text in html.items() if re.search(r"class=\"[^\"]*mermaid", text)]
    for page, number in (("diagrams.html", 4), ("overview.html", 3), ("reliability.html", 1), ("performance.html", 7)):
        pictures = re.findall(r"<img[^>]*>", html[site / page])
        assert len(pictures) >= number, page
        assert all(re.search(r"alt=\"[^\"]+\"", picture) for picture in pictures), page


@pytest.mark.parametrize("module", site_reference.modules())
def test_the_reference_has_every_public_name(module: str, pages: dict[Path, Page], site: Path) -> None:
    """Each name of `__all__` has an anchor on the page of its module."""
    page = pages[site / f"reference/{module}.html"]
    imported = importlib.import_module(module)
    names = getattr(imported, "__all__", None) or site_reference.public_names(module, SOURCE)
    expected = [f"{module}.{name}" for name in names]

    assert [] == [name for name in expected if name not in page.anchors]


def test_each_public_module_has_a_page() -> None:
    """The modules are those that the docstring of the package lists, and the package itself."""
    import registration_persistence

    listed = re.findall(r"^- (.+?):", registration_persistence.__doc__ or "", re.MULTILINE)
    names = {name for entry in listed for name in re.findall(r"`(\w+)`", entry)}

    assert {"", *names} == {module.partition(".")[0] for module in site_reference.MODULES}


@pytest.mark.parametrize("source", sorted(SitePages(ROOT, "").paths))
def test_the_site_shows_what_github_shows(source: str, pages: dict[Path, Page], site: Path) -> None:
    """A page has as many lists, entries, tables, code blocks, quotes and headings as GitHub's Markdown has."""
    target = SitePages(ROOT, "").paths[source]
    markdown = (ROOT / source).read_text(encoding="utf-8")
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    expected = Counter(token.tag for token in tokens if token.nesting == 1)
    fences = [token for token in tokens if token.type == "fence" and token.info != "mermaid"]
    shown = pages[site / target.replace(".md", ".html")].tags

    for tag in ("ul", "ol", "li", "table", "blockquote", "h2", "h3", "h4"):
        assert expected[tag] == shown.get(tag, 0), tag
    assert len(fences) == shown.get("pre", 0)


@pytest.mark.parametrize(
    ("github", "python_markdown"),
    [
        ("Text:\n- a\n- b\n", "Text:\n\n- a\n- b\n"),
        ("- a\n  - b\n    c\n\nText\n", "- a\n    - b\n        c\n\nText\n"),
        ("1. a\n   ```sh\n   - no list\n   ```\n", "1. a\n    ```sh\n    - no list\n    ```\n"),
        ("- a\n\n  b\n- c\n", "- a\n\n    b\n\n- c\n"),
        ("```diff\n-a\n- b\n```\n", "```diff\n-a\n- b\n```\n"),
    ],
)
def test_lists_are_written_for_python_markdown(github: str, python_markdown: str) -> None:
    """A list follows a blank line, each level has four spaces, and code blocks stay as they are."""
    assert python_markdown == for_python_markdown(github)


def test_links_lead_to_the_page_or_to_the_repository(tmp_path: Path) -> None:
    """Links to pages, folders and pictures of the site are relative; all others lead to the repository."""
    files: dict[str, str] = {
        "README.md": "[a](docs/howto/a.md#b) [c](docs/howto/) [d](src/d.py) [e](src) ![f](docs/f.svg) [g](#g) `[h](h)`",
        "docs/howto/a.md": "[r](../../README.md) [x](https://example.com/)\n```\n[y](../y.md)\n```\n",
        "src/d.py": "",
        "docs/f.svg": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    pages: Any = SitePages(tmp_path, "https://host/repo")

    assert pages.text("README.md") == (
        "[a](howto/a.md#b) [c](howto/index.md) [d](https://host/repo/blob/main/src/d.py) "
        "[e](https://host/repo/tree/main/src) ![f](f.svg) [g](#g) `[h](h)`"
    )
    assert pages.text("docs/howto/a.md") == ("[r](../overview.md) [x](https://example.com/)\n```\n[y](../y.md)\n```\n")


def test_the_text_of_a_page_has_its_headings_and_lists() -> None:
    """Navigation and marks of links are left out, and blank space is reduced."""
    html = """<nav>menu</nav><article><h1>A<a class="headerlink" href="#a">¶</a></h1>
    <p>Some <code>code</code>.</p><ul><li><p>one</p></li><li>two</li></ul></article><footer>foot</footer>"""

    assert article_text(html) == "# A\n\nSome code.\n- one\n- two\n"
