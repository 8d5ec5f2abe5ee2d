"""The servers of the tests: first the programs of a Python package or of the system, then a container."""

import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import settings
from server_versions import local_kind

from registration_persistence.sandbox import PostgresServer
from registration_persistence.testing import ServerMissing, open_server, skip_or_fail

settings.register_profile("nightly", print_blob=True)

# A shell ignores SIGINT in background jobs, nohup ignores SIGHUP, and the processes of the tests would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, ())

# SQLAlchemy's suite replaces parts of pytest, so it runs on its own: `make compliance`.
collect_ignore = ["compliance"]
pytest_plugins = ["registration_persistence.testing.plugin", "command_databases"]


@pytest.fixture(
    scope="session",
    params=[local_kind(), pytest.param("container", marks=pytest.mark.container)],
    name="postgres_server",
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
