"""`erase` and `export`: what one person can ask for."""

import json
import sys
from collections.abc import Sequence
from uuid import UUID

from registration_persistence.database import session_scope
from registration_persistence.domain.validation import checked_actor
from registration_persistence.errors import InvalidInput, RegistrationNotFound
from registration_persistence.repositories.privacy import PrivacyRepository


def erase(ids: Sequence[UUID], *, ask_for_email: bool, confirmed: bool, actor: str) -> bool:
    """Erase registrations; tell whether all of it was done.

    Args:
        ids: Which ones.
        ask_for_email: Whether to read a mailbox from standard input, and erase everything that holds it too.
        confirmed: Whether not to ask.
        actor: Who acts, for the event trail.

    Raises:
        InvalidInput: There is nobody to ask, or *actor* is not of its form.
    """
    checked_actor(actor)
    chosen = _chosen(ids, ask_for_email=ask_for_email)
    if not chosen:
        print("nothing holds this mailbox")
        return True
    if not confirmed and not _is_sure(chosen):
        print("nothing was erased")
        return False
    gone = False
    for registration_id in chosen:
        try:
            with session_scope(autocommit=True) as session:
                outcome = PrivacyRepository(session, actor=actor).erase(registration_id)
        except RegistrationNotFound as error:  # unknown, or purged meanwhile; the others are erased all the same
            print(error, file=sys.stderr)
            gone = True
        else:
            print(registration_id, "erased" if outcome.changed else "was erased before", flush=True)
    return not gone


def export(ids: Sequence[UUID], *, ask_for_email: bool) -> None:
    """Print everything that is held about registrations, as a JSON array.

    Args:
        ids: Which ones.
        ask_for_email: As for `erase`.

    Raises:
        RegistrationNotFound: One of *ids* is unknown; nothing is printed.
    """
    chosen = _chosen(ids, ask_for_email=ask_for_email)
    with session_scope(read_only=True) as session:
        held = [PrivacyRepository(session).export_subject(registration_id) for registration_id in chosen]
    readable = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    print(json.dumps(held, indent=2, ensure_ascii=not readable, sort_keys=True))


def _chosen(ids: Sequence[UUID], *, ask_for_email: bool) -> list[UUID]:
    """Return *ids*, and what holds the mailbox that is read; a command line would show it to the whole machine."""
    if not ask_for_email:
        return list(dict.fromkeys(ids))
    address = _answer("e-mail address: ")
    with session_scope(read_only=True) as session:
        return list(dict.fromkeys([*ids, *PrivacyRepository(session).ids_by_email(address)]))


def _is_sure(chosen: Sequence[UUID]) -> bool:
    if not sys.stdin.isatty():
        raise InvalidInput("erasing cannot be undone: say --yes where nobody can be asked")
    for registration_id in chosen:
        print(registration_id, file=sys.stderr)
    return _answer("erase these for good? [y/N] ").lower() in ("y", "yes")


def _answer(question: str) -> str:
    """Return a line of standard input; nobody is asked where it is no terminal."""
    if sys.stdin.isatty():
        print(question, end="", file=sys.stderr, flush=True)
    try:
        return sys.stdin.readline().strip()
    except UnicodeDecodeError:
        raise InvalidInput(f"standard input is not {sys.stdin.encoding}") from None
