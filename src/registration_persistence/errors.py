"""What can go wrong, and what each failure means for the caller.

Every error has an attribute `retryable`: true where the same unit of work may be repeated and can succeed, so that a
service can answer 503 and not 500. No message holds a password, a token or a mailbox.
"""

from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID


class RegistrationPersistenceError(Exception):
    """The base of every error that this package raises."""

    retryable: ClassVar[bool] = False


class ConfigurationError(RegistrationPersistenceError):
    """The environment or the settings are wrong; `problems` lists everything that is, one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "the database settings are wrong:" + "".join(f"\n  - {problem}" for problem in self.problems)


class SecretUnavailable(RegistrationPersistenceError):
    """Secrets Manager did not give the secret."""

    retryable = True


class SecretRefused(SecretUnavailable):
    """Secrets Manager has no such secret, or does not let this process read it; asking again cannot help."""

    retryable = False


class SecretMalformed(RegistrationPersistenceError):
    """The secret was read but holds no user name and password in the form that is expected."""


class DatabaseUnavailable(RegistrationPersistenceError):
    """No server answered: refused, unknown host, timed out, or starting up."""

    retryable = True


class TooManyConnections(RegistrationPersistenceError):
    """The server has no free connection slot."""

    retryable = True


class CredentialsRejected(RegistrationPersistenceError):
    """The server refused the user name or password, and every other version that Secrets Manager holds."""


class ConnectionRejected(RegistrationPersistenceError):
    """The server or the TLS policy refused this client; trying again cannot help."""


class PoolExhausted(RegistrationPersistenceError):
    """Every connection that this process may have is checked out."""


class ConnectionLost(RegistrationPersistenceError):
    """The connection broke before COMMIT: nothing of the transaction, or in autocommit of the statement, was kept."""

    retryable = True


class CommitOutcomeUnknown(RegistrationPersistenceError):
    """The connection broke while COMMIT was on its way: the transaction may or may not have been kept.

    Repeat the work only where it is idempotent, for example a `register` with the same idempotency key.
    """


class TransactionAborted(RegistrationPersistenceError):
    """COMMIT was asked for in a transaction that a failed statement had already ended; nothing was kept."""


class TransactionConflict(RegistrationPersistenceError):
    """Another transaction got there first: a deadlock, a serialization failure, or a mailbox proven meanwhile."""

    retryable = True


class WriterMoved(RegistrationPersistenceError):
    """The server is read-only now: a failover made another instance the writer."""

    retryable = True


class SchemaOutdated(RegistrationPersistenceError):
    """A table or a column is not there: run `registration-persistence migrate`."""


class StatementTimeout(RegistrationPersistenceError):
    """A statement took longer than its timeout, met the deadline, or was cancelled; it was undone."""


class LockTimeout(RegistrationPersistenceError):
    """A lock was not free within `APP_DATABASE_LOCK_TIMEOUT`."""

    retryable = True


class InvalidInput(RegistrationPersistenceError, ValueError):
    """The caller passed a value that cannot be stored; nothing was sent to the server."""


class InvalidEmail(InvalidInput):
    """The address is not one that mail can be sent to, or that can be compared safely."""


class InvalidProfile(InvalidInput):
    """The profile is not a JSON object that PostgreSQL can store."""


class ProfileTooLarge(InvalidProfile):
    """The profile takes more octets than allowed, or would with this patch; nothing was changed."""


class InvalidConsent(InvalidInput):
    """A consent lacks a purpose, a document version or a source of the form that is stored."""


class InvalidCursor(InvalidInput):
    """The cursor was not given out by `list_page`."""


class IdempotencyConflict(RegistrationPersistenceError):
    """The idempotency key was used before with another payload; nothing was changed."""


class RegistrationNotFound(RegistrationPersistenceError):
    """There is no registration with this id."""

    def __init__(self, registration_id: UUID) -> None:
        self.registration_id = registration_id
        super().__init__(registration_id)

    def __str__(self) -> str:
        return f"there is no registration {self.registration_id}"


class StaleVersion(RegistrationPersistenceError):
    """Somebody else changed the registration since it was read."""

    def __init__(self, registration_id: UUID, expected: int, actual: int) -> None:
        self.registration_id, self.expected, self.actual = registration_id, expected, actual
        super().__init__(registration_id, expected, actual)

    def __str__(self) -> str:
        return (
            f"registration {self.registration_id} is at version {self.actual}, not {self.expected}: "
            "read it again, then decide"
        )


class IllegalTransition(RegistrationPersistenceError):
    """The registration's status does not allow this move, or this change."""

    def __init__(self, registration_id: UUID, current: str, wanted: str | None = None) -> None:
        self.registration_id, self.current, self.wanted = registration_id, current, wanted
        super().__init__(registration_id, current, wanted)

    def __str__(self) -> str:
        consequence = f"cannot become {self.wanted}" if self.wanted else "cannot be changed any more"
        return f"registration {self.registration_id} is {self.current} and {consequence}"


class Undeliverable(RegistrationPersistenceError):
    """Raised by the function that an `OutboxWorker` calls: the message can never be delivered, so do not try again.

    Args:
        reason: For the operator, stored with the message: letters, digits and `_.:-`, for example `smtp:550`. Not a
            sentence, because those of mail servers quote mailboxes.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class UnreadableFile(RegistrationPersistenceError):
    """The file as a whole cannot be used; the message names it, the line, and what was expected."""

    exit_code = 2
