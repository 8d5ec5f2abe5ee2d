"""Which files become pages of the documentation site, and where its links lead."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_CODE = re.compile(r"^ *```.*?^ *```[^\n]*$|`+[^`\n]+`+", re.DOTALL | re.MULTILINE)
_PICTURES = {".svg", ".png"}

_OUTSIDE_DOCS = {
    "README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "infra/README.md": "infrastructure.md",
}
"""The path of the page on the site, by the file of the repository."""


_LISTS = {"docs/decisions": "decisions/index.md", "docs/howto": "howto/index.md"}
"""The path of the generated page that lists a folder."""


class SitePages:
    """The Markdown files of a checkout, and their paths on the site.

    Args:
        root: The folder of the checkout.
        repository: The address of the repository, for links to files that are no page.
    """

    def __init__(self, root: Path, repository: str) -> None:
        self._root = root
        self._repository = repository
        self.paths: Mapping[str, str] = dict(self._found())
        """The path on the site, by the path of the file in the repository."""

    def _found(self) -> list[tuple[str, str]]:
        docs = self._root / "docs"
        pages = [
            (file.relative_to(self._root).as_posix(), file.relative_to(docs).as_posix()) for file in docs.rglob("*.md")
        ]
        pages += [(source, target) for source, target in _OUTSIDE_DOCS.items() if (self._root / source).exists()]
        examples = sorted((self._root / "examples").glob("*/README.md"))
        pages += [(file.relative_to(self._root).as_posix(), f"examples/{file.parent.name}.md") for file in examples]
        return sorted((source, target.replace("README.md", "index.md")) for source, target in pages)

    def pictures(self) -> list[str]:
        """Return the paths of the pictures in docs/, relative to it."""
        docs = self._root / "docs"
        return [file.relative_to(docs).as_posix() for file in docs.rglob("*") if file.suffix in _PICTURES]

    def text(self, source: str) -> str:
        """Return the Markdown of *source* with links that work on the site."""
        markdown = (self._root / source).read_text(encoding="utf-8")
        return outside_code(
            markdown, lambda prose: _LINK.sub(lambda m: f"{m[1]}{self._link(source, m[2])}{m[3]}", prose)
        )

    def _link(self, source: str, link: str) -> str:
        path, _, anchor = link.partition("#")
        if not path or ":" in path:
            return link
        target = os.path.normpath(PurePosixPath(source).parent / path)
        page = self._page(target)
        if page is None:
            kind = "tree" if (self._root / target).is_dir() else "blob"
            page = f"{self._repository}/{kind}/main/{target}"
        else:
            page = os.path.relpath(page, PurePosixPath(self.paths[source]).parent)
        return f"{page}#{anchor}" if anchor else page

    def _page(self, target: str) -> str | None:
        """Return the path on the site of the file or folder *target*, or None if it is not on the site."""
        for candidate in (target, f"{target}/README.md", f"{target}/index.md"):
            if candidate in self.paths:
                return self.paths[candidate]
        if target in _LISTS:
            return _LISTS[target]
        docs, picture = f"docs{os.sep}", PurePosixPath(target)
        return target.removeprefix(docs) if target.startswith(docs) and picture.suffix in _PICTURES else None


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Return *markdown* with *change* applied to the text between its code blocks and code spans."""
    parts, end = [], 0
    for code in _CODE.finditer(markdown):
        parts += [change(markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(markdown[end:])])
