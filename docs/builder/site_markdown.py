"""Turns the Markdown of GitHub into that of Python-Markdown, which Zensical uses."""

import re

_ITEM = re.compile(r"( *)([-*+]|\d+\.) +(?=\S)")
_FENCE = re.compile(r" *(```+)")
_STEP = 4


def for_python_markdown(markdown: str) -> str:
    """Return *markdown* with a blank line before each list and four spaces for each level of a list.

    GitHub needs neither: a list interrupts a paragraph, and an item continues at the column of its text.
    """
    lines: list[str] = []
    columns: list[int] = []
    fence = ""
    is_loose = False
    for line in markdown.split("\n"):
        indent = len(line) - len(line.lstrip(" "))
        item = None if fence else _ITEM.match(line)
        if line.strip() and not fence:
            columns = [column for column in columns if column <= indent]
        if item and lines and lines[-1] and (is_loose or (not columns and _is_paragraph(lines[-1]))):
            lines.append("")
        is_loose = not item and (is_loose or not line.strip())
        level, base = len(columns), columns[-1] if columns else 0
        lines.append(" " * (_STEP * level) + line[min(base, indent) :] if line.strip() else "")
        if item:
            columns.append(item.end())
        if mark := _FENCE.match(line):
            fence = "" if fence and mark[1] == fence else fence or mark[1]
    return "\n".join(lines)


def _is_paragraph(line: str) -> bool:
    return not line.startswith(("#", "|", " ")) and not _ITEM.match(line)
