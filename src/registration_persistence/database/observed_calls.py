"""`install_hooks`: counts round trips, and observes the calls of repositories, which the database does not know."""

from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any

from registration_persistence.database.lifecycle import ForkableLock
from registration_persistence.database.operations import Observation, count_round_trip
from registration_persistence.unit_of_work import Hooks

_installation = ForkableLock()


def install_hooks() -> None:
    """Count round trips and observe the calls of repositories, from now on in this process."""
    with _installation.held():
        if Hooks.round_trip is None:
            Hooks.round_trip = staticmethod(count_round_trip)
            Hooks.observe_repository = staticmethod(_observe)
            for repository, name in Hooks.repositories.items():
                _observe(repository, name)


def _observe(repository: type, name: str | None) -> None:
    """Replace the public methods of *repository* by ones that are operations.

    Args:
        repository: The class.
        name: The name of the operations. `None`: the names of class and method.
    """
    for attribute, method in list(vars(repository).items()):
        if isinstance(method, FunctionType) and not attribute.startswith("_"):
            setattr(repository, attribute, _observed(name or f"{repository.__name__}.{attribute}", method))


def _observed(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return *method* as an operation; its frame holds no arguments if it fails, as with `redact_traceback`."""

    @wraps(method)
    def observed(*arguments: Any, **named: Any) -> Any:
        observation: Observation | None = None
        try:
            observation = _observation_of(getattr(arguments[0], "_session", None) if arguments else None, name)
            if observation is not None:
                observation.begin()
            result = method(*arguments, **named)
        except BaseException as error:
            del arguments, named
            if observation is not None:
                observation.end(error)
            raise
        del arguments, named
        if observation is not None:
            observation.end(None)
        return result

    return observed


def _observation_of(target: Any, name: str) -> Observation | None:
    """Return the operation of a call, which has not begun; `None` if its database is not observed.

    Args:
        target: The session or the connection of the repository.
        name: The name of the operation.
    """
    try:
        bind = target.get_bind() if hasattr(target, "get_bind") else target
        events = getattr(getattr(bind, "dialect", None), "events", None)
    except Exception:  # noqa: BLE001 a session of the service that has no engine is not observed
        return None
    if events is None or not events.observers:
        return None
    observation: Observation = events.observation("repository_call", name)
    return observation
