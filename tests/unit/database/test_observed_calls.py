"""The hooks of observed databases are installed once, also if several threads observe their databases at once."""

from contextlib import AbstractContextManager, nullcontext
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest

from registration_persistence.database.events import Events
from registration_persistence.database.operations import Operation
from registration_persistence.unit_of_work import Hooks


class HeldRepositories(dict[type, str | None]):
    """Classes of repositories that are only listed once a test allows that."""

    def __init__(self, *classes: type) -> None:
        super().__init__(dict.fromkeys(classes))
        self.asked, self.free = Event(), Event()

    def items(self) -> Any:
        """Wait, and return the classes."""
        self.asked.set()
        assert self.free.wait(20)
        return super().items()


def test_an_observer_of_a_second_thread_waits_for_the_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `observe` returns when calls are observed, and each call is one operation for each observer."""

    class Repository:
        def __init__(self, session: Any) -> None:
            self._session = session

        def work(self) -> None:
            """Do nothing."""

    repositories, seen = HeldRepositories(Repository), list[str]()
    monkeypatch.setattr(Hooks, "round_trip", None)
    monkeypatch.setattr(Hooks, "observe_repository", None)
    monkeypatch.setattr(Hooks, "repositories", repositories)
    events = Events()

    def observer(operation: Operation) -> AbstractContextManager[None]:
        seen.append(operation.name)
        return nullcontext()

    threads = [Thread(target=events.observe, args=(observer,)) for _ in range(3)]
    threads[0].start()
    assert repositories.asked.wait(20)
    for thread in threads[1:]:
        thread.start()
    threads[1].join(0.2)
    assert all(thread.is_alive() for thread in threads)
    repositories.free.set()
    for thread in threads:
        thread.join(20)
    Repository(SimpleNamespace(dialect=SimpleNamespace(events=events))).work()

    assert ["Repository.work"] * 3 == seen
