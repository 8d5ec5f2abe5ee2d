"""Every exception of the package, and its meaning for the caller.

Each has an attribute `retryable`. It is true if the same unit of work can be repeated and may succeed then, so that a
service can respond with 503 instead of 500. No message contains a password, a token or a mailbox.
"""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID


class RegistrationPersistenceError(Exception):
    """The base class of every exception of this package.

    Attributes:
        retryable: Whether the same unit of work can be repeated and may succeed then.
    """

    retryable: bool = False


class ConfigurationError(RegistrationPersistenceError):
    """The environment or the settings are not valid; `problems` has one sentence for each problem.

    Attributes:
        problems: One sentence for each problem: the variable, its state and the expected value.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "the database settings are wrong:" + "".join(f"\n  - {problem}" for problem in self.problems)


class SecretUnavailable(RegistrationPersistenceError):
    """Secrets Manager did not return the secret, or there are no AWS credentials to sign a token of IAM with."""

    retryable = True


class SecretRefused(SecretUnavailable):
    """The secret does not exist, may not be read, or would be read elsewhere; or the configuration of AWS is wrong.

    Another attempt cannot succeed.
    """

    retryable = False


class SecretMalformed(RegistrationPersistenceError):
    """The secret was read, but it does not contain a user name and a password in the expected form."""


class DatabaseUnavailable(RegistrationPersistenceError):
    """No server accepts connections: refused, unknown host, timed out, or starting up."""

    retryable = True


class TooManyConnections(RegistrationPersistenceError):
    """The server has no free connection slot."""

    retryable = True


class CredentialsRejected(RegistrationPersistenceError):
    """The server rejected the user name or password, and those of every other version of the secret.

    With IAM, it rejected the token, and a new one too.
    """


class ConnectionRejected(RegistrationPersistenceError):
    """The server or the TLS policy rejected this client; another attempt cannot succeed."""


class PoolExhausted(RegistrationPersistenceError):
    """All connections of this process are checked out.

    Attributes:
        retryable: False if the thread that asked holds the one connection itself, because waiting cannot help then.
    """

    retryable: bool = True

    def __init__(self, *arguments: object, retryable: bool = True) -> None:
        self.retryable = retryable
        super().__init__(*arguments)


class ConnectionLost(RegistrationPersistenceError):
    """The connection was lost, and nothing of the transaction was kept; in autocommit, nothing of the statement.

    COMMIT was not sent, a pooler never passed the statement on, or the evidence shows that the work was not kept.
    """

    retryable = True


class CommitOutcomeUnknown(RegistrationPersistenceError):
    """The connection was lost after COMMIT was sent and before its reply, and what became of it could not be shown.

    The session has already looked for evidence, as far as the deadline allowed. Repeat the work only if it is
    idempotent, for example a `register` with the same idempotency key, or if `resolve` returns false.

    Attributes:
        find: Looks for the evidence, for `resolve` and for the repositories; `None` if there is no way to.
    """

    def __init__(self, *arguments: object, find: Callable[[], Any] | None = None) -> None:
        super().__init__(*arguments)
        self.find: Callable[[], Any] | None = find

    def resolve(self) -> bool | None:
        """Look for evidence once more, for example if the deadline was over before.

        It takes until the present deadline, or for `APP_DATABASE_CONNECT_TIMEOUT` without one.

        It ends the session that was lost, if the server still has it.

        Returns:
            Whether the work was kept; `None` if that cannot be established.
        """
        kept: bool | None = self.find().kept if self.find else None
        return kept

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what makes a copy in another process, which cannot look for evidence."""
        return type(self), self.args, self.__dict__ | {"find": None}


class TransactionAborted(RegistrationPersistenceError):
    """COMMIT was requested in a transaction that a failed statement had aborted; nothing was kept."""


class TransactionConflict(RegistrationPersistenceError):
    """Another transaction was first: a deadlock, a serialization failure, or a mailbox that was verified meanwhile.

    It is also raised in a transaction if a prepared statement became invalid, for example after `ALTER TABLE`.
    """

    retryable = True


class AttemptNotCounted(RegistrationPersistenceError):
    """A wrong code was rolled back with its transaction, and could not be counted again.

    It replaces the exception of the block. Do not answer that the code was wrong, because the attempt was free.
    """

    retryable = True


class WriterMoved(RegistrationPersistenceError):
    """The server became read-only, because a failover made another instance the writer."""

    retryable = True


class SchemaOutdated(RegistrationPersistenceError):
    """A table or a column does not exist: run `registration-persistence migrate`."""


class StatementTimeout(RegistrationPersistenceError):
    """A statement took longer than its timeout, reached the deadline, or was cancelled; it was undone."""


class LockTimeout(RegistrationPersistenceError):
    """A lock was not available within `APP_DATABASE_LOCK_TIMEOUT`."""

    retryable = True


class InvalidInput(RegistrationPersistenceError, ValueError):
    """An argument is not valid; nothing was sent to the server."""


class InvalidEmail(InvalidInput):
    """The address cannot receive mail, or cannot be compared safely."""


class InvalidProfile(InvalidInput):
    """The profile is not a JSON object that PostgreSQL can store."""


class ProfileTooLarge(InvalidProfile):
    """The profile is larger than allowed, or would be after this patch; nothing was changed."""


class InvalidConsent(InvalidInput):
    """The purpose, the document version or the source of a consent is not valid."""


class InvalidCursor(InvalidInput):
    """The cursor was not returned by `list_page`."""


class IdempotencyConflict(RegistrationPersistenceError):
    """The idempotency key was used before with another payload; nothing was changed.

    It does not say by whom, because the key may be another person's.
    """


class RegistrationNotFound(RegistrationPersistenceError):
    """No registration has this id.

    Attributes:
        registration_id: The id that was looked for.
    """

    def __init__(self, registration_id: UUID) -> None:
        self.registration_id = registration_id
        super().__init__(registration_id)

    def __str__(self) -> str:
        return f"there is no registration {self.registration_id}"


class RegistrationReferenced(RegistrationPersistenceError):
    """A table outside of this package refers to a registration that is to be deleted; nothing was deleted.

    Attributes:
        table: The name of the table.
        constraint: The name of its foreign key.
    """

    def __init__(self, table: str, constraint: str) -> None:
        self.table: str = table
        self.constraint: str = constraint
        super().__init__(table, constraint)

    def __str__(self) -> str:
        return (
            f"{self.table} refers to a registration that is to be deleted: "
            f"declare its foreign key {self.constraint} with ON DELETE CASCADE or SET NULL"
        )


class StaleVersion(RegistrationPersistenceError):
    """The registration was changed after it was read.

    Attributes:
        registration_id: The id of the registration.
        expected: The version that was passed as `expected_version`.
        actual: The version that the registration has now.
    """

    registration_id: UUID
    expected: int
    actual: int

    def __init__(self, registration_id: UUID, expected: int, actual: int) -> None:
        self.registration_id, self.expected, self.actual = registration_id, expected, actual
        super().__init__(registration_id, expected, actual)

    def __str__(self) -> str:
        return (
            f"registration {self.registration_id} is at version {self.actual}, not {self.expected}: "
            "read it again, then decide"
        )


class IllegalTransition(RegistrationPersistenceError):
    """The status of the registration does not allow this change.

    Attributes:
        registration_id: The id of the registration.
        current: The status that the registration has now; `expired` also if it has lapsed.
        wanted: The status to which the change leads; `None` if it leads to no other status.
    """

    registration_id: UUID
    current: str
    wanted: str | None

    def __init__(self, registration_id: UUID, current: str, wanted: str | None = None) -> None:
        self.registration_id, self.current, self.wanted = registration_id, current, wanted
        super().__init__(registration_id, current, wanted)

    def __str__(self) -> str:
        consequence = f"cannot become {self.wanted}" if self.wanted else "cannot be changed any more"
        return f"registration {self.registration_id} is {self.current} and {consequence}"


class Undeliverable(RegistrationPersistenceError):
    """A message can never be delivered; the function that an `OutboxWorker` calls raises it to bury the message.

    Args:
        reason: The reason, which is stored with the message: 1 to 200 letters, digits and `_.:-`, for example
            `smtp:550`. It is not a sentence, because the sentences of mail servers quote mailboxes.

    Attributes:
        reason: The reason, as it was given.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class UnreadableFile(RegistrationPersistenceError):
    """A file cannot be used as a whole; the message names the file, the line and the expected content."""
