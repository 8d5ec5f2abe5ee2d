"""`issue`: store a new token or code for a registration, within the limits of the throttle."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from registration_persistence.domain.codes import Peppers, new_code
from registration_persistence.domain.ids import new_id
from registration_persistence.domain.tokens import hash_token, new_token
from registration_persistence.domain.validation import checked_duration, checked_id, checked_number
from registration_persistence.durations import Duration
from registration_persistence.errors import RegistrationNotFound
from registration_persistence.outcomes import IssueOutcome
from registration_persistence.repositories.base import repeat_if_changed_meanwhile
from registration_persistence.repositories.change import send_change, token_evidence
from registration_persistence.repositories.sql.verification import ISSUE
from registration_persistence.repositories.verification_outcomes import issue_outcome
from registration_persistence.unit_of_work import SessionOrConnection

_MAX_TOKENS_ISSUED = 1000


def issue_limits(min_gap: Duration, max_issued: int, ttl: Duration) -> dict[str, Any]:
    """Return the checked limits of the throttle, as parameters of the statement."""
    return {
        "min_gap": checked_duration("min_gap", min_gap, zero_is_allowed=True),
        "max_issued": checked_number("max_issued", max_issued, 1, _MAX_TOKENS_ISSUED),
        "token_ttl": checked_duration("ttl", ttl),
    }


def new_token_and_hash() -> tuple[str, bytes]:
    """Return a token and its hash."""
    token = new_token()
    return token, hash_token(token) or b""


def new_code_and_hash(peppers: Peppers, registration_id: UUID) -> tuple[str, bytes]:
    """Return a code for a registration, and its hash with the newest pepper."""
    code = new_code()
    return code, peppers.hashes(registration_id, code)[peppers.newest]


def issue(
    target: SessionOrConnection,
    registration_id: UUID,
    hash_key_id: int,
    new_secret: Callable[[], tuple[str, bytes]],
    limits: dict[str, Any],
) -> IssueOutcome:
    """Issue a secret, of which *new_secret* returns the text and the hash; each attempt needs another one."""

    def attempt() -> IssueOutcome:
        secret, secret_hash = new_secret()
        parameters = {
            "id": checked_id(registration_id),
            "token_id": new_id(),
            "secret_hash": secret_hash,
            "hash_key_id": hash_key_id,
            **limits,
        }
        evidence = token_evidence(parameters["id"], parameters["token_id"], limits["token_ttl"])
        row = send_change(
            target, ISSUE, parameters, evidence, lambda row: None if row.token_expires_at is None else evidence
        )
        if row is None:
            raise RegistrationNotFound(registration_id)
        return issue_outcome(row, secret)

    return repeat_if_changed_meanwhile(attempt)
