"""Writes llms.txt and llms-full.txt, which list and contain the pages for language models."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from site_text import article_text


def write(configuration: Path, stage: Path, site: Path) -> None:
    """Write both files, and the Markdown of each page beside its HTML.

    Args:
        configuration: The file zensical.toml, whose navigation is used.
        stage: The folder with the Markdown of the pages.
        site: The folder of the built site.
    """
    project = tomllib.loads(configuration.read_text(encoding="utf-8"))["project"]
    lines = [f"# {project['site_name']}", "", f"> {project['site_description']}"]
    texts = []
    for title, entries in sections(project["nav"]):
        lines += ["", f"## {title}", ""]
        for path, name in ((page, name) for name, entry in entries for page in _expanded(entry, stage)):
            text = _text(path, stage, site)
            lines.append(f"- [{name or text.partition(chr(10))[0].lstrip('# ')}]({path})")
            texts.append(f"<!-- {path} -->\n\n{text.strip()}\n")
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_text(text, encoding="utf-8")
    (site / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (site / "llms-full.txt").write_text("\n".join(texts), encoding="utf-8")


def _text(path: str, stage: Path, site: Path) -> str:
    """Return the Markdown of a page, or the text of its HTML if mkdocstrings has written it."""
    text = (stage / path).read_text(encoding="utf-8")
    if "\n::: " not in text:
        return text
    return article_text((site / path).with_suffix(".html").read_text(encoding="utf-8"))


def sections(navigation: list[Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the title of each part of the navigation, and the title, which may be empty, and path of its pages.

    Pages outside of a part come first.
    """
    yield "Start", list(_entries(navigation, deep=False))
    for part in navigation:
        ((title, entries),) = part.items()
        if not isinstance(entries, str):
            yield title, list(_entries(entries))


def _entries(entries: list[Any], *, deep: bool = True) -> Iterator[tuple[str, str]]:
    for entry in entries:
        title, value = ("", entry) if isinstance(entry, str) else next(iter(entry.items()))
        if isinstance(value, str):
            yield "" if value.endswith("/") else title, value
        elif deep:
            yield from _entries(value)


def _expanded(entry: str, stage: Path) -> list[str]:
    """Return the pages of *entry*, which is a page or a folder that ends with a slash."""
    if not entry.endswith("/"):
        return [entry]
    return sorted(
        page.relative_to(stage).as_posix() for page in stage.joinpath(entry).glob("*.md") if page.name != "SUMMARY.md"
    )
