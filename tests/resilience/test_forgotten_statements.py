"""The server forgets prepared statements under load, as behind a proxy that changes the server's session."""

import random
from threading import Thread
from typing import Any

import pytest
from psycopg import pq
from resilience.outcomes import rows_by_key
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from registration_persistence import Database, RegistrationRepository, deadline
from registration_persistence.testing import RegistrationEnvironment

THREADS, UNITS = 4, 60


def forget_statements(connection: Any, *_arguments: object) -> None:
    """Make the server forget them before a tenth of the statements, without psycopg's knowledge, as behind a proxy."""
    driver = connection.connection.dbapi_connection
    if _random.random() < 0.1:
        is_idle = driver.info.transaction_status == pq.TransactionStatus.IDLE
        command = _random.choice([b"DISCARD ALL", b"DEALLOCATE ALL"]) if is_idle else b"DEALLOCATE ALL"
        forgotten.append(driver.pgconn.exec_(command).status == pq.ExecStatus.COMMAND_OK)


_random = random.Random(1)  # noqa: S311 not for cryptography
forgotten: list[bool] = []


def execute(database: Database, key: str, *, autocommit: bool) -> None:
    """Sign up one mailbox between two reads, with a deadline."""

    def work(session: Session) -> None:
        assert session.scalar(text("SELECT CAST(:n AS int) + 1"), {"n": 1}) == 2
        if not (autocommit and RegistrationRepository(session).find_by_email(f"{key}@example.com")):
            RegistrationRepository(session).register(f"{key}@example.com")
        assert session.scalar(text("SELECT CAST(:t AS text) || '!'"), {"t": key}) == f"{key}!"

    with deadline(10):
        database.run(work, autocommit=autocommit, idempotent=autocommit)


@pytest.mark.parametrize("autocommit", [False, True])
def test_forgotten_statements_fail_and_double_nothing(
    registration_environment: RegistrationEnvironment, *, autocommit: bool
) -> None:
    """Each statement is executed once, whether the session forgets before a unit of work or within one."""
    database = Database(registration_environment.settings(APP_DATABASE_POOL="service", APP_DATABASE_POOL_SIZE="3"))
    forgotten.clear()
    event.listen(database.engine, "before_cursor_execute", forget_statements)
    failures: list[Exception] = []

    def load(thread: int) -> None:
        for number in range(UNITS):
            try:
                execute(database, f"{thread}-{number}", autocommit=autocommit)
            except Exception as error:  # noqa: BLE001 any error is a failed request
                failures.append(error)

    threads = [Thread(target=load, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == failures
    assert all(forgotten)
    assert len(forgotten) > THREADS * UNITS / 10
    assert {f"{thread}-{number}": 1 for thread in range(THREADS) for number in range(UNITS)} == rows_by_key(
        registration_environment
    )
    database.dispose()
