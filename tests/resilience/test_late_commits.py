"""A COMMIT whose connection was closed does not arrive later, and the session that waits for it is ended."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from resilience.outcomes import rows_by_key
from sqlalchemy import text

from registration_persistence import Database, RegistrationRepository, deadline
from registration_persistence.errors import CommitOutcomeUnknown
from registration_persistence.testing import Fault, RegistrationEnvironment

# The kernel transmits an unacknowledged segment again after about 0.2, 0.4, 0.8, 1.6 and 3.2 s.
RETRANSMISSION_SECONDS = 5.0


@pytest.fixture
def database(registration_environment: RegistrationEnvironment) -> Iterator[Database]:
    """The database of a Lambda, with an open connection."""
    database = Database(registration_environment.settings(APP_DATABASE_POOL="lambda"))
    database.ping()
    yield database
    database.dispose()


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
def test_a_commit_does_not_arrive_after_its_connection_was_closed(
    registration_environment: RegistrationEnvironment, database: Database, drop_packets: Fault, *, autocommit: bool
) -> None:
    """The network recovers while the kernel would transmit it again; the answer that nothing was kept stays right."""
    with (
        ExitStack() as network,
        pytest.raises(CommitOutcomeUnknown) as raised,
        deadline(1.5, reserve=0),
        database.session(autocommit=autocommit) as session,
    ):
        session.execute(text("SELECT 1"))
        if autocommit:
            network.enter_context(drop_packets())
        RegistrationRepository(session).register("ada@example.com")
        network.enter_context(drop_packets())

    assert raised.value.resolve() is False
    time.sleep(RETRANSMISSION_SECONDS)
    assert rows_by_key(registration_environment) == {}
    with registration_environment.connect() as connection:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
        assert connection.execute(waiting, [registration_environment.username]).fetchall() == [(0,)]
