"""`examine`: makes the checks one after the other, each within its time, and turns each exception into a result."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeAlias, TypeVar

import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from registration_persistence.cli.doctor.check import Check, failed, skipped
from registration_persistence.cli.doctor.facts import ConnectionGone, Facts
from registration_persistence.cli.doctor.remedies import remedy
from registration_persistence.clock import monotonic
from registration_persistence.database import deadline
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    RegistrationPersistenceError,
    SchemaOutdated,
    WriterMoved,
)
from registration_persistence.light_dataclass import dataclass

T = TypeVar("T")

# A wait that ends at the deadline has this long to end; one that cannot be ended is left to its thread.
_MARGIN_SECONDS = 1.0

_MIN_SECONDS = 0.1

_REPORT = "report this line to the maintainers of registration-persistence"

# After these errors the connection is of no use.
_LOST = (CommitOutcomeUnknown, ConnectionLost, WriterMoved)

Run: TypeAlias = Callable[[Facts], Check]


@dataclass(frozen=True, slots=True)
class Step:
    """One check and its preconditions.

    Args:
        name: The name of the check.
        run: Makes the check.
        needs: The checks that must not have failed. Defaults to none.
        seconds: The time for the check. Defaults to 5 s.
    """

    name: str
    run: Run
    needs: tuple[str, ...] = ()
    seconds: float = 5.0


class _Returned(Generic[T]):
    """The result of a function, which may be an exception itself."""

    def __init__(self, result: T) -> None:
        self.result = result


def examine(facts: Facts, steps: Sequence[Step], *, seconds: float) -> Iterator[Check]:
    """Make each check, and yield its result.

    Args:
        facts: The subject of the checks.
        steps: The checks, in their order.
        seconds: The time for all of them.
    """
    end, total = monotonic() + seconds, f"{seconds:g} s"
    unmet: set[str] = set()
    for step in steps:
        left = end - monotonic()
        need = next((need for need in step.needs if need in unmet), None)
        if need is not None:
            check = skipped(step.name, f"the check {need!r} did not succeed")
        elif left < _MIN_SECONDS:
            check = skipped(step.name, f"the {total} of --timeout are over")
        else:
            check = _result_of(step, facts, min(step.seconds, left))
        if check.state in {"failed", "skipped"}:
            unmet.add(step.name)
        yield check


def _result_of(step: Step, facts: Facts, seconds: float) -> Check:
    """Make the check of *step*; return a result whatever happens."""
    try:
        return call_in_time(lambda: step.run(facts), seconds)
    except TimeoutError:
        facts.abandon_connection()
        return failed(step.name, f"no answer within {seconds:.0f} s", "check the network, and run doctor again")
    except Exception as error:  # noqa: BLE001 an operator gets the other checks, whatever happens in this one
        if isinstance(error, _LOST):
            facts.abandon_connection()
        return _result_of_error(step.name, error)


def _result_of_error(name: str, error: Exception) -> Check:
    match error:
        case ConnectionGone():
            return skipped(name, "the connection was lost in a check before")
        case SchemaOutdated():
            return skipped(name, "a table or a column is not found: see the checks 'schema' and 'settings'")
        case RegistrationPersistenceError():
            return failed(name, str(error), remedy(error))
        case DBAPIError():
            return _result_of_statement(name, error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
    # A message of SQLAlchemy holds the whole statement.
    shown = type(error).__name__ if isinstance(error, SQLAlchemyError) else f"{type(error).__name__}: {error}"
    return failed(name, f"unexpected {shown} at {place}", _REPORT)


def _result_of_statement(name: str, error: DBAPIError) -> Check:
    cause = error.orig
    # The first line, because the others quote values of the row.
    reason = str(cause).strip().partition("\n")[0]
    if isinstance(cause, psycopg.errors.InsufficientPrivilege):
        return skipped(name, f"the login has not the privilege: {reason}")
    return failed(name, f"the server refused the query of this check: {reason}", _REPORT)


def call_in_time(function: Callable[[], T], seconds: float) -> T:
    """Call *function* in a thread and return its result.

    A thread, because the look-up of a host name and a few other waits cannot be ended; the process does not wait for
    such a thread when it exits.

    Args:
        function: The function to call.
        seconds: The deadline of its waits. A wait that goes on for another second is left to the thread.

    Raises:
        TimeoutError: The function did not return in time.
    """
    outcomes: SimpleQueue[_Returned[T] | BaseException] = SimpleQueue()

    def call() -> None:
        try:
            with deadline(seconds, reserve=0):
                outcomes.put(_Returned(function()))
        except BaseException as error:  # noqa: BLE001 it is raised in the thread that waits
            outcomes.put(error)

    Thread(target=call, daemon=True, name="doctor").start()
    try:
        outcome = outcomes.get(timeout=seconds + _MARGIN_SECONDS)
    except Empty:
        raise TimeoutError from None
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome.result
