"""`find` and `show`: the data of a person, in which personal data is masked."""

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from registration_persistence.cli.arguments import number, uuid
from registration_persistence.cli.command_parser import CommandParser
from registration_persistence.cli.commands import Subcommands
from registration_persistence.cli.console import ExitCode, note, prompt, quoted_value, report
from registration_persistence.database import get_db, session_scope

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_up_to_1000 = number(int, 1, 1000)

# A longer name of a field of the profile moves its own line alone.
_MAX_LABEL_CHARACTERS = 30

_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def add_commands(commands: Subcommands) -> None:
    """Add the commands that print the data of a person."""
    _add_find(commands)
    _add_show(commands)


def _add_find(commands: Subcommands) -> None:
    parser = commands.add(
        "find",
        _find,
        "print the registrations of the mailbox that is read from standard input",
        examples=["find < address.txt", "find --reveal < address.txt"],
        json_fields={
            "id": "id of the registration",
            "status": "status that is stored",
            "lapsed": "whether the registration counts as expired although `status` is another",
            "created_at": "time of the sign-up",
            "email": "address as it was typed",
            "masked": "whether personal data is masked",
        },
        json_lines=True,
        epilog="The address is no argument, because every user of the machine can see the arguments of a process.",
    )
    parser.add_argument(
        "--limit",
        type=_up_to_1000,
        default=100,
        metavar="REGISTRATIONS",
        help="the newest registrations, 1 to 1000 (default: 100)",
    )
    _add_reveal(parser)


def _add_reveal(parser: CommandParser) -> None:
    # No variable: a shell or a container that has it would show personal data with each call.
    parser.add_argument("--reveal", action="store_true", variable=None, help="print personal data")


def _find(options: argparse.Namespace) -> int:
    from registration_persistence.cli.masking import MASK
    from registration_persistence.repositories.privacy import PrivacyRepository
    from registration_persistence.repositories.registrations import RegistrationRepository

    get_db()  # nobody types an address if the settings are wrong
    address = prompt("e-mail address: ")
    with session_scope(read_only=True) as session:
        ids = PrivacyRepository(session).ids_by_email(address)
        now = _now(session)
        rows = [RegistrationRepository(session).get(registration_id) for registration_id in ids[-options.limit :]]
    for row in rows:
        if row is not None:  # purged in the meantime
            email = row.email if options.reveal or row.email is None else MASK
            data = {
                "id": row.id,
                "status": row.status,
                "lapsed": _is_lapsed(row.expires_at, now),
                "created_at": row.created_at,
                "email": email,
                "masked": not options.reveal,
            }
            status = f"{row.status} (lapsed)" if data["lapsed"] else row.status
            report(options, f"{row.id}  {row.created_at:%Y-%m-%d %H:%M:%SZ}  {status}  {quoted_value(email)}", data)
    note(options, "no registration has this mailbox", shown=not ids)
    older = len(ids) - options.limit
    note(options, f"{older} older ones are not shown: --limit has the number", shown=older > 0)
    return ExitCode.DONE


def _add_show(commands: Subcommands) -> None:
    parser = commands.add(
        "show",
        _show,
        "print a registration with its consents and tokens",
        examples=[f"show {_ID}", f"show {_ID} --reveal"],
        json_fields={
            "registration": "the registration, as in `export`",
            "lapsed": "whether it counts as expired although its status is another",
            "consents": "its consents, as in `export`",
            "tokens": "its tokens, as in `export`",
            "events": "number of its events",
            "masked": "whether personal data is masked",
        },
    )
    parser.add_argument("id", type=uuid, metavar="ID", help="id of the registration")
    _add_reveal(parser)


def _show(options: argparse.Namespace) -> int:
    from registration_persistence.cli.masking import masked
    from registration_persistence.repositories.privacy import PrivacyRepository

    with session_scope(read_only=True) as session:
        held = PrivacyRepository(session).export_subject(options.id)
        now = _now(session)
    expires_at = held["registration"]["expires_at"]
    shown = dict if options.reveal else masked
    data = {
        "registration": shown(held["registration"]),
        "lapsed": _is_lapsed(expires_at and datetime.fromisoformat(expires_at), now),
        "consents": [shown(consent) for consent in held["consents"]],
        "tokens": [shown(token) for token in held["tokens"]],
        "events": len(held["events"]),
        "masked": not options.reveal,
    }
    report(options, "\n".join(_show_lines(data)), data)
    note(options, "personal data is masked: --reveal prints it", shown=not options.reveal)
    return ExitCode.DONE


def _show_lines(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines for people. Values are quoted and at the end: none looks like a line, or moves a column."""
    rows = [*_labelled_values(data)]
    width = max(16, *(len(label) for label, _ in rows if len(label) <= _MAX_LABEL_CHARACTERS))
    yield from (f"{label:<{width}} {value}" for label, value in rows)


def _labelled_values(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in data["registration"].items():
        lapsed = "  (lapsed)" if name == "status" and data["lapsed"] else ""
        if isinstance(value, dict):
            yield from ((f"{name}.{json.dumps(field)[1:-1]}", quoted_value(each)) for field, each in value.items())
        elif value is not None:
            yield name, quoted_value(value) + lapsed
    for section in ("consents", "tokens"):
        for row in data[section]:
            values = (
                f"{name} {quoted_value(value)}" for name, value in row.items() if value is not None and name != "id"
            )
            yield section[:-1], ", ".join(values)
    yield "events", str(data["events"])


def _now(session: "Session") -> datetime:
    """Return the time of the database, by which a registration lapses."""
    from sqlalchemy import func, select

    now: datetime = session.execute(select(func.statement_timestamp())).scalar_one()
    return now


def _is_lapsed(expires_at: datetime | None, now: datetime) -> bool:
    return expires_at is not None and expires_at <= now
