"""The outcomes that the model expects of links, codes and look-ups."""

from uuid import UUID

from world import CLOSED, Row, World

from registration_persistence import Peppers, Registration, Status
from registration_persistence.domain.email import normalise_email
from registration_persistence.outcomes import (
    AlreadyVerified,
    EmailTaken,
    LockedOut,
    TokenExpired,
    TokenUnknown,
    Verified,
    WrongCode,
)

PEPPERS = Peppers({1: b"1" * 32, 2: b"2" * 32})
MAX_ATTEMPTS = 3


def is_usable(world: World, token: Row) -> bool:
    """Tell whether a token can still be used."""
    return not token["used_at"] and not token["replaced_at"] and bool(token["expires_at"] > world.now)


def expected_of_link(world: World, token: Row | None) -> type:
    """Return the type of the outcome of a link with this token."""
    if token is None:
        return TokenUnknown
    identity = token["registration_id"]
    status = world.status(identity)
    if status in (Status.VERIFIED, Status.ACTIVE):
        return AlreadyVerified if token["used_at"] and token["expires_at"] > world.now else TokenExpired
    if status != Status.PENDING or not is_usable(world, token):
        return TokenExpired
    return EmailTaken if world.is_verified(world.registrations[identity]["email_key"]) else Verified


def expected_of_code(world: World, identity: UUID, code: str) -> object:
    """Return the outcome of *code*, or its type."""
    status = world.status(identity)
    if status == Status.ERASED:
        return TokenUnknown
    judgeable = [
        token
        for token in world.of("verification_tokens", identity)
        if token["hash_key_id"] and not token["replaced_at"] and token["expires_at"] > world.now
    ]
    assert len(judgeable) <= 1
    if status in CLOSED or not judgeable:
        return TokenExpired
    (token,) = judgeable
    if token["attempts"] >= MAX_ATTEMPTS:
        return LockedOut
    if PEPPERS.hashes(identity, code)[token["hash_key_id"]] != token["secret_hash"]:
        return WrongCode(MAX_ATTEMPTS - token["attempts"] - 1)
    if status != Status.PENDING:
        return AlreadyVerified
    return EmailTaken if world.is_verified(world.registrations[identity]["email_key"]) else Verified


def assert_found(world: World, email: str, found: Registration | None) -> None:
    """Check that *found* has verified the mailbox, or else is its newest pending registration."""
    key = normalise_email(email).key
    of_mailbox = [identity for identity, row in world.registrations.items() if row["email_key"] == key]
    holders = [i for i in of_mailbox if world.status(i) in (Status.VERIFIED, Status.ACTIVE)]
    pending = sorted(i for i in of_mailbox if world.status(i) == Status.PENDING)
    assert (holders or pending[-1:] or [None])[0] == (found.id if found else None)
