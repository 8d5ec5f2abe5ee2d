"""The PostgreSQL servers of the benchmarks: with TLS, a CA of their own, and SCRAM."""

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from registration_persistence.sandbox import LocalPostgres, PostgresServer, embedded_binaries, system_binaries

_USER = "app"
_VERSIONS = range(15, 19)

CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS bench_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
GRANT ALL ON bench_rows TO {user};
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL server with a login.

    Args:
        version: Major version.
        server: Address and superuser.
        user: Name of the login.
        password: Password of the login.
        certificate: Path of the CA's certificate; `None` if the server has no TLS.
    """

    version: int
    server: PostgresServer
    user: str
    password: str
    certificate: Path | None

    @property
    def title(self) -> str:
        """The version, and whether the connections have TLS."""
        return f"PostgreSQL {self.version}" + ("" if self.certificate else " without TLS")

    def variables(self, port: int | None = None) -> dict[str, str]:
        """Return the variables of a client, with another *port* if there is a proxy."""
        encrypted = {"APP_DATABASE_SSLMODE": "verify-full", "APP_DATABASE_SSL_ROOT_CERT": str(self.certificate)}
        return {
            "APP_ENVIRONMENT": "test",
            "APP_DATABASE_HOST": "localhost" if self.certificate else "127.0.0.1",
            "APP_DATABASE_PORT": str(port or self.server.port),
            "APP_DATABASE_NAME": "postgres",
            "APP_DATABASE_POOL": "lambda",
            "BENCH_USER": self.user,
            "BENCH_PASSWORD": self.password,
            **(encrypted if self.certificate else {"APP_DATABASE_SSLMODE": "disable"}),
        }


@contextmanager
def open_server(binaries: Path, *, encrypted: bool = True) -> Iterator[Server]:
    """Start the PostgreSQL in *binaries* with a login, its own CA and SCRAM."""
    with ExitStack() as stack:
        certificate, settings, files = None, {}, {}
        if encrypted:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            authority = trustme.CA()
            certificate = folder / "ca.pem"
            authority.cert_pem.write_to_path(str(certificate))
            issued = authority.issue_cert("localhost", "127.0.0.1")
            settings = {"ssl": "on", "ssl_cert_file": "tls.crt", "ssl_key_file": "tls.key"}
            files = {"tls.crt": issued.cert_chain_pems[0].bytes(), "tls.key": issued.private_key_pem.bytes()}
        local = stack.enter_context(LocalPostgres(binaries, settings=settings, files=files))
        password = secrets.token_urlsafe(16)
        local.server.create_login(_USER, password)
        with local.server.connect() as connection:
            connection.execute(CREATE_TABLE.format(user=_USER).encode())
            version = connection.info.server_version // 10_000
        yield Server(version, local.server, _USER, password, certificate)


def binaries_with_tls() -> list[Path]:
    """Return the folders of PostgreSQL's programs with TLS, oldest first: of the system, and of `BENCH_POSTGRES`.

    `BENCH_POSTGRES` has further folders with `initdb`, separated by colons.
    """
    named = [Path(folder) for folder in os.environ.get("BENCH_POSTGRES", "").split(":") if folder]
    found = [folder for version in _VERSIONS if (folder := system_binaries(version)) is not None]
    return [*found, *named]


def newest_binaries() -> tuple[Path, bool]:
    """Return the newest PostgreSQL with TLS, or else the embedded one, and whether it has TLS."""
    found = binaries_with_tls()
    if found:
        return found[-1], True
    print(
        "the system has no PostgreSQL with TLS: measured without TLS; install the package postgresql", file=sys.stderr
    )
    return embedded_binaries(), False


def base_environment() -> dict[str, str]:
    """Return the variables that every client needs."""
    kept = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "HOME": os.devnull,
        "PYTHONHASHSEED": "0",
    }
