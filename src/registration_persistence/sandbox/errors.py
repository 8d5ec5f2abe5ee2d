"""The errors of the sandbox."""

from registration_persistence.errors import RegistrationPersistenceError


class LocalServerError(RegistrationPersistenceError):
    """A local server could not be found, started or brought into the expected state."""


class InvocationFailed(Exception):
    """The handler raised an exception, exceeded its timeout, or its process ended.

    Args:
        error_type: Name of the exception's class, or the name that Lambda uses: `Sandbox.Timedout` or
            `Runtime.ExitError`.
        message: Text of the exception.
        retryable: The attribute `retryable` of the exception; false if it has no such attribute.
        seconds: Duration of the invocation in seconds.
    """

    error_type: str
    message: str
    retryable: bool
    seconds: float

    def __init__(self, error_type: str, message: str, *, retryable: bool, seconds: float) -> None:
        self.error_type, self.message, self.retryable, self.seconds = error_type, message, retryable, seconds
        super().__init__(f"{error_type}: {message}")
