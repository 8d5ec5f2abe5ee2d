"""A handler for the life of a process: forks, a SnapStart snapshot and its restore, SIGTERM."""

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
    """A stand-in for the module of Lambda's runtime; `live` calls its hooks."""

    def register_before_snapshot(self, hook: Callable[[], None]) -> None:
        """Store *hook*; hooks before a snapshot are called in reverse order."""
        _hooks["before"].insert(0, hook)

    def register_after_restore(self, hook: Callable[[], None]) -> None:
        """Store *hook*."""
        _hooks["after"].append(hook)


sys.modules["snapshot_restore_py"] = SnapshotRestore("snapshot_restore_py")
_received_signals: list[int] = []
if os.environ.get("SURVIVE"):
    signal.signal(signal.SIGTERM, lambda number, _frame: _received_signals.append(number))

get_db().warm_up()


def live(event: str, _context: Any) -> dict[str, Any]:
    """Obey *event*, and return the backend and the user of the connection and the events so far."""
    if event in _hooks:
        for hook in _hooks[event]:
            hook()
    if event == "use":
        return {"backend": _backend(), "user": _user(), "opened": _opened(), "received_signals": _received_signals}
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
    """Fork children that use the database at the same time, and return their backends."""
    backends = []
    pipes = [os.pipe() for _ in range(children)]
    pids = []
    for reader, writer in pipes:
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reader)
                os.write(writer, str(_backend()).encode())
            except BaseException:  # noqa: BLE001 the child ends here after every error
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
