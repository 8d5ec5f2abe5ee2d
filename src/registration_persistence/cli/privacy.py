"""`erase` and `export`: the rights of a person under data protection law."""

import argparse
import sys
from collections.abc import Sequence
from uuid import UUID

from registration_persistence.cli.arguments import check_chosen, uuid
from registration_persistence.cli.commands import Subcommands
from registration_persistence.cli.console import ExitCode, WrongUse, json_text, option_name, prompt, quoted, report
from registration_persistence.database import get_db, session_scope
from registration_persistence.errors import InvalidInput, RegistrationNotFound


def add_commands(commands: Subcommands) -> None:
    """Add the commands for one person."""
    erase = commands.add(
        "erase",
        _erase,
        "erase a person",
        examples=["erase 01890a5d-ac96-774b-bcce-b302099a8057 --yes", "erase --email --yes < address.txt"],
        json_fields={
            "id": "id of the registration",
            "result": "`erased`, `erased before`, `not found` or `not confirmed`",
        },
        json_lines=True,
    )
    _add_choice(erase)
    erase.add_argument("--yes", action="store_true", variable=None, help="do not ask for confirmation")
    erase.add_argument(
        "--actor",
        default="system",
        metavar="ACTOR",
        help="for the event log: user, system or admin:<id>; an id has up to 64 of a-zA-Z0-9_.- (default: system)",
    )
    export = commands.add(
        "export",
        _export,
        "print all data about a person, as JSON",
        examples=["export 01890a5d-ac96-774b-bcce-b302099a8057", "export --email < address.txt > person.json"],
        json_fields={
            "registration": "the registration, with address and profile",
            "tokens": "its tokens, without their secrets",
            "consents": "its consents",
            "events": "its events",
        },
        epilog="The output is one JSON array, with and without --json.",
    )
    _add_choice(export)


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
    from registration_persistence.repositories.privacy import PrivacyRepository

    get_db()  # nobody types an address if the settings are wrong
    address = prompt("e-mail address: ")
    with session_scope(read_only=True) as session:
        return list(dict.fromkeys([*options.ids, *PrivacyRepository(session).ids_by_email(address)]))


def _erase(options: argparse.Namespace) -> int:
    _check_actor(options)
    ids = _chosen_ids(options)
    if not ids:
        if not options.json:
            print("no registration has this mailbox")
        return ExitCode.DONE
    if not options.yes and not _is_confirmed(ids):
        if not options.json:
            print("nothing was erased")
        for registration_id in ids if options.json else ():
            report(options, "", {"id": registration_id, "result": "not confirmed"})
        return ExitCode.FAILED
    erased = [_erase_one(options, registration_id) for registration_id in ids]
    return ExitCode.DONE if all(erased) else ExitCode.FAILED


def _check_actor(options: argparse.Namespace) -> None:
    from registration_persistence.domain.validation import checked_actor

    try:
        checked_actor(options.actor)
    except InvalidInput:
        raise WrongUse(
            f"{option_name(options, '--actor')} is {quoted(options.actor)}: expected user, system or admin:<id>, "
            "with up to 64 of a-zA-Z0-9_.- as the id"
        ) from None


def _is_confirmed(ids: Sequence[UUID]) -> bool:
    if not sys.stdin.isatty():
        raise WrongUse("erasing cannot be undone: pass --yes if there is no terminal to ask on")
    for registration_id in ids:
        print(registration_id, file=sys.stderr)
    return prompt("erase these for good? [y/N] ").lower() in ("y", "yes")


def _erase_one(options: argparse.Namespace, registration_id: UUID) -> bool:
    """Erase a registration; return whether it exists. An unknown or purged one does not stop the others."""
    from registration_persistence.repositories.privacy import PrivacyRepository

    try:
        with session_scope(autocommit=True) as session:
            outcome = PrivacyRepository(session, actor=options.actor).erase(registration_id)
    except RegistrationNotFound as error:
        if options.json:
            report(options, "", {"id": registration_id, "result": "not found"})
        else:
            print(error, file=sys.stderr)
        return False
    result = "erased" if outcome.changed else "erased before"
    text = f"{registration_id} {'' if outcome.changed else 'was '}{result}"
    report(options, text, {"id": registration_id, "result": result})
    return True


def _export(options: argparse.Namespace) -> int:
    from registration_persistence.repositories.privacy import PrivacyRepository

    ids = _chosen_ids(options)
    with session_scope(read_only=True) as session:
        exported = [PrivacyRepository(session).export_subject(registration_id) for registration_id in ids]
    print(json_text(exported, indent=2))
    return ExitCode.DONE
