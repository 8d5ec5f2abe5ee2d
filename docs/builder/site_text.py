"""The text of an HTML page, for pages that have no Markdown of their own."""

import re
from html.parser import HTMLParser

_BLOCKS = {"p", "pre", "tr", "div"}
_HEADING = re.compile(r"h([1-6])")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._depth = 0
        self._in_headerlink = False
        self._in_code = False
        self._in_item = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._depth += tag == "article"
        self._in_code |= tag == "pre"
        self._in_headerlink = tag == "a" and dict(attrs).get("class") == "headerlink"
        if not self._depth:
            return
        if heading := _HEADING.fullmatch(tag):
            self.parts.append(f"\n\n{'#' * int(heading[1])} ")
        elif tag == "li":
            self.parts.append("\n- ")
            self._in_item = True
        elif tag in _BLOCKS and not self._in_item:
            self.parts.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "article"
        self._in_headerlink = False
        self._in_code &= tag != "pre"
        self._in_item &= tag != "li"

    def handle_data(self, data: str) -> None:
        if self._depth and not self._in_headerlink:
            self.parts.append(data if self._in_code else re.sub(r"\s+", " ", data))


def article_text(html: str) -> str:
    """Return the text of the article of *html*, with headings and lists as in Markdown."""
    reader = _Reader()
    reader.feed(html)
    text = re.sub(r"[ \t]+$|(?<=^[#-]) +(?= )|(?<=\S) +(?= )|^ (?=\S)", "", "".join(reader.parts), flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
