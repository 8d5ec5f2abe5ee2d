"""The standard streams of a command: a closed or full one, or a character it cannot encode, is no traceback."""

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from registration_persistence.errors import RegistrationPersistenceError

if TYPE_CHECKING:
    from typing_extensions import Buffer


class OutputFailed(RegistrationPersistenceError):
    """Standard output cannot be written, for example because the disk is full."""


def prepare() -> None:
    """Replace the streams of the interpreter, unless a test has replaced them already.

    A stream that is closed is `None` in Python, and its descriptor would be given to the next file or socket.
    """
    if sys.stdin is None:
        _open_null_device(0, os.O_RDONLY)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 it lives as long as the process
    if sys.stdout is sys.__stdout__:
        if sys.stdout is None:
            _open_null_device(1, os.O_RDONLY)  # a write fails, as on a closed descriptor
        sys.stdout = _text(_Output(1, "wb", closefd=False), sys.stdout)
    if sys.stderr is sys.__stderr__:
        if sys.stderr is None:
            _open_null_device(2, os.O_WRONLY)
        sys.stderr = _text(_Errors(2, "wb", closefd=False), sys.stderr, line_buffering=True)


def discard_unwritten_output() -> None:
    """Send text that cannot be written to the null device; otherwise the interpreter tries again at its exit."""
    try:
        sys.stdout.flush()
    except (OutputFailed, OSError):
        with suppress(OSError):
            _open_null_device(sys.stdout.fileno(), os.O_WRONLY)


class _Output(io.FileIO):
    """Standard output, whose errors can be told from those of other files."""

    def write(self, data: "Buffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputFailed(f"cannot write to standard output: {error.strerror}") from error


class _Errors(io.FileIO):
    """Standard error, whose own errors cannot be reported anywhere."""

    def write(self, data: "Buffer", /) -> int:
        with suppress(OSError):
            return super().write(data)
        return memoryview(data).nbytes


def _text(raw: io.FileIO, replaced: TextIO | None, *, line_buffering: bool = False) -> TextIO:
    encoding = replaced.encoding if replaced is not None else "utf-8"
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=line_buffering or raw.isatty()
    )


def _open_null_device(descriptor: int, flags: int) -> None:
    """Open the null device as *descriptor*."""
    opened = os.open(os.devnull, flags)
    if opened != descriptor:
        os.dup2(opened, descriptor)
        os.close(opened)
