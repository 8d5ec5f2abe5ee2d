"""`proxy` mode behind PgBouncer in transaction mode, which is stricter than RDS Proxy: it fails instead of pinning."""

import os
import random
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from resilience.outcomes import assert_exact, failures, handler, rows_by_key, run_all
from sqlalchemy import event, text
from support import OneLossProxy

from registration_persistence import Database, RegistrationRepository
from registration_persistence.database.connection import BoundedConnection
from registration_persistence.errors import CommitOutcomeUnknown
from registration_persistence.outcomes import Replayed
from registration_persistence.sandbox import wait_until
from registration_persistence.sandbox.ports import free_port
from registration_persistence.testing import RegistrationEnvironment, StartLambda, skip_or_fail

UNITS = 10_000
PROCESSES = 4
_NOBODY = 65534


@contextmanager
def open_pooler(environment: RegistrationEnvironment, folder: Path) -> Iterator[int]:
    """Run PgBouncer with three server connections for the service's database, and yield its port."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        skip_or_fail("PgBouncer is not installed: install the package pgbouncer")
    secret = environment.secrets_manager.read(environment.arn)
    server, port = environment.server, free_port()
    (folder / "users.txt").write_text(f'"{secret["username"]}" "{secret["password"]}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{environment.name} = host={server.host} port={server.port}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        # These tests need no password, and a login without one is faster.
        f"auth_type = trust\nauth_file = {folder}/users.txt\n"
        # Only a service that does not know about the pooler sends startup options.
        "ignore_startup_parameters = options\n"
        "pool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 100\nserver_tls_sslmode = disable\n"
        f"logfile = {folder}/log\n"
    )
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:
        identity = {"user": _NOBODY, "group": _NOBODY}
        for path in (folder, *folder.iterdir()):
            os.chown(path, _NOBODY, _NOBODY)
    process = subprocess.Popen(
        [program, "-q", folder / "pgbouncer.ini"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **identity
    )
    try:
        wait_until(lambda: accepts_logins(port, secret, environment.name), "PgBouncer accepts logins", timeout=20)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def accepts_logins(port: int, secret: dict[str, str], name: str) -> bool:
    """Return whether the pooler accepts the login of *secret*."""
    try:
        psycopg.connect(
            host="127.0.0.1", port=port, user=secret["username"], password=secret["password"], dbname=name
        ).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def pooler(registration_environment: RegistrationEnvironment) -> Iterator[dict[str, str]]:
    """The variables with which a service reaches its database through PgBouncer."""
    folder = Path("/tmp") / f"registration-pooler-{secrets.token_hex(4)}"  # noqa: S108 other users cannot read the folders of pytest
    folder.mkdir()
    with open_pooler(registration_environment, folder) as port:
        yield {"APP_DATABASE_PORT": str(port), "APP_DATABASE_POOL": "proxy"}
    shutil.rmtree(folder)


@pytest.mark.nightly
def test_ten_thousand_units_without_an_error(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda, pooler: dict[str, str]
) -> None:
    """Four processes share three server connections, and none sees session state of another."""
    processes = [lambda_process(handler("units"), environment=pooler, timeout=300) for _ in range(PROCESSES)]
    for process in processes:
        process.wait_ready()
    for process in processes:
        process.start({"name": process.name, "units": UNITS // PROCESSES})
    results = run_all(processes)

    assert UNITS == sum(result["units"] for result in results)
    assert [] == failures(results)
    assert_exact(registration_environment, results)
    with registration_environment.connect() as connection:
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_no_state_stays_in_the_servers_session(
    registration_environment: RegistrationEnvironment, pooler: dict[str, str]
) -> None:
    """After every kind of session, there is no prepared statement, startup option, setting or lock."""
    database = Database(registration_environment.settings(**pooler))
    query = (
        "SELECT (SELECT count(*) FROM pg_prepared_statements),"
        " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),"
        " current_setting('statement_timeout'), current_setting('default_transaction_read_only'),"
        " current_setting('transaction_isolation')"
    )
    seen = set()
    for number in range(12):
        with database.session(**[{}, {"autocommit": True}, {"read_only": True}][number % 3]) as session:
            for _ in range(7):
                RegistrationRepository(session).find_by_email("ada@example.com")
        with database.session() as session:
            seen.add(tuple(session.execute(text(query)).one()))

    assert seen == {(0, 0, "0", "off", "read committed")}
    first = database.run(lambda session: RegistrationRepository(session).register("a@example.com", idempotency_key="a"))
    again = database.run(lambda session: RegistrationRepository(session).register("a@example.com", idempotency_key="a"))
    assert isinstance(again, Replayed)
    assert first.registration.id == again.registration.id


def test_prepared_statements_survive_a_change_of_the_servers_session(
    registration_environment: RegistrationEnvironment, pooler: dict[str, str]
) -> None:
    """If statements are prepared behind a pooler, each one that the assigned session does not have is sent again."""
    env = registration_environment
    secret = env.secrets_manager.read(env.arn)
    connections = [
        BoundedConnection[Any].connect(
            host="127.0.0.1",
            port=int(pooler["APP_DATABASE_PORT"]),
            dbname=env.name,
            user=secret["username"],
            password=secret["password"],
            autocommit=True,
        )
        for _ in range(6)
    ]
    for number in range(120):
        for autocommit in (True, False):
            connection = random.choice(connections)  # noqa: S311 not for cryptography
            connection.autocommit = autocommit
            for query in (f"SELECT %s::int + {number % 3}", "SELECT %s::int"):
                assert connection.execute(query, [1], prepare=number > 20 or None).rowcount == 1
                connection.commit()
    for connection in connections:
        connection.close()


def test_a_pooler_that_nobody_declared_invents_no_outcome(
    registration_environment: RegistrationEnvironment, pooler: dict[str, str]
) -> None:
    """The process id of the session is the pooler's, so that no session with this id shows that ours has ended."""
    with OneLossProxy("127.0.0.1", int(pooler["APP_DATABASE_PORT"])) as proxy:
        here = {"APP_DATABASE_PORT": str(proxy.port), "APP_DATABASE_POOL": "lambda"}
        database = Database(registration_environment.settings(**here))
        with pytest.raises(CommitOutcomeUnknown, match="a pooler is between"), database.session() as session:
            RegistrationRepository(session).register("ada@example.com")
            event.listen(session, "before_commit", lambda _session: proxy.lose_next_reply(), once=True)
        database.dispose()

    assert rows_by_key(registration_environment) == {"ada": 1}
