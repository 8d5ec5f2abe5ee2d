"""Draws the Mermaid diagrams of the pages, because Zensical's pages would load Mermaid from another host."""

import json
import re
from hashlib import sha256
from pathlib import Path

import mmdr

_DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_THEMES = {"light": "default", "dark": "dark"}


def with_pictures(markdown: str, folder: Path, address: str) -> str:
    """Return *markdown* with pictures instead of diagrams, one for each colour scheme.

    Args:
        markdown: The text of a page.
        folder: The folder to write the pictures to.
        address: The path from the page to this folder.
    """

    def picture(diagram: re.Match[str]) -> str:
        name = sha256(diagram[1].encode()).hexdigest()[:12]
        for scheme, theme in _THEMES.items():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}-{scheme}.svg").write_text(_svg(diagram[1], theme), encoding="utf-8")
        title = f"Diagram: {diagram[1].split()[0]}"
        return "\n".join(f"![{title}]({address}/{name}-{scheme}.svg#only-{scheme})" for scheme in _THEMES)

    return _DIAGRAM.sub(picture, markdown)


def _svg(diagram: str, theme: str) -> str:
    """Return the picture of *diagram*; its text is smaller than its boxes, because the font of a reader may be wide."""
    source = f"%%{{init: {json.dumps({'theme': theme})}}}%%\n{diagram}"
    svg: str = mmdr.render(source, "merman").svg()
    return svg.replace("font-size:16px", "font-size:14px")
