"""`completion`: completion of commands, options and files, for shells."""

import argparse

from registration_persistence.cli.arguments import file_name
from registration_persistence.cli.command_parser import CommandParser
from registration_persistence.cli.commands import Subcommands, commands_of
from registration_persistence.cli.console import ExitCode, needs_extra, report

_SHELLS = ("bash", "zsh", "fish", "tcsh")


def add_commands(commands: Subcommands) -> None:
    """Add `completion`."""
    parser = commands.add(
        "completion",
        _completion,
        "print a script that completes commands and options in a shell",
        examples=["completion bash"],
        json_fields={"script": "the script"},
        needs_database=False,
        epilog='bash: eval "$(registration-persistence completion bash)" in ~/.bashrc; see docs/cli.md.',
    )
    parser.add_argument("shell", choices=_SHELLS, help="the shell")


def _completion(options: argparse.Namespace) -> int:
    from registration_persistence.cli.main import build_parser  # main imports this module

    with needs_extra("cli"):
        import shtab
    parser = build_parser()
    for command in commands_of(parser):
        _complete_files(command, shtab.FILE)
    script = shtab.complete(parser, options.shell)
    report(options, script, {"script": script}, verbatim=True)
    return ExitCode.DONE


def _complete_files(command: CommandParser, complete: object) -> None:
    """Make the arguments of *command* that are the name of a file complete the names of files."""
    for action in command.declared:
        if action.type is file_name:
            setattr(action, "complete", complete)  # noqa: B010 an attribute of shtab, which argparse does not declare
