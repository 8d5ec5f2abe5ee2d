"""The PostgreSQL of tests that need no container, in the version of `TEST_POSTGRES_VERSION` if it is set."""

from functools import cache
from pathlib import Path

from registration_persistence.sandbox import LocalServerError, embedded_binaries, system_binaries
from registration_persistence.testing import ServerKind
from registration_persistence.testing.servers import chosen_version


@cache
def local_kind() -> ServerKind:
    """Return `embedded`, or `system` if the extra `local` does not contain the chosen version."""
    version = chosen_version()
    try:
        if version is not None:
            embedded_binaries(version)
    except LocalServerError:
        return "system"
    return "embedded"


def system_programs() -> Path | None:
    """Return the folder of the system's PostgreSQL, which has TLS, other languages and every extension."""
    return system_binaries(chosen_version())
