"""Reads the pages of the built site: their anchors, links and the files that they load."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

_LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}
# Relations of a link element that load nothing.
_NOT_LOADED = {"canonical", "prev", "next", "edit", "alternate"}


@dataclass
class Page:
    """A page of the site.

    Args:
        path: The path of its file.
        anchors: The ids of its elements.
        links: The targets of its links.
        loaded: The addresses that a browser requests for it.
        tags: How often each element occurs in the article.
    """

    path: Path
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    tags: dict[str, int] = field(default_factory=dict)


class _Reader(HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__()
        self._page = page
        self._in_article = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self._page.anchors.add(values["id"])
        if tag == "article":
            self._in_article = True
        if self._in_article:
            self._page.tags[tag] = self._page.tags.get(tag, 0) + 1
        if tag == "a" and "href" in values:
            self._page.links.append(values["href"])
        if (address := values.get(_LOADED.get(tag, ""))) and values.get("rel") not in _NOT_LOADED:
            self._page.loaded.append(address)

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self._in_article = False


def read_page(path: Path) -> Page:
    """Return the page of the file *path*."""
    page = Page(path)
    _Reader(page).feed(path.read_text(encoding="utf-8"))
    return page
