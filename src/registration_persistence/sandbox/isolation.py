"""The environment of the sandbox: no variable of the shell changes its servers, or leads a client out of it."""

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

# For programs, libraries, temporary files, the terminal, and the measurement of coverage.
_KEPT = {
    "PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "PYTHONDONTWRITEBYTECODE",
    "TERM", "COLUMNS", "LINES", "NO_COLOR", "LANG", "LC_ALL", "LC_CTYPE", "COVERAGE_PROCESS_CONFIG",
}  # fmt: skip

# Services set these in their test suites. The endpoint of the local Secrets Manager takes precedence over
# AWS_ENDPOINT_URL.
_HARMLESS_AWS = (
    "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_LAMBDA_", "AWS_EXECUTION_ENV", "AWS_XRAY_",
    "AWS_SDK_UA_",
)  # fmt: skip
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

_lock = Lock()
# Value and number of blocks for each variable that `hidden_variables` has removed.
_hidden: dict[str, tuple[str, int]] = {}


def sandbox_environment() -> dict[str, str]:
    """Return the variables that a Python process of the sandbox inherits, with a home folder that has no files."""
    return {name: value for name, value in os.environ.items() if name in _KEPT} | {"HOME": os.devnull}


def server_environment() -> dict[str, str]:
    """Return the variables of PostgreSQL's programs."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def isolate_process() -> None:
    """Give this process the environment of the sandbox until its end, and let every signal through."""
    environment = sandbox_environment()
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    warnings.simplefilter("ignore")  # -W error would turn a deprecation in a library into a failure
    restore_exit_codes()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def restore_exit_codes() -> None:
    """Stop ignoring SIGCHLD, as a parent process may have left it: the exit codes of child processes are lost then."""
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def is_foreign(name: str) -> bool:
    """Return whether a variable changes the connections of this package, of libpq or of the AWS SDK."""
    if name.startswith("AWS_"):
        return not name.startswith(_HARMLESS_AWS)
    return name.startswith(("PG", "APP_DATABASE_")) or name == "BOTO_CONFIG" or name.lower() in _PROXIES


def is_of_libpq(name: str) -> bool:
    """Return whether libpq reads a variable."""
    return name.startswith("PG")


@contextmanager
def hidden_variables(is_hidden: Callable[[str], bool]) -> Iterator[None]:
    """Remove variables from the environment of this process until the block ends; blocks in threads may overlap.

    Args:
        is_hidden: Returns whether the variable of a name is removed.
    """
    with _lock:
        names = [name for name in {*os.environ, *_hidden} if is_hidden(name)]
        for name in names:
            value, blocks = _hidden.get(name, ("", 0))
            _hidden[name] = os.environ.pop(name, value), blocks + 1
    try:
        yield
    finally:
        with _lock:
            for name in names:
                value, blocks = _hidden.pop(name)
                if blocks > 1:
                    _hidden[name] = value, blocks - 1
                else:
                    os.environ.setdefault(name, value)


@contextmanager
def isolated_environment() -> Iterator[None]:
    """Give this process the variables of `sandbox_environment` until the block ends."""
    with hidden_variables(lambda name: name not in _KEPT):
        os.environ["HOME"] = os.devnull
        try:
            yield
        finally:
            os.environ.pop("HOME", None)
