"""Handlers for what a process goes through: forks, a SnapStart snapshot and its restoring, SIGTERM."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from sqlalchemy import text

from registration_persistence import get_db

_hooks: dict[str, list[Callable[[], None]]] = {"before": [], "after": []}


class SnapshotRestore(ModuleType):
    """A stand-in for the module of Lambda's runtime, which calls its hooks when it is told to."""

    def register_before_snapshot(self, hook: Callable[[], None]) -> None:
        """Note *hook*; those before a snapshot are called in reverse order."""
        _hooks["before"].insert(0, hook)

    def register_after_restore(self, hook: Callable[[], None]) -> None:
        """Note *hook*."""
        _hooks["after"].append(hook)


sys.modules["snapshot_restore_py"] = SnapshotRestore("snapshot_restore_py")
_heard: list[int] = []
if os.environ.get("SURVIVE"):
    signal.signal(signal.SIGTERM, lambda number, _frame: _heard.append(number))

get_db().warm_up()


def live(event: str, _context: Any) -> dict[str, Any]:
    """Do what *event* says, and tell who serves the connection, as whom, and what has happened so far."""
    if event in _hooks:
        for hook in _hooks[event]:
            hook()
    if event == "use":
        return {"backend": _backend(), "user": _user(), "opened": _opened(), "heard": _heard}
    if event == "fork":
        return {"before": _backend(), "children": _fork(4), "after": _backend()}
    return {"hooks": {moment: len(hooks) for moment, hooks in _hooks.items()}, "opened": _opened()}


def _backend() -> int:
    with get_db().session() as session:
        return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)


def _user() -> str:
    with get_db().session() as session:
        return str(session.scalar(text("SELECT current_user")))


def _opened() -> dict[str, int]:
    events = get_db().events
    found = {cause: events.count("connection_opened", cause) for cause in ("cold", "recycled", "rotation", "thaw")}
    return found | {"rejected": events.count("login_rejected"), "stale": events.count("secret_stale")}


def _fork(children: int) -> list[int]:
    """Let as many children use the database at once, and return the backends that served them."""
    backends = []
    pipes = [os.pipe() for _ in range(children)]
    pids = []
    for reader, writer in pipes:
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reader)
                os.write(writer, str(_backend()).encode())
            except BaseException:  # noqa: BLE001 the child ends here, whatever happens
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(writer)
        pids.append(pid)
    for pid, (reader, _) in zip(pids, pipes, strict=True):
        backends.append(int(os.read(reader, 100) or -1))
        os.waitpid(pid, 0)
        os.close(reader)
    return backends
