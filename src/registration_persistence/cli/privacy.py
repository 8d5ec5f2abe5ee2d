"""`erase` and `export`: the rights of a person under data protection law."""

import argparse
import json
import sys
from collections.abc import Sequence
from uuid import UUID

from registration_persistence.cli.arguments import Subcommands, check_chosen, uuid
from registration_persistence.cli.console import ExitCode, WrongUse, prompt, shortened
from registration_persistence.database import session_scope
from registration_persistence.domain.validation import checked_actor
from registration_persistence.errors import InvalidInput, RegistrationNotFound
from registration_persistence.repositories.privacy import PrivacyRepository


def add_commands(commands: Subcommands) -> None:
    """Add the commands for one person."""
    erase = commands.add("erase", _erase, "erase a person")
    _add_choice(erase)
    erase.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    erase.add_argument(
        "--actor",
        default="system",
        help="for the event log: user, system or admin:<id>; an id has up to 64 of a-zA-Z0-9_.- (default: system)",
    )
    _add_choice(commands.add("export", _export, "print all data about a person, as JSON"))


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", type=uuid, metavar="ID", help="ids of registrations")
    parser.add_argument(
        "--email",
        action="store_true",
        help="read an e-mail address from standard input, and include all of its registrations",
    )


def _chosen_ids(options: argparse.Namespace) -> list[UUID]:
    """Return the ids from the arguments and those of the mailbox from standard input.

    The address is not an argument, because every user of the machine can see the arguments of a process.
    """
    check_chosen(options.ids, others=options.email, option="--email")
    if not options.email:
        return list(dict.fromkeys(options.ids))
    address = prompt("e-mail address: ")
    with session_scope(read_only=True) as session:
        return list(dict.fromkeys([*options.ids, *PrivacyRepository(session).ids_by_email(address)]))


def _erase(options: argparse.Namespace) -> int:
    _check_actor(options.actor)
    ids = _chosen_ids(options)
    if not ids:
        print("no registration has this mailbox")
        return ExitCode.DONE
    if not options.yes and not _is_confirmed(ids):
        print("nothing was erased")
        return ExitCode.FAILED
    erased = [_erase_one(registration_id, options.actor) for registration_id in ids]
    return ExitCode.DONE if all(erased) else ExitCode.FAILED


def _check_actor(actor: str) -> None:
    try:
        checked_actor(actor)
    except InvalidInput:
        raise WrongUse(
            f"--actor is {shortened(repr(actor))}: expected user, system or admin:<id>, "
            "with up to 64 of a-zA-Z0-9_.- as the id"
        ) from None


def _is_confirmed(ids: Sequence[UUID]) -> bool:
    if not sys.stdin.isatty():
        raise WrongUse("erasing cannot be undone: pass --yes if there is no terminal to ask on")
    for registration_id in ids:
        print(registration_id, file=sys.stderr)
    return prompt("erase these for good? [y/N] ").lower() in ("y", "yes")


def _erase_one(registration_id: UUID, actor: str) -> bool:
    """Erase a registration; return whether it exists. An unknown or purged one does not stop the others."""
    try:
        with session_scope(autocommit=True) as session:
            outcome = PrivacyRepository(session, actor=actor).erase(registration_id)
    except RegistrationNotFound as error:
        print(error, file=sys.stderr)
        return False
    print(registration_id, "erased" if outcome.changed else "was erased before", flush=True)
    return True


def _export(options: argparse.Namespace) -> int:
    ids = _chosen_ids(options)
    with session_scope(read_only=True) as session:
        exported = [PrivacyRepository(session).export_subject(registration_id) for registration_id in ids]
    is_utf8 = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    print(json.dumps(exported, indent=2, ensure_ascii=not is_utf8, sort_keys=True))
    return ExitCode.DONE
