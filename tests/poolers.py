"""PgBouncer in transaction mode, in front of a server."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from registration_persistence.sandbox import PostgresServer, wait_until
from registration_persistence.sandbox.ports import free_port
from registration_persistence.testing import skip_or_fail

_NOBODY = 65534


@contextmanager
def open_pgbouncer(server: PostgresServer, name: str, folder: Path, *, options: str = "") -> Iterator[int]:
    """Run PgBouncer with three server connections, and yield its port.

    Args:
        server: The server, with the login of the clients.
        name: The name of the database.
        folder: An empty folder for the files of PgBouncer.
        options: Further lines of the configuration.
    """
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        skip_or_fail("PgBouncer is not installed: install the package pgbouncer")
    port = free_port()
    (folder / "users.txt").write_text(f'"{server.user}" "{server.password}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{name} = host={server.host} port={server.port}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        # These tests need no password, and a login without one is faster.
        f"auth_type = trust\nauth_file = {folder}/users.txt\n"
        # Only a service that does not know about the pooler sends startup options.
        "ignore_startup_parameters = options\n"
        "pool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 100\nserver_tls_sslmode = disable\n"
        f"logfile = {folder}/log\n{options}"
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
        wait_until(lambda: _accepts_logins(port, server, name), "PgBouncer accepts logins", timeout=20)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _accepts_logins(port: int, server: PostgresServer, name: str) -> bool:
    try:
        psycopg.connect(host="127.0.0.1", port=port, user=server.user, password=server.password, dbname=name).close()
    except psycopg.OperationalError:
        return False
    return True
