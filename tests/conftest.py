"""The servers of the tests: first the embedded one, then a container."""

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import settings

from registration_persistence.sandbox import PostgresServer
from registration_persistence.testing import ServerMissing, open_server, skip_or_fail

settings.register_profile("nightly", print_blob=True)
pytest_plugins = ["registration_persistence.testing.plugin", "command_databases"]


@pytest.fixture(
    scope="session", params=["embedded", pytest.param("container", marks=pytest.mark.container)], name="postgres_server"
)
def every_postgres_server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """Each kind of server in turn."""
    try:
        with open_server(request.param) as address:
            yield address
    except ServerMissing as error:
        skip_or_fail(error)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line for each reason for which tests were skipped, instead of one for each test."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    for reason, number in reasons.most_common():
        terminalreporter.write_line(f"SKIPPED {number} {'test' if number == 1 else 'tests'}: {reason}", yellow=True)
