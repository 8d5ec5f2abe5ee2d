"""`end_with_parent`: a command that does not outlive the program that started it, such as make."""

import os
import signal
import time
from threading import Thread

_POLL_SECONDS = 1.0
_INIT_PROCESS_ID = 1


def end_with_parent() -> None:
    """Send SIGTERM to this process when its parent process has ended, whichever signal ended it.

    It has no effect if SIGHUP is ignored: then nohup has asked for the opposite.
    """
    parent = os.getppid()
    if parent != _INIT_PROCESS_ID and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        Thread(target=_watch, args=(parent,), daemon=True, name="parent").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
