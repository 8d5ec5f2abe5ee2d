"""`install_hooks`: counts round trips, and observes the calls of repositories, which the database does not know."""

from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any

from registration_persistence.database.operations import Observation, count_round_trip
from registration_persistence.unit_of_work import Hooks


def install_hooks() -> None:
    """Count round trips and observe the calls of repositories, from now on in this process."""
    if Hooks.round_trip is None:
        Hooks.round_trip = staticmethod(count_round_trip)
        Hooks.observe_repository = staticmethod(_observe)
        for repository in Hooks.repositories:
            _observe(repository)


def _observe(repository: type) -> None:
    """Replace the public methods of *repository* by ones that are operations."""
    for name, method in list(vars(repository).items()):
        if isinstance(method, FunctionType) and not name.startswith("_"):
            setattr(repository, name, _observed(f"{repository.__name__}.{name}", method))


def _observed(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return *method* as an operation; its frame holds no arguments if it fails, as with `redact_traceback`."""

    @wraps(method)
    def observed(*arguments: Any, **named: Any) -> Any:
        observation: Observation | None = None
        try:
            observation = _begun(arguments, name)
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


def _begun(arguments: tuple[Any, ...], name: str) -> Observation | None:
    """Return the operation of a call; `None` if the database of its session is not observed.

    Args:
        arguments: The repository and the arguments of its method.
        name: The name of the operation.
    """
    target: Any = getattr(arguments[0], "_session", None) if arguments else None
    try:
        bind = target.get_bind() if hasattr(target, "get_bind") else target
        events = getattr(getattr(bind, "dialect", None), "events", None)
    except Exception:  # noqa: BLE001 a session of the service that has no engine is not observed
        return None
    if events is None or not events.observers:
        return None
    observation: Observation = events.observation("repository_call", name)
    observation.begin()
    return observation
