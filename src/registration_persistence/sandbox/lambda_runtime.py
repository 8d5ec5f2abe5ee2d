"""The program that a `LambdaProcess` starts: it loads a handler, then calls it for each event that it receives."""

import importlib.util
import json
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from registration_persistence.clock import monotonic
from registration_persistence.sandbox.lambda_context import FakeLambdaContext

Handler = Callable[[Any, FakeLambdaContext], Any]


def main(handler_name: str, function_name: str, file_descriptor: str) -> None:
    """Load the handler, report that it is ready, and serve events.

    Args:
        handler_name: `path/to/file.py:function` or `module:function`.
        function_name: Name of the Lambda function.
        file_descriptor: Number of the file descriptor of the pipe to the parent process.
    """
    restore_signals()
    with Connection(int(file_descriptor)) as pipe:
        handler = load(handler_name)
        pipe.send_bytes(b"ready")
        serve(handler, function_name, pipe)


def restore_signals() -> None:
    """Handle signals as Lambda's processes do, even if the parent process ignores or blocks some."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def load(handler_name: str) -> Handler:
    """Return the handler that `path/to/file.py:function` or `module:function` names."""
    module_name, _, function = handler_name.rpartition(":")
    handler: Handler = getattr(_load_module(module_name), function)
    return handler


def serve(handler: Handler, function_name: str, pipe: Connection) -> None:
    """Call *handler* for each request in *pipe*, until the other end is closed."""
    while True:
        try:
            request = json.loads(pipe.recv_bytes())
        except (EOFError, ConnectionError):
            return
        pipe.send_bytes(json.dumps(_call_handler(handler, function_name, request)).encode())


def _call_handler(handler: Handler, function_name: str, request: dict[str, Any]) -> dict[str, Any]:
    started = monotonic()
    context = FakeLambdaContext(request["timeout"], function_name=function_name, aws_request_id=request["id"])
    answer: dict[str, Any]
    try:
        answer = {"value": handler(request["event"], context)}
        json.dumps(answer)
    except Exception as error:  # noqa: BLE001 every error is reported to the caller
        traceback.print_exc()
        answer = {"type": type(error).__name__, "message": str(error)}
        answer["retryable"] = bool(getattr(error, "retryable", False))
    return {**answer, "seconds": monotonic() - started}


def _load_module(name: str) -> ModuleType:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    specification = importlib.util.spec_from_file_location(Path(name).stem, name)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(*sys.argv[1:])
