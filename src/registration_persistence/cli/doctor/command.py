"""The command `doctor`: prints one line for each check, and ends with the worst result."""

import argparse
import sys
import time

from registration_persistence.cli.arguments import number
from registration_persistence.cli.commands import Subcommands
from registration_persistence.cli.console import ExitCode

_DEFAULT_TIMEOUT_SECONDS = 30


def add_commands(commands: Subcommands) -> None:
    """Add `doctor`."""
    parser = commands.add(
        "doctor",
        _doctor,
        "check everything between this process and the outbox, and print the fix of each failure",
        examples=["doctor", "doctor --timeout 10 --json"],
        json_fields={
            "checks": "objects with `name`, `state` (`ok`, `warning`, `failed` or `skipped`), `detail` and `fix`",
            "seconds": "duration of all checks",
        },
        epilog="Exit code: 0 if nothing failed, 1 if a check failed, 2 if the environment is wrong. "
        "See docs/howto/doctor.md.",
    )
    parser.add_argument(
        "--timeout",
        type=number(float, 1, 600),
        default=_DEFAULT_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help=f"the time for all checks together, 1 to 600 (default: {_DEFAULT_TIMEOUT_SECONDS})",
    )


def _doctor(options: argparse.Namespace) -> int:
    # Imported here, because the other commands do not need these modules.
    from registration_persistence.cli.doctor.diagnosis import diagnose
    from registration_persistence.cli.doctor.printing import json_of, summary_of, text_of

    started = time.monotonic()
    checks = []
    for check in diagnose(seconds=options.timeout):
        checks.append(check)
        if not options.json:
            print(text_of(check, sys.stdout), flush=True)
    seconds = time.monotonic() - started
    print(json_of(checks, seconds) if options.json else summary_of(checks, seconds))
    failures = {check.name for check in checks if check.state == "failed"}
    if "environment" in failures:
        return ExitCode.WRONG_USE
    return ExitCode.FAILED if failures else ExitCode.DONE
