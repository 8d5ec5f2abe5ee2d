"""Finds the prose of Python and Markdown files, and the habits that CONTRIBUTING.md rejects."""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)[.!?][\"')\]*_]*\s+")
_CLAUSE_START = re.compile(r"[\s\"'(\[*_]*(?:[Ww]hat|[Ww]hoever|[Ww]here)\b")
_REJECTED_WORDS = re.compile(r"\b(?:octets|anew|afresh|none\s+that)\b", re.IGNORECASE)
_STANDARD = re.compile(r"\bRFC \d+")
_INLINE_CODE = re.compile(r"(`+).*?\1", re.DOTALL)
_LIST_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")
_SECTION = re.compile(r"\s*(?:Args|Attributes|Raises|Returns|Yields):\s*")
_ENTRY = re.compile(r"\s+[\w.*` ,]+(?: \([^)]*\))?:\s+")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_TABLE_RULE = re.compile(r"\s*\|?[\s:|-]*-[\s:|-]*")


@dataclass(frozen=True)
class Line:
    """A line of prose: its number in the file, its text, and whether it starts a new block of sentences."""

    number: int
    text: str
    starts_block: bool = False
    is_heading: bool = False


def problems_in_python(source: str) -> list[tuple[int, str]]:
    """Return the line and the sentence of each bad habit in docstrings, comments and string literals."""
    docstrings, literals = _strings(ast.parse(source))
    found = [problem for node in docstrings for problem in _problems(_docstring_lines(node))]
    found += _problems(_comment_lines(source))
    found += [(node.lineno, " ".join(str(node.value).split())) for node in literals if _has_rejected_word(node.value)]
    return sorted(found)


def problems_in_markdown(source: str) -> list[tuple[int, str]]:
    """Return the line and the sentence of each bad habit outside of code blocks."""
    return sorted(_problems(_markdown_lines(source)))


def _strings(tree: ast.AST) -> tuple[list[ast.Constant], list[ast.Constant]]:
    """Return the strings that stand alone, which document something, and all other strings."""
    nodes = [*ast.walk(tree)]
    texts = [node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    alone = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    return [node for node in texts if id(node) in alone], [node for node in texts if id(node) not in alone]


def _docstring_lines(node: ast.Constant) -> Iterator[Line]:
    in_section = False
    for number, text in enumerate(str(node.value).split("\n"), node.lineno):
        if text.lstrip().startswith((">>>", "...")):
            yield Line(number, "", starts_block=True)
        elif _SECTION.fullmatch(text):
            in_section = True
            yield Line(number, "", starts_block=True)
        elif in_section and (entry := _ENTRY.match(text)):
            yield Line(number, text[entry.end() :], starts_block=True)
        else:
            in_section = in_section and bool(text.strip())
            yield _plain_line(number, text)


def _comment_lines(source: str) -> Iterator[Line]:
    """Yield the comments; a comment behind code, and the first one after code, start a new block."""
    previous = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            number, column = token.start
            stands_alone = not token.line[:column].strip()
            line = _plain_line(number, token.string.lstrip("#!: "))
            continues = stands_alone and previous == number - 1 and not line.starts_block
            yield Line(number, line.text, starts_block=not continues)
            previous = number if stands_alone else -1


def _markdown_lines(source: str) -> Iterator[Line]:
    lines = source.split("\n")
    in_code = False
    for number, (text, following) in enumerate(zip(lines, [*lines[1:], ""], strict=True), 1):
        fence = bool(_FENCE.match(text))
        in_code ^= fence
        if in_code or fence or _TABLE_RULE.fullmatch(text):
            yield Line(number, "", starts_block=True)
        elif text.startswith("#"):
            yield Line(number, text, starts_block=True, is_heading=True)
        elif text.lstrip().startswith("|"):
            is_heading = bool(_TABLE_RULE.fullmatch(following))
            for cell in text.strip().strip("|").split("|"):
                yield Line(number, cell.strip(), starts_block=True, is_heading=is_heading)
        else:
            yield _plain_line(number, text.lstrip("> "))


def _plain_line(number: int, text: str) -> Line:
    item = _LIST_ITEM.match(text)
    return Line(number, text[item.end() if item else 0 :].strip(), starts_block=bool(item) or not text.strip())


def _problems(lines: Iterable[Line]) -> list[tuple[int, str]]:
    return [
        (number, sentence)
        for block in _blocks(lines)
        for number, sentence in _sentences(block)
        if _has_rejected_word(sentence) or (not block[0].is_heading and _starts_with_clause(sentence))
    ]


def _blocks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Yield the lines that belong together: a paragraph, a list item, a table cell, an argument."""
    block: list[Line] = []
    for line in lines:
        if block and (line.starts_block or block[0].is_heading):
            yield block
            block = []
        if line.text:
            block.append(line)
    if block:
        yield block


def _sentences(block: list[Line]) -> Iterator[tuple[int, str]]:
    """Yield each sentence of *block* with the number of the line on which it starts."""
    text = " ".join(line.text for line in block)
    starts = [0, *(match.end() for match in _SENTENCE_END.finditer(text))]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        behind, number = 0, block[0].number
        for line in block:
            if behind <= start:
                number = line.number
            behind += len(line.text) + 1
        yield number, text[start:end].strip()


def _starts_with_clause(sentence: str) -> bool:
    return bool(_CLAUSE_START.match(sentence)) and not sentence.rstrip("\"')*_").endswith("?")


def _has_rejected_word(text: object) -> bool:
    """Return whether *text* has a rejected word; a sentence that names an RFC may say "octets"."""
    found = {word.lower() for word in _REJECTED_WORDS.findall(_INLINE_CODE.sub("", str(text)))}
    return bool(found - {"octets"} if _STANDARD.search(str(text)) else found)
