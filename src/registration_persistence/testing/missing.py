"""Report a server or a package that a test needs and that is missing: by an error, or by skipping the test."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from registration_persistence.errors import RegistrationPersistenceError


class ServerMissing(RegistrationPersistenceError):
    """There is no server of this kind; the message says what to install or start."""


@contextmanager
def needs_test_extra() -> Iterator[None]:
    """Name the extra to install if an import inside the block fails.

    Raises:
        ServerMissing: An import failed.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise ServerMissing(f"{package} is not installed: run pip install 'registration-persistence[test]'") from error


def skip_or_fail(reason: object) -> NoReturn:
    """Skip the test because something is missing; if the environment variable `CI` is set, fail it.

    Args:
        reason: The missing thing, for the report of the test run.
    """
    import pytest

    if os.environ.get("CI"):
        pytest.fail(str(reason))
    pytest.skip(str(reason))
