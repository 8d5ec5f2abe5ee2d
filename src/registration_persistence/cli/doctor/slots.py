"""The connection slots: how many are in use, of those that the service may use."""

from registration_persistence.cli.doctor.check import Check, failed, ok, warning
from registration_persistence.cli.doctor.facts import Facts

NAME = "connection slots"

_WARNING_SHARE, _FAILURE_SHARE = 0.8, 0.95

_FIX = "docs/runbooks/raise-capacity.md: raise the capacity, or lower APP_DATABASE_POOL_SIZE or the number of processes"


def slots_check(facts: Facts) -> Check:
    """Return the use of the server's slots, and of the limits of the role and of the database."""
    server = facts.server
    assert server is not None
    limits = {
        "the server": (server.connections, server.max_connections - server.reserved),
        f"the role {server.current_user}": (server.role_connections, server.role_limit),
        f"the database {server.database}": (server.database_connections, server.database_limit),
    }
    return use_check({of: (used, most) for of, (used, most) in limits.items() if most >= 0})


def use_check(limits: dict[str, tuple[int, int]]) -> Check:
    """Return the result for the connections in use and the limit of each subject."""
    described = "; ".join(f"{used} of {most} of {of}" for of, (used, most) in limits.items())
    share = max(used / most if most else 1.0 for used, most in limits.values())
    if share >= _FAILURE_SHARE:
        return failed(NAME, f"{described}: the next process finds no slot", _FIX)
    if share >= _WARNING_SHARE:
        return warning(NAME, described, _FIX)
    return ok(NAME, described)
