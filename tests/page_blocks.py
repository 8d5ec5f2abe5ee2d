"""Reads the code blocks of a Markdown page, and executes a page whose blocks build on each other."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
_FILE = re.compile(r"# ([\w/.-]+\.\w+)\n")
_TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Block:
    """A code block: its language, its text and the number of the line on which it starts."""

    language: str
    text: str
    line: int


def blocks_of(page: str) -> Iterator[Block]:
    """Yield the code blocks of *page* in their order."""
    for found in _BLOCK.finditer(page):
        indent = len(found["indent"])
        text = "".join(line[indent:] if line.strip() else line for line in found["text"].splitlines(keepends=True))
        yield Block(found["language"], text, page.count("\n", 0, found.start()) + 1)


class PageRun:
    """A page whose files are written, and whose commands are run and compared with their outputs.

    Args:
        folder: The folder to work in.
        environ: The environment variables of the commands.
        skipped: Texts of commands that are not run.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str], skipped: tuple[str, ...]) -> None:
        self._folder = folder
        self._environ = environ
        self._skipped = skipped
        self.commands = 0

    def follow(self, page: str) -> None:
        """Do with each block what a reader would do with it; `…` in an output stands for any text."""
        output: str | None = None
        for block in blocks_of(page):
            if block.language == "python":
                self._write(block)
            elif block.language == "sh" and not any(text in block.text for text in self._skipped):
                output = self._run(block)
            elif block.language == "text":
                assert output is not None, f"line {block.line}: no command precedes this output"
                expected = ".*".join(re.escape(part) for part in block.text.split("…"))
                assert re.fullmatch(expected, output, re.DOTALL), f"line {block.line}: the output is\n{output}"
                output = None

    def _write(self, block: Block) -> None:
        name = _FILE.match(block.text)
        assert name, f"line {block.line}: the first line does not name the file"
        file = self._folder / name[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text, encoding="utf-8")

    def _run(self, block: Block) -> str:
        done = subprocess.run(
            ["bash", "-ec", block.text],
            cwd=self._folder,
            env=dict(self._environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"line {block.line}: {done.stdout}"
        self.commands += 1
        return done.stdout
