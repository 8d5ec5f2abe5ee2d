"""`Operation`: a connect, a unit of work or a repository call, which observers are told of while it runs."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Literal, TypeAlias, cast

from registration_persistence.clock import monotonic
from registration_persistence.errors import CommitOutcomeUnknown
from registration_persistence.unit_of_work import TELLING

OperationKind: TypeAlias = Literal["connect", "unit_of_work", "repository_call"]

CommitState: TypeAlias = Literal["kept", "not_kept", "unknown"]

Outcome: TypeAlias = Literal["kept", "not_kept", "unknown", "done", "failed"]


class Operation:
    """A connect, a unit of work or a repository call; it is complete when its observers are left.

    Attributes:
        kind: The kind of operation.
        name: `connect`; `run` or `session` for a unit of work; class and method of a repository call, for example
            `RegistrationRepository.register`.
        parent: The operation in which it runs, in the same thread or task; `None` if there is none.
        attempts: The number of attempts, 1 or more: of `Database.run`, or to log in.
        retry_causes: Why each further attempt was made, in their order: the causes of the events `retry` and `wait`.
        cause: Why the connection was opened, as in the event `connection_opened`; `None` for other operations and if
            it failed.
        outcome: For a unit of work `kept` (all of it, or if there is an *error*, what it committed
            before), `not_kept` or `unknown`; otherwise `done` or `failed`.
        round_trips: The number of round trips of its statements, BEGIN, COMMIT and ROLLBACK, and of its operations
            except other units of work. Those of logging in are not included. A COPY counts as one.
        seconds: Its duration in seconds.
        error: The name of the class of the error that ended it; `None` if none did.
    """

    kind: OperationKind
    name: str
    parent: "Operation | None"
    attempts: int = 1
    retry_causes: list[str]
    cause: str | None = None
    outcome: Outcome
    round_trips: int = 0
    seconds: float = 0.0
    error: str | None = None

    # A copy of the context, for example that of a thread or task, keeps the operation after its end.
    _has_ended: bool = False

    # The state of the work after its last COMMIT whose reply was lost.
    _commit_state: CommitState | None = None

    def __repr__(self) -> str:
        return f"<Operation {self.kind} {self.name}: {self.outcome}>"


def new_operation(kind: OperationKind, name: str, parent: Operation | None) -> Operation:
    """Return an operation that begins now."""
    operation = Operation()
    operation.kind, operation.name, operation.parent = kind, name, parent
    operation.retry_causes = []
    operation.outcome = "unknown" if kind == "unit_of_work" else "failed"
    return operation


Observer: TypeAlias = Callable[[Operation], AbstractContextManager[None]]
"""A function that returns a context manager, which is entered when an operation begins and left when it ends."""

_current: ContextVar[Operation | None] = ContextVar("operation", default=None)


def current_operation() -> Operation | None:
    """Return the innermost operation of this thread or task; `None` if there is none or no database is observed."""
    operation = _current.get()
    while operation is not None and operation._has_ended:  # noqa: SLF001 it belongs to this module
        operation = operation.parent
    return operation


def count_round_trip() -> None:
    """Count a round trip for the innermost operation, and for those around it up to the unit of work."""
    operation = current_operation()
    while operation is not None:
        operation.round_trips += 1
        operation = None if operation.kind == "unit_of_work" else operation.parent


class Observation:
    """One operation and the context managers of its observers.

    Args:
        observers: The observers.
        on_failure: Called with the observer, `entered` or `left`, and its error.
        kind: The kind of operation.
        name: The name of the operation.

    Attributes:
        operation: The operation.
    """

    __slots__ = ("_began", "_left", "_observers", "_on_failure", "operation")

    def __init__(
        self,
        observers: tuple[Observer, ...],
        on_failure: Callable[[Observer, str, Exception], None],
        kind: OperationKind,
        name: str,
    ) -> None:
        self._observers, self._on_failure = observers, on_failure
        self._left: list[tuple[Observer, AbstractContextManager[None]]] = []
        self._began = monotonic()
        self.operation: Operation = new_operation(kind, name, current_operation())

    def begin(self) -> None:
        """Make the operation the current one, and enter its observers."""
        try:
            _current.set(self.operation)
            if not TELLING.get():
                self._enter_all()
        except BaseException as error:  # an interrupt
            self.end(error)
            raise

    def end(self, error: BaseException | None, *, kept: bool = False, is_commit: bool = False) -> None:
        """Complete the operation, and leave its observers, in reverse order; a second call does nothing.

        They are not told of *error* itself, so that they can neither change it nor report what its text holds.

        Args:
            error: The error that ended it; `None` if none did.
            kept: Whether a unit of work committed something before *error*.
            is_commit: Whether *error* may have interrupted a COMMIT, or a statement in autocommit.
        """
        operation = self.operation
        if operation._has_ended:  # noqa: SLF001 it belongs to this module
            return
        operation._has_ended = True  # noqa: SLF001 it belongs to this module
        try:
            operation.seconds = monotonic() - self._began
            operation.error = None if error is None else type(error).__name__
            operation.outcome = _outcome(operation, error, kept=kept, is_commit=is_commit)
            if _current.get() is operation:  # the end of a session may come in another context
                _current.set(current_operation())
        finally:
            if self._left:
                self._leave_all()

    __enter__ = begin

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        try:
            self.end(error)
        except BaseException as interrupt:
            self.end(interrupt)
            raise

    def _enter_all(self) -> None:
        try:
            TELLING.set(True)
            for observer in self._observers:
                self._enter(observer)
        finally:
            TELLING.set(False)

    def _leave_all(self) -> None:
        before = TELLING.get()
        try:
            TELLING.set(True)
            self._leave()
        finally:
            TELLING.set(before)

    def _enter(self, observer: Observer) -> None:
        try:
            manager = observer(self.operation)
            if not isinstance(manager, AbstractContextManager):
                raise TypeError(f"it returned a {type(manager).__name__}: expected a context manager")  # noqa: TRY301 handled like its own errors
            manager.__enter__()
        except Exception as failure:  # noqa: BLE001 it must not change the request
            self._on_failure(observer, "entered", failure)
        else:
            self._left.append((observer, manager))

    def _leave(self) -> None:
        """Leave the observers, all of them also if one is interrupted."""
        while self._left:
            observer, manager = self._left.pop()
            try:
                manager.__exit__(None, None, None)
            except Exception as failure:  # noqa: BLE001 it must not change the request
                self._on_failure(observer, "left", failure)
            except BaseException:
                self._leave()
                raise


def note_event(name: str, cause: str) -> None:
    """Record a `DatabaseEvent` in the operation of this thread or task to which it belongs."""
    kind = _KINDS.get(name)
    operation = current_operation() if kind else None
    while operation is not None and operation.kind != kind:
        operation = operation.parent
    if operation is None:
        return
    if name == "connection_opened":
        operation.cause = cause
    elif name == "commit_resolved":
        operation._commit_state = cast("CommitState", cause)  # noqa: SLF001 it belongs to this module
    else:
        operation.attempts += 1
        operation.retry_causes.append(cause)


# The kind of operation to which an event belongs.
_KINDS: Mapping[str, OperationKind] = {
    "connection_opened": "connect",
    "wait": "connect",
    "retry": "unit_of_work",
    "commit_resolved": "unit_of_work",
}


def _outcome(operation: Operation, error: BaseException | None, *, kept: bool, is_commit: bool) -> Outcome:
    """Return the outcome of *operation*; the arguments are those of `Observation.end`."""
    if operation.kind != "unit_of_work":
        return "done" if error is None else "failed"
    if isinstance(error, CommitOutcomeUnknown):
        return "unknown"
    if error is None or kept:
        return "kept"
    if isinstance(error, Exception):
        return "not_kept"
    # An interrupt.
    return operation._commit_state or ("unknown" if is_commit else "not_kept")  # noqa: SLF001 it belongs to this module
