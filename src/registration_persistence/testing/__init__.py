"""A migrated PostgreSQL and a Secrets Manager for the test suites of services; install the extra `test`.

# conftest.py
pytest_plugins = ["registration_persistence.testing.plugin"]
"""

from registration_persistence.testing.servers import ServerMissing, missing, open_server
from registration_persistence.testing.wire import WireCounter

__all__ = ["ServerMissing", "WireCounter", "missing", "open_server"]
