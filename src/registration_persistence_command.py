"""The program `registration-persistence`, until Python has imported the package.

It is beside the package because Python imports a package before any of its modules.
"""

import signal


def main() -> int:
    """Import the package, which Ctrl-C ends without a traceback, and run the command; return its exit code."""
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a background job ignores it
    if raises:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from registration_persistence.cli import main as run

    if raises:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()
