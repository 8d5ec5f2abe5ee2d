"""Writes llms.txt and llms-full.txt, which list and contain the pages for language models."""

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
        for path in (page for entry in entries for page in _expanded(entry, stage)):
            text = (stage / path).read_text(encoding="utf-8")
            lines.append(f"- [{text.partition(chr(10))[0].lstrip('# ')}]({path})")
            texts.append(f"<!-- {path} -->\n\n{text.strip()}\n")
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stage / path, site / path)
    (site / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (site / "llms-full.txt").write_text("\n".join(texts), encoding="utf-8")


def sections(navigation: list[Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield the title and the paths of each part of the navigation; pages outside of a part come first."""
    parts = [next(iter(entry.items())) for entry in navigation]
    yield "Start", [path for _, path in parts if isinstance(path, str)]
    for title, path in parts:
        if not isinstance(path, str):
            yield title, list(_paths(path))


def _paths(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        value = entry if isinstance(entry, str) else next(iter(entry.values()))
        if isinstance(value, str):
            yield value
        else:
            yield from _paths(value)


def _expanded(entry: str, stage: Path) -> list[str]:
    """Return the pages of *entry*, which is a page or a folder that ends with a slash."""
    if not entry.endswith("/"):
        return [entry]
    return sorted(
        page.relative_to(stage).as_posix() for page in stage.joinpath(entry).glob("*.md") if page.name != "SUMMARY.md"
    )
