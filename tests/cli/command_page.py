"""Write the list of commands in docs/cli.md from the parser of the command line: `make diagrams`."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from registration_persistence.cli.command_parser import Command, CommandParser
from registration_persistence.cli.commands import commands_of
from registration_persistence.cli.main import build_parser

FILE = Path(__file__).parents[2] / "docs/cli.md"
HEADING = "\n## Commands\n"


def text() -> str:
    """Return the page: the part that is written by hand, and the list of commands."""
    written, _, _ = FILE.read_text(encoding="utf-8").partition(HEADING)
    sections = ("\n".join(_section(parser, parser.command)) for parser in commands_of(build_parser()) if parser.command)
    introduction = "`make diagrams` generates this list from the parser, and a test compares both.\n"
    return "\n".join([f"{written}{HEADING}", introduction, *sections])


def _section(parser: CommandParser, command: Command) -> Iterator[str]:
    yield f"### {parser.prog.partition(' ')[2]}"
    yield ""
    yield f"{_sentence(parser.description or '')}"
    if parser.epilog:
        yield _sentence(parser.epilog)
    yield ""
    yield "```sh"
    yield from (f"{parser.prog.partition(' ')[0]} {example}" for example in command.examples)
    yield "```"
    yield ""
    if rows := [_argument(parser, action) for action in parser.declared if action.dest not in ("help", "json")]:
        yield from ("| argument | meaning | variable |", "|---|---|---|", *rows, "")
    yield "`--json` prints " + ("an object on each line:" if command.json_lines else "one object:")
    yield ""
    yield "| field | meaning |"
    yield "|---|---|"
    yield from (f"| `{name}` | {meaning} |" for name, meaning in command.json_fields.items())
    yield ""


def _argument(parser: CommandParser, action: argparse.Action) -> str:
    names = next(iter(action.option_strings), "") or str(action.metavar or action.dest).upper()
    takes_value = bool(action.option_strings) and action.nargs != 0
    value = action.metavar or "|".join(action.choices or ()) or action.dest.upper()  # as in argparse
    variable = parser.variables.get(action.dest)
    required = "; required" if action.required and action.option_strings else ""
    choices = f": {', '.join(action.choices)}" if action.choices and not action.option_strings else ""
    shown = f"{names} {value}" if takes_value else names
    return f"| {_code(shown)} | {action.help}{choices}{required} | {f'`{variable}`' if variable else ''} |"


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if not text or text.endswith(".") else ".")


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
