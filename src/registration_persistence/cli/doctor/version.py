"""The version of the server, and the end of its support."""

from datetime import UTC, datetime

from registration_persistence.cli.doctor.check import Check
from registration_persistence.cli.doctor.facts import Facts
from registration_persistence.cli.doctor.support_dates import support_check

NAME = "version"

_PER_MAJOR = 10_000


def version_check(facts: Facts) -> Check:
    """Compare the server's version with the dates of its support."""
    server = facts.server
    assert server is not None
    return support_check(NAME, server.version, server.version_number // _PER_MAJOR, datetime.now(UTC).date())
