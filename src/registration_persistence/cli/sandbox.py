"""`demo` and `chaos`: programs that run PostgreSQL and Secrets Manager on this machine."""

import argparse
from pathlib import Path

from registration_persistence.cli.arguments import file_name, names, number
from registration_persistence.cli.commands import Subcommands
from registration_persistence.cli.console import ExitCode, WrongUse, needs_extra


def add_commands(commands: Subcommands) -> None:
    """Add the commands that need no database, because they start their own."""
    _add_demo(commands)
    _add_chaos(commands)


def _add_demo(commands: Subcommands) -> None:
    parser = commands.add(
        "demo",
        _demo,
        "register the people of a CSV file in a PostgreSQL on this machine",
        examples=["demo examples/signups.csv"],
        json_fields={
            "rows": "number of sign-ups in the file",
            "seconds": "duration of the sign-ups",
            "counts": "number of people by outcome",
            "rejected": "number of rejected rows by reason",
            "failed": "number of failed sign-ups by class of error",
            "report": "file with the rows that were not registered, or null",
        },
        needs_database=False,
    )
    parser.add_argument(
        "signups", type=file_name, metavar="SIGNUPS", help="a CSV file with the header of examples/signups.csv"
    )
    parser.add_argument("--keep", action="store_true", help="leave the database running until Enter is pressed")
    parser.add_argument(
        "--rejected",
        type=file_name,
        metavar="FILE",
        help="the file for rejected rows (default: NAME.rejected.csv here)",
    )


def _demo(options: argparse.Namespace) -> int:
    with needs_extra("local"):
        from registration_persistence.sandbox.demo.run import run_demo
    rejected = options.rejected or Path(f"{options.signups.stem}.rejected.csv")
    if options.keep and options.json:
        raise WrongUse("--keep prints a text for people: expected it without --json")
    failed_signups = run_demo(options.signups, rejected, keep=options.keep, as_json=options.json)
    return ExitCode.FAILED if failed_signups else ExitCode.DONE


def _add_chaos(commands: Subcommands) -> None:
    parser = commands.add(
        "chaos",
        _chaos,
        "sign people up on this machine while one fault after the other happens",
        examples=["chaos --seconds 4 --processes 1 --faults terminated"],
        json_fields={
            "started_at": "time of the start",
            "seconds": "duration",
            "processes": "number of processes that signed people up",
            "seed": "seed of the random numbers",
            "sound": "whether nothing was lost, stored twice or answered with a wrong error",
            "verdict": "the same as a sentence",
            "faults": "one object for each fault",
            "total": "their sum",
            "skipped": "faults that this machine cannot produce, with the reason",
        },
        needs_database=False,
        epilog="The exit code is 1 if an acknowledged sign-up was lost, one is stored twice, or an error was wrong.",
    )
    parser.add_argument(
        "--seconds",
        type=number(float, 2, 600),
        default=75,
        metavar="SECONDS",
        help="duration in seconds, 2 to 600 (default: 75)",
    )
    parser.add_argument(
        "--processes",
        type=number(int, 1, 16),
        default=4,
        metavar="NUMBER",
        help="processes that sign people up, 1 to 16 (default: 4)",
    )
    parser.add_argument(
        "--faults",
        type=names,
        metavar="NAME,NAME",
        help="the faults, in this order (default: all; an unknown name lists them)",
    )
    parser.add_argument(
        "--rotation-window",
        type=number(float, 0.1, 300),
        default=12,
        metavar="SECONDS",
        help="seconds in which the server rejects the password that the secret still holds, 0.1 to 300 "
        "(default: 12, longer than the deadline of a request)",
    )
    parser.add_argument(
        "--seed",
        type=number(int, 0, 2**32),
        metavar="NUMBER",
        help="seed of the random numbers, 0 to 4294967296 (default: random)",
    )
    parser.add_argument("--timeline", type=file_name, metavar="FILE.svg", help="draw the requests over time")
    parser.add_argument("--record", type=file_name, metavar="FILE.json", help="keep what the timeline shows")
    parser.add_argument(
        "--redraw", type=file_name, metavar="FILE.json", help="run nothing, and draw the --timeline of a recorded run"
    )


def _chaos(options: argparse.Namespace) -> int:
    with needs_extra("local"):  # includes the run, because Secrets Manager is imported when it starts
        from registration_persistence.sandbox.chaos.run import redraw, run_chaos

        if options.redraw is not None:
            if options.timeline is None:
                raise WrongUse("--redraw needs --timeline: expected the file to draw")
            redraw(options.redraw, options.timeline)
            return ExitCode.DONE
        is_sound = run_chaos(
            seconds=options.seconds,
            processes=options.processes,
            faults=options.faults,
            rotation_window=options.rotation_window,
            seed=options.seed,
            timeline=options.timeline,
            record=options.record,
            as_json=options.json,
        )
    return ExitCode.DONE if is_sound else ExitCode.FAILED
