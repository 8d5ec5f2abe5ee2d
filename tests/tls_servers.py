"""A PostgreSQL server with TLS."""

from collections.abc import Iterator
from contextlib import contextmanager

import trustme
from server_versions import system_programs

from registration_persistence.sandbox import LocalPostgres, PostgresServer
from registration_persistence.testing import skip_or_fail

TLS_ONLY = "hostssl all all 127.0.0.1/32 scram-sha-256\n"
WITH_OR_WITHOUT_TLS = "host all all 127.0.0.1/32 scram-sha-256\n"


@contextmanager
def tls_server(issued: trustme.LeafCert, hba: str) -> Iterator[PostgresServer]:
    """Start the PostgreSQL of the system, because the embedded one has no TLS; *hba* is its `pg_hba.conf`."""
    binaries = system_programs()
    if binaries is None:
        skip_or_fail("the system has no PostgreSQL server with TLS: install the package postgresql")
    settings = {"ssl": "on", "ssl_cert_file": "tls.crt", "ssl_key_file": "tls.key"}
    files = {"tls.crt": issued.cert_chain_pems[0].bytes(), "tls.key": issued.private_key_pem.bytes()}
    with LocalPostgres(binaries, settings=settings, hba=hba, files=files, in_memory=True) as local:
        yield local.server
