"""`raise_limits`: the limits of the shell that are too low for a server."""

import resource

from registration_persistence.sandbox.errors import LocalServerError

_MIB = 1024 * 1024

# Limit, its description, the option of `ulimit` with its unit in bytes, and the value that a server needs.
_NEEDED = (
    (resource.RLIMIT_NOFILE, "open files", "n", 1, 256),
    (resource.RLIMIT_FSIZE, "the size of files", "f", 512, 1024 * _MIB),
    (resource.RLIMIT_STACK, "the stack", "s", 1024, 2 * _MIB),
)


def raise_limits() -> None:
    """Raise the limits that are too low for PostgreSQL, for this process and those that it starts.

    Raises:
        LocalServerError: A hard limit is too low; the message names the command that raises it.
    """
    for limit, name, option, unit, needed in _NEEDED:
        soft, hard = resource.getrlimit(limit)
        if soft == resource.RLIM_INFINITY or soft >= needed:
            continue
        wanted_hard = hard if hard == resource.RLIM_INFINITY else max(hard, needed)
        try:
            resource.setrlimit(limit, (needed, wanted_hard))
        except (ValueError, OSError):
            raise LocalServerError(
                f"the hard limit of {name} is {hard}: PostgreSQL needs {needed}; "
                f"run ulimit -{option} {needed // unit} with the privileges for it, or raise the limit of your login"
            ) from None
