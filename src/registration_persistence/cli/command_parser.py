"""`CommandParser`: the options of a command, their environment variables, and one line for each wrong use."""

import argparse
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from registration_persistence.cli.console import WrongUse, quoted

Run: TypeAlias = Callable[[argparse.Namespace], int]
"""Runs a command with its arguments, and returns the exit code."""

JSON_VARIABLE = "REGISTRATION_PERSISTENCE_JSON"

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Command:
    """The description of a command, for `docs/cli.md` and for the tests that run every command.

    Args:
        run: The function that runs the command.
        examples: Command lines without the name of the program; each can be executed in a shell.
        json_fields: The fields of each JSON object that `--json` prints, with their meaning.
        json_lines: Whether `--json` prints any number of objects, one on each line, instead of one object.
        needs_database: Whether each example connects to the database of `APP_DATABASE_*`.
    """

    run: Run
    examples: Sequence[str]
    json_fields: Mapping[str, str]
    json_lines: bool = False
    needs_database: bool = True


class CommandParser(argparse.ArgumentParser):
    """The parser of the program, of a group of commands, or of one command.

    Attributes:
        declared: The arguments and options, in the order of their declaration.
        variables: The environment variable of each option that has one, by the name of its attribute.
        commands: The commands of the program or of a group, by name.
        command: The description of the command; `None` for the program and for a group.
    """

    def __init__(self, **options: Any) -> None:
        self.declared: list[argparse.Action] = []
        self.variables: dict[str, str] = {}
        self.commands: dict[str, CommandParser] = {}
        self.command: Command | None = None
        super().__init__(allow_abbrev=False, **options)

    def add_argument(self, *names: str, variable: str | None = "", **options: Any) -> argparse.Action:
        """Declare an argument or an option. A switch gets a second name `--no-...`, so that it can be turned off.

        Args:
            names: The name of the argument, or the option with its dashes.
            variable: The environment variable of an option. By default it is made of the program, the command and the
                option; `None` for an option that must be given with each call.
            options: The arguments of `argparse.ArgumentParser.add_argument`.
        """
        has_variable = variable is not None and names[0].startswith("--") and options.get("action") != "version"
        if has_variable and options.get("action") == "store_true":
            options["action"] = argparse.BooleanOptionalAction
        action = super().add_argument(*names, **options)
        self.declared.append(action)
        if has_variable:
            default_name = re.sub(r"\W", "_", f"{self.prog} {names[0].lstrip('-')}").upper()
            self.variables[action.dest] = variable or default_name
        return action

    def parse(self, arguments: Sequence[str]) -> tuple["CommandParser", argparse.Namespace]:
        """Return the parser of the command that *arguments* name, and its options.

        Raises:
            WrongUse: There is no such command or option, or a value is wrong.
        """
        if self.commands and arguments and not arguments[0].startswith("-"):
            name, *rest = arguments
            if name not in self.commands:
                self.error(f"there is no command {quoted(name)}{_nearest(name, self.commands)}")
            return self.commands[name].parse(rest)
        self._check_names(arguments)
        if self.commands:
            self.parse_args([argument for argument in arguments if argument.startswith("-")])
            self.error(f"the command is missing: expected one of {', '.join(self.commands)}")
        for action in self.declared:
            if value := os.environ.get(self.variables.get(action.dest, "")):
                action.default, action.required = _FromVariable(value), False
        options, unexpected = self._parsed(arguments)
        if unexpected:
            self.error(f"unexpected argument {quoted(unexpected[0])}{_hint(unexpected[0])}")
        options.set_by = {}
        for action in self.declared:
            self._convert(action, options)
        return self, options

    def format_help(self) -> str:
        """Return the text of `--help`: that of argparse, then each example and each variable on a line of its own."""
        sections = [super().format_help()]
        if self.command is not None:
            program = self.prog.partition(" ")[0]
            lines = (f"  {program} {example}\n" for example in self.command.examples)
            sections.append("examples:\n" + "".join(lines))
            names = (f"  {name}\n" for name in self.variables.values())
            sections.append("variables that set the options:\n" + "".join(names))
        return "\n".join(sections)

    def error(self, message: str) -> NoReturn:
        """Raise `WrongUse` with one line."""
        raise WrongUse(f"{message}; see {self.prog} --help")

    def _parsed(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Return the options and the unexpected arguments; argparse quotes a wrong value, which may be an address."""
        try:
            return self.parse_known_args(arguments)
        except WrongUse as error:
            message = str(error)
            for value in {part for argument in arguments for part in (argument, argument.partition("=")[2])}:
                if "@" in value:
                    message = message.replace(repr(value), quoted(value))
            raise WrongUse(message) from None

    def _check_names(self, arguments: Sequence[str]) -> None:
        """Check the names of options; argparse would first report a required option that is missing."""
        known = [name for action in self.declared for name in action.option_strings]
        for argument in arguments:
            name = argument.partition("=")[0]
            if argument == "--":
                return
            if re.match(r"-[^\W\d]|--", name) and " " not in name and name not in known:
                if self._has_option(name):
                    self.error(f"the option {quoted(name)} is before the command: options follow the command")
                self.error(f"there is no option {quoted(name)}{_hint(argument) or _nearest(name, known)}")

    def _has_option(self, name: str) -> bool:
        """Return whether this parser, or the parser of one of its commands, has the option *name*."""
        own = any(name in action.option_strings for action in self.declared)
        return own or any(command._has_option(name) for command in self.commands.values())  # noqa: SLF001 the same class

    def _convert(self, action: argparse.Action, options: argparse.Namespace) -> None:
        """Convert the value of an option that an environment variable has set, and an unset switch to false."""
        value = getattr(options, action.dest, None)
        is_switch = isinstance(action, argparse.BooleanOptionalAction)
        if isinstance(value, _FromVariable):
            variable = options.set_by[action.dest] = self.variables[action.dest]
            setattr(options, action.dest, self._value(action, variable, value.text, is_switch=is_switch))
        elif is_switch:
            setattr(options, action.dest, bool(value))

    def _value(self, action: argparse.Action, variable: str, text: str, *, is_switch: bool) -> Any:
        if is_switch:
            if text.lower() not in (*_TRUE, *_FALSE):
                self.error(f"{variable} is {quoted(text)}: expected one of {', '.join(_TRUE + _FALSE)}")
            return text.lower() in _TRUE
        try:
            value = action.type(text) if callable(action.type) else text
        except argparse.ArgumentTypeError as error:
            self.error(f"{variable}: {error}")
        if action.choices is not None and value not in action.choices:
            self.error(f"{variable} is {quoted(text)}: expected one of {', '.join(action.choices)}")
        return value


@dataclass(frozen=True, slots=True)
class _FromVariable:
    """The value of an environment variable, in the place of a default; an option replaces it.

    Args:
        text: The value.
    """

    text: str


def wants_json(arguments: Sequence[str]) -> bool:
    """Return whether errors are printed as JSON; also right if the arguments cannot be parsed."""
    given = [argument for argument in arguments if argument in ("--json", "--no-json")]
    if given:
        return given[-1] == "--json"
    return os.environ.get(JSON_VARIABLE, "").lower() in _TRUE


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint with the known name that is most like *name*; the dashes, which all options have, do not count."""
    from difflib import get_close_matches

    names = {each.lstrip("-"): each for each in known}
    found = get_close_matches(name.lstrip("-"), list(names), n=1)
    return f": did you mean {names[found[0]]}?" if found else ""


def _hint(argument: str) -> str:
    """Return why an address is never an argument."""
    return ": every user of this machine can see arguments; pass it to standard input" if "@" in argument else ""
