"""The id of a lost transaction belongs to another one after a disaster: its evidence never gives a wrong answer."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread, Timer
from typing import Any

import psycopg
import pytest
from resilience.outcomes import rows_by_key
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from registration_persistence import Database, RegistrationRepository, deadline
from registration_persistence.errors import CommitOutcomeUnknown
from registration_persistence.sandbox import LocalCluster, wait_until
from registration_persistence.testing import RegistrationEnvironment

Disaster = Callable[[LocalCluster], None]


def _crash(cluster: LocalCluster) -> None:
    """The server crashes, and recovers from the WAL that it had written."""
    with _ending_wal_writer(cluster):
        cluster.primary.restart(mode="immediate")


def _killed_backend(cluster: LocalCluster) -> None:
    """An unrelated backend is killed, so the postmaster restarts all of them and recovers."""
    with _ending_wal_writer(cluster), cluster.primary.server.connect() as victim:
        os.kill(victim.info.backend_pid, signal.SIGKILL)
        wait_until(lambda: not _accepts(victim), "the backend is gone")
    wait_until(lambda: _can_log_in(cluster), "the server has recovered")


def _promotion(cluster: LocalCluster) -> None:
    """The primary is lost with what its standby had not received, and the standby is promoted."""
    cluster.fail_over(switch_after=0)


def _accepts(connection: psycopg.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def _can_log_in(cluster: LocalCluster) -> bool:
    try:
        cluster.primary.server.connect(connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _stop_receiving(cluster: LocalCluster) -> None:
    """Let the standby receive nothing any more, without telling the primary."""
    standby = cluster.add_standby()
    standby.configure(primary_conninfo="host=127.0.0.1 port=1")
    with standby.server.connect() as connection:
        gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')"
        wait_until(lambda: connection.execute(gone).fetchone() == (True,), "the standby receives nothing")


def _lose_without_standby(cluster: LocalCluster) -> None:
    """Let COMMIT return before its WAL is written, and stop the process that writes it."""
    cluster.primary.configure(synchronous_commit="off", synchronous_standby_names=None)
    os.kill(_wal_writer(cluster), signal.SIGSTOP)


def _wal_writer(cluster: LocalCluster) -> int:
    with cluster.primary.server.connect() as connection:
        ((process,),) = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
        ).fetchall()
    return int(process)


@contextmanager
def _ending_wal_writer(cluster: LocalCluster) -> Iterator[None]:
    """Let the process that writes the WAL receive the signal with which the server ends it."""
    process = _wal_writer(cluster)
    going_on = Timer(0.3, os.kill, (process, signal.SIGCONT))
    going_on.start()
    yield
    going_on.join()


def _lose_asynchronously(cluster: LocalCluster) -> None:
    _stop_receiving(cluster)
    cluster.primary.configure(synchronous_standby_names=None)


CASES: dict[str, tuple[Callable[[LocalCluster], None], Disaster]] = {
    "crash": (_lose_without_standby, _crash),
    "killed backend": (_lose_without_standby, _killed_backend),
    "asynchronous promotion": (_lose_asynchronously, _promotion),
    "synchronous primary lost": (_stop_receiving, _promotion),
}


@pytest.fixture
def database(registration_environment: RegistrationEnvironment) -> Iterator[Database]:
    """The database of a service, with an open connection."""
    database = Database(registration_environment.settings(APP_DATABASE_POOL="lambda"))
    database.ping()
    yield database
    database.dispose()
    registration_environment.cluster.primary.configure(synchronous_commit=None)


class Loss:
    """Loses the reply to the next COMMIT, causes a disaster, and gives the id of the transaction to another one."""

    def __init__(self, environment: RegistrationEnvironment, disaster: Disaster) -> None:
        self._environment, self._disaster = environment, disaster
        self._thread = Thread(target=self._happen)
        self._stack = ExitStack()
        self._lost_before = environment.cluster.endpoint.lost_replies
        self.transaction_id = 0
        self.status: str | None = None

    def begin(self, session: Session) -> None:
        """Lose the reply to COMMIT of *session*, whose transaction has written something."""
        self.transaction_id = int(session.scalar(text("SELECT CAST(pg_current_xact_id() AS text)")) or 0)
        event.listen(session, "before_commit", lambda _session: self._start(), once=True)

    def join(self) -> None:
        """Wait until everything has happened."""
        self._thread.join()
        self._stack.close()

    def _start(self) -> None:
        endpoint = self._environment.cluster.endpoint
        self._stack.enter_context(endpoint.lose_replies(1.0))
        endpoint.stop_accepting()
        self._thread.start()

    def _happen(self) -> None:
        cluster = self._environment.cluster
        endpoint = cluster.endpoint
        deadline_of_loss = time.monotonic() + 1  # a synchronous COMMIT waits, and has no reply that can be lost
        while endpoint.lost_replies == self._lost_before and time.monotonic() < deadline_of_loss:
            time.sleep(0.01)
        endpoint.cut()
        self._disaster(cluster)
        with self._environment.connect() as connection:
            current = 0
            while current <= self.transaction_id:
                ((current,),) = connection.execute(
                    "SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint)"
                ).fetchall()
            status = "SELECT pg_xact_status(CAST(%s AS xid8))"
            ((self.status,),) = connection.execute(status, [str(self.transaction_id)]).fetchall()
        self._stack.close()  # the replies to the evidence are not lost
        endpoint.resume_accepting()


@pytest.mark.parametrize("case", CASES)
def test_a_reused_id_never_gives_a_wrong_answer(
    registration_environment: RegistrationEnvironment, database: Database, case: str
) -> None:
    """The server calls the id committed, although the work is lost: `run` repeats work whose event is missing."""
    prepare, disaster = CASES[case]
    env = registration_environment
    with env.connect() as connection:
        connection.execute("CHECKPOINT")
    prepare(env.cluster)
    loss = Loss(env, disaster)
    attempts: list[int] = []

    def work(session: Session) -> Any:
        attempts.append(1)
        outcome = RegistrationRepository(session).register(f"ada{len(attempts)}@example.com")
        if len(attempts) == 1:
            loss.begin(session)
        return outcome

    with deadline(40):
        outcome = database.run(work)
    loss.join()

    assert loss.status == "committed", "the id was not given to another transaction"
    assert len(attempts) == 2
    assert rows_by_key(env) == {"ada2": 1}
    assert outcome.registration.email == "ada2@example.com"


def test_a_reused_id_does_not_make_sql_of_a_service_known(
    registration_environment: RegistrationEnvironment, database: Database
) -> None:
    """Its transaction leaves no evidence of this package, so its outcome stays unknown, and it is not repeated."""
    env = registration_environment
    prepare, disaster = CASES["crash"]
    prepare(env.cluster)
    loss = Loss(env, disaster)

    def work(session: Session) -> None:
        session.execute(
            text("INSERT INTO outbox (event_id, registration_id, type) VALUES (gen_random_uuid(), :id, 'test')"),
            {"id": "01a20a8a-9603-733d-9a12-6297a9d994f0"},
        )
        loss.begin(session)

    with pytest.raises(CommitOutcomeUnknown), deadline(40):
        database.run(work)
    loss.join()

    assert loss.status == "committed"
    with env.connect() as connection:
        assert connection.execute("SELECT count(*) FROM outbox").fetchall() == [(0,)]
