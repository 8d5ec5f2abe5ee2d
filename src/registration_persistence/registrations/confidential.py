"""Keeps what a repository method was told out of the tracebacks that leave it."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from registration_persistence.errors import RegistrationPersistenceError

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

_OURS = (RegistrationPersistenceError, SQLAlchemyError, psycopg.Error)


def confidential(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Drop the frames below *method* from its errors: their local variables hold mailboxes, profiles and tokens.

    Error trackers send local variables along. The errors themselves name the statement and the cause, and an error
    that is neither SQLAlchemy's nor ours is a bug, which keeps its traceback.
    """

    @wraps(method)
    def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except _OURS as error:
            del args, kwargs
            _drop_frames(error)
            raise

    return guarded


def _drop_frames(error: BaseException | None) -> None:
    while isinstance(error, _OURS):
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
