"""`import`: store people who registered elsewhere."""

import argparse

from registration_persistence.cli.arguments import file_name, number
from registration_persistence.cli.commands import Subcommands


def add_commands(commands: Subcommands) -> None:
    """Add `import`."""
    parser = commands.add(
        "import",
        _import,
        "import people from CSV or JSON Lines",
        examples=["import people.csv --dry-run", "import people.csv"],
        json_fields={
            "imported": "number of stored rows",
            "duplicates": "number of rows that are stored already",
            "rejected": "number of rejected rows",
            "reasons": "number of rejected rows by reason",
            "seconds": "duration",
            "dry_run": "whether everything was rolled back",
            "finished": "false if the import stopped before the end of the file",
            "last_line": "line of the last row that has a result",
            "report": "file with line and reason of each row that was not stored, or null",
        },
        epilog="The exit code is 1 if a row was rejected.",
    )
    parser.add_argument("file", type=file_name, help="see docs/howto/import.md")
    parser.add_argument("--format", choices=("csv", "jsonl"), help="the format (default: by the file's name)")
    parser.add_argument("--dry-run", action="store_true", help="do everything in one transaction, and roll it back")
    parser.add_argument("--announce", action="store_true", help="put a message for each row into the outbox")
    parser.add_argument(
        "--open-days",
        type=number(int, 1, 3650),
        default=30,
        metavar="DAYS",
        help="days until pending and verified rows expire, 1 to 3650 (default: 30)",
    )
    parser.add_argument(
        "--rejected",
        type=file_name,
        metavar="FILE",
        help="the file for line and reason of each row that was not stored, which is overwritten "
        "(default: NAME.rejected.csv here, or NAME.rejected-2.csv and so on if it exists)",
    )


def _import(options: argparse.Namespace) -> int:
    from registration_persistence.cli.import_run import import_people

    return import_people(options)
