"""Starts PostgreSQL, Secrets Manager and the service on this machine, until Ctrl-C."""

import argparse
import os
import signal
import socket
import sys
from typing import NoReturn

_HOST = "127.0.0.1"
_DEFAULT_PORT, _MAX_PORT = 8000, 65_535
_FAILED, _WRONG_USE = 1, 2

# Those of the shell would lead clients to other servers: proxies, files and profiles of AWS, variables of libpq.
_KEPT_VARIABLES = ("PATH", "TMPDIR", "LANG", "LC_ALL", "TERM", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def main() -> int:
    """Serve until this process gets SIGINT, SIGTERM or SIGHUP; return the exit code."""
    parser = argparse.ArgumentParser(prog="signup_local", description=__doc__)
    parser.add_argument(
        "--port",
        type=_port,
        default=_DEFAULT_PORT,
        help=f"0 to {_MAX_PORT}; 0 is a free one (default: {_DEFAULT_PORT})",
    )
    options = parser.parse_args()
    environment = os.environ.get("APP_ENVIRONMENT", "local")
    if environment != "local":
        return _fail(_WRONG_USE, f"APP_ENVIRONMENT is {environment!r}: this service starts only in 'local'; unset it")
    try:
        listener = socket.create_server((_HOST, options.port), backlog=128)
    except OSError as error:
        return _fail(
            _FAILED,
            f"port {options.port} cannot be used: {os.strerror(error.errno or 0)}; name another one with --port",
        )
    _keep_only_harmless_variables()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    with listener:
        try:
            return _serve(listener)
        except KeyboardInterrupt:
            return 128 + signal.SIGINT


def _serve(listener: socket.socket) -> int:
    print("Starting PostgreSQL with a standby, and Secrets Manager, on this machine ...", flush=True)
    from registration_persistence import RegistrationPersistenceError  # wrong use is reported at once
    from signup_local.stage import open_stage

    try:
        with open_stage(listener) as stage:
            print(f"Open {stage.url} in a browser. Ctrl-C ends everything.", flush=True)
            return stage.serve()
    except RegistrationPersistenceError as error:
        return _fail(_FAILED, str(error))


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: expected a number from 0 to {_MAX_PORT}")
    return int(text)


def _keep_only_harmless_variables() -> None:
    for name in set(os.environ) - {*_KEPT_VARIABLES}:
        del os.environ[name]
    os.environ["HOME"] = os.devnull


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _fail(code: int, problem: str) -> int:
    print(f"signup_local: {problem}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
