"""The process that a `LambdaProcess` starts: loads a handler, then calls it for each event that comes in."""

import importlib.util
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

Handler = Callable[[Any, "LambdaContext"], Any]


@dataclass(frozen=True, slots=True)
class LambdaContext:
    """The part of Lambda's context object that handlers use.

    Args:
        function_name: As in `AWS_LAMBDA_FUNCTION_NAME`.
        aws_request_id: Of this invocation alone.
        deadline: On the clock of `time.monotonic`.
    """

    function_name: str
    aws_request_id: str
    deadline: float

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda ends the process."""
        return max(0, int(1000 * (self.deadline - time.monotonic())))


def serve(handler: Handler, function_name: str, conversation: Connection) -> None:
    """Answer one event after the other, until the other side is gone."""
    while True:
        try:
            request = json.loads(conversation.recv_bytes())
        except (EOFError, ConnectionError):
            return
        started = time.monotonic()
        context = LambdaContext(function_name, request["id"], started + request["timeout"])
        answer: dict[str, Any]
        try:
            answer = {"value": handler(request["event"], context)}
            json.dumps(answer)
        except Exception as error:  # noqa: BLE001 whatever it is goes to the caller
            traceback.print_exc()
            answer = {"type": type(error).__name__, "message": str(error)}
            answer["retryable"] = bool(getattr(error, "retryable", False))
        conversation.send_bytes(json.dumps({**answer, "seconds": time.monotonic() - started}).encode())


def load(name: str) -> Handler:
    """Return the handler that `path/to/file.py:function` or `module:function` names."""
    place, _, function = name.rpartition(":")
    handler: Handler = getattr(_module(place), function)
    return handler


def main(name: str, function_name: str, descriptor: str) -> None:
    """Load the handler, say that it is there, and serve."""
    with Connection(int(descriptor)) as conversation:
        handler = load(name)
        conversation.send_bytes(b"ready")
        serve(handler, function_name, conversation)


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    specification = importlib.util.spec_from_file_location(Path(place).stem, place)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(*sys.argv[1:])
