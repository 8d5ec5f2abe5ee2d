"""`Subcommands`: the commands of the program, and of each group of commands."""

from collections.abc import Iterator, Mapping, Sequence

from registration_persistence.cli.command_parser import JSON_VARIABLE, Command, CommandParser, Run


class Subcommands:
    """The commands of a parser.

    Args:
        parser: The parser to add the commands to.
    """

    def __init__(self, parser: CommandParser) -> None:
        self._parser = parser
        self._subparsers = parser.add_subparsers(metavar="COMMAND")

    def add(
        self,
        name: str,
        run: Run,
        summary: str,
        *,
        examples: Sequence[str],
        json_fields: Mapping[str, str],
        json_lines: bool = False,
        needs_database: bool = True,
        epilog: str = "",
    ) -> CommandParser:
        """Add a command and return its parser, to declare its arguments.

        Args:
            name: The name of the command.
            run: The function that runs the command; it prints its results with `console.report`.
            summary: One line for the list of commands in `--help`.
            examples: Command lines without the name of the program, for `--help`, the page and the tests.
            json_fields: The fields of each JSON object that `--json` prints, with their meaning.
            json_lines: Whether `--json` prints any number of objects, one on each line. Defaults to one object.
            needs_database: Whether the examples connect to the database. Defaults to true.
            epilog: A note below the arguments in the command's own `--help`. Defaults to none.
        """
        parser = self._add(name, summary, epilog=epilog)
        parser.add_argument("--json", action="store_true", variable=JSON_VARIABLE, help="print the result as JSON")
        parser.command = Command(run, examples, json_fields, json_lines, needs_database)
        return parser

    def add_group(self, name: str, summary: str) -> "Subcommands":
        """Add a command that has commands of its own, and return those.

        Args:
            name: The name of the command.
            summary: One line for the list of commands in `--help`.
        """
        return Subcommands(self._add(name, summary))

    def _add(self, name: str, summary: str, *, epilog: str = "") -> CommandParser:
        parser = self._subparsers.add_parser(name, help=summary, description=summary, epilog=epilog)
        self._parser.commands[name] = parser
        return parser


def commands_of(parser: CommandParser) -> Iterator[CommandParser]:
    """Yield the parser of each command, without the groups."""
    if parser.command is not None:
        yield parser
    for command in parser.commands.values():
        yield from commands_of(command)
