"""The clients of `outages.py`: plain psycopg with a retry loop, AWS's Advanced Python Wrapper, and this package.

Each runs in its own process, `python outage_clients.py NAME OPTIONS`, in which OPTIONS is a JSON object. It stores rows
one after the other, each in a transaction of its own, and prints the time of each stored row. Only the client of this
package imports it, so that the wrapper can run in an environment of its own.
"""

import json
import math
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from importlib import import_module
from typing import Any, Protocol

INSERT = "INSERT INTO outage_rows (key) VALUES (%s) ON CONFLICT DO NOTHING"
UNIT_SECONDS = 20.0
_PAUSE_SECONDS, _PAUSE_AFTER_FAILURE_SECONDS = 0.005, 0.1


class Client(Protocol):
    """Stores rows."""

    def prepare(self) -> None:
        """Import everything, without a connection."""

    def store(self, key: str) -> None:
        """Store a row, and wait for the database until the deadline of the unit of work."""

    def forget(self) -> None:
        """Forget the secret and the connection, like a process that starts."""


class PlainPsycopg:
    """A service without a library: a connection, a cached secret, and a loop that tries again."""

    _PAUSE_SECONDS = 0.2
    # The server is unreachable, starts up, is full, is read-only, or has ended the session.
    _RETRYABLE = ("08", "25006", "40", "53", "55P03", "57")

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._connection: Any = None
        self._secret: dict[str, str] | None = None
        self._client: Any = None

    def prepare(self) -> None:
        """Import psycopg."""
        import psycopg  # noqa: F401 the import takes time

    def store(self, key: str) -> None:
        """Store a row; after a temporary failure, close the connection and try again."""
        import psycopg

        end = time.monotonic() + UNIT_SECONDS
        while True:
            try:
                connection = self._connected()
                with connection.transaction():
                    connection.execute(INSERT, [key])
            except Exception as error:
                if self._connection is not None:
                    with suppress(psycopg.Error):
                        self._connection.close()
                    self._connection = None
                if not self._is_temporary(error) or time.monotonic() > end:
                    raise
                time.sleep(self._PAUSE_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311 not for cryptography
            else:
                return

    def forget(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._secret = self._client = None

    def _connected(self) -> Any:
        import psycopg

        if self._connection is None:
            user, password = self._login()
            self._connection = psycopg.connect(
                host=self._options["host"],
                port=self._options["port"],
                dbname="postgres",
                user=user,
                password=password,
                connect_timeout=2,
                keepalives_idle=5,
                tcp_user_timeout=5000,
                target_session_attrs="read-write",
                autocommit=True,
            )
        return self._connection

    def _login(self) -> tuple[str, str]:
        if "arn" not in self._options:
            return self._options["user"], self._options["password"]
        if self._secret is None:
            answer = self._secrets_manager().get_secret_value(SecretId=self._options["arn"])
            self._secret = json.loads(answer["SecretString"])
        return self._secret["username"], self._secret["password"]

    def _secrets_manager(self) -> Any:
        if self._client is None:
            import boto3
            from botocore.config import Config

            self._client = boto3.client(
                "secretsmanager",
                region_name="eu-west-1",
                config=Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1}),
            )
        return self._client

    def _is_temporary(self, error: Exception) -> bool:
        import psycopg
        from botocore.exceptions import BotoCoreError, ClientError

        if isinstance(error, psycopg.Error):
            return error.sqlstate is None or error.sqlstate.startswith(self._RETRYABLE)
        return isinstance(error, BotoCoreError | ClientError)


class Wrapper:
    """AWS's Advanced Python Wrapper with the plugins for Aurora and short intervals, and the loop that it documents."""

    _PAUSE_SECONDS = 0.1

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._connection: Any = None

    def prepare(self) -> None:
        """Import the wrapper."""
        _wrapper_module("wrapper")

    def store(self, key: str) -> None:
        """Store a row; repeat the transaction if the wrapper says that it has another connection."""
        from psycopg import Error as DriverError

        errors = _wrapper_module("errors")
        repeatable = (errors.FailoverSuccessError, errors.TransactionResolutionUnknownError)
        end = time.monotonic() + UNIT_SECONDS
        while True:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                with closing(self._connection.cursor()) as cursor:
                    cursor.execute(INSERT, [key])
                self._connection.commit()
            except repeatable:
                continue
            except (_wrapper_module("pep249").Error, DriverError):
                with suppress(Exception):
                    self._connection.close()
                self._connection = None
                if self._options.get("arn") or time.monotonic() > end:
                    raise
                time.sleep(self._PAUSE_SECONDS)
            else:
                return

    def forget(self) -> None:
        """Close the connection, and clear the cache of the secrets."""
        if self._connection is not None:
            with suppress(Exception):
                self._connection.close()
        self._connection = None
        _wrapper_module("utils.services_container").get_storage_service().clear_all()

    def _connect(self) -> Any:
        import psycopg

        options = self._options
        login: dict[str, Any]
        if "arn" in options:
            plugins = "aws_secrets_manager"
            login = {
                "secrets_manager_secret_id": options["arn"],
                "secrets_manager_region": "eu-west-1",
                "secrets_manager_endpoint": os.environ["AWS_ENDPOINT_URL_SECRETS_MANAGER"],
                "wrapper_dialect": "pg",
            }
        else:
            login = {
                "user": options["user"],
                "password": options["password"],
                "wrapper_dialect": "aurora-pg" if "instances" in options else "pg",
                "cluster_instance_host_pattern": "127.0.0.?",
                "cluster_topology_high_refresh_rate_ms": 100,
                "failover_timeout_sec": 15,
            }
            plugins = "failover_v2" if "instances" in options else ""
        connection = _wrapper_module("wrapper").AwsWrapperConnection.connect(
            psycopg.Connection.connect,
            host=options["host"],
            port=options["port"],
            dbname="postgres",
            plugins=plugins,
            connect_timeout=2,
            **login,
        )
        connection.autocommit = False
        return connection


def _wrapper_module(name: str) -> Any:
    """Return a module of the wrapper, which is not installed where this file is checked."""
    return import_module(f"aws_advanced_python_wrapper.{name}")


class ThisPackage:
    """`Database.run` with a deadline."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._database: Any = None

    def prepare(self) -> None:
        """Create the database, which opens no connection."""
        self._database = self._new_database()

    def store(self, key: str) -> None:
        """Store a row."""
        from sqlalchemy import text

        from registration_persistence import deadline

        insert = text(INSERT.replace("%s", ":key")).bindparams(key=key)
        self._database = self._database or self._new_database()
        with deadline(UNIT_SECONDS):
            self._database.run(lambda session: session.execute(insert), idempotent=True)

    def forget(self) -> None:
        """Close the connection."""
        if self._database is not None:
            self._database.dispose()
        self._database = None

    def _new_database(self) -> Any:
        from registration_persistence import Database, DatabaseSettings

        options = self._options
        login = (
            {"secret_arn": options["arn"]}
            if "arn" in options
            else {"user": options["user"], "password": options["password"]}
        )
        settings = DatabaseSettings(
            environment="test",
            host=options["host"],
            port=options["port"],
            name="postgres",
            sslmode="prefer",
            pool="lambda",
            **login,
        )
        return Database(settings)


CLIENTS: dict[str, Callable[[dict[str, Any]], Client]] = {
    "package": ThisPackage,
    "wrapper": Wrapper,
    "psycopg": PlainPsycopg,
}


def main() -> None:
    """Store rows, and print the time of each as JSON."""
    name, options = sys.argv[1], json.loads(sys.argv[2])
    client = CLIENTS[name](options)
    client.prepare()
    if not options.get("waits"):
        client.store(f"{options['prefix']}-first")
    print("ready", flush=True)
    sys.stdin.readline()
    stored, failed, error = [time.monotonic()], 0, ""
    end, units = stored[0] + options["seconds"], 0
    while time.monotonic() < end and units < options.get("units", math.inf):
        units += 1
        if options.get("cold"):
            client.forget()
        try:
            client.store(f"{options['prefix']}-{units}")
        except Exception as failure:  # noqa: BLE001 every failure is reported
            failed, error = failed + 1, f"{type(failure).__name__}: {failure}"[:300]
            time.sleep(_PAUSE_AFTER_FAILURE_SECONDS)
        else:
            stored.append(time.monotonic())
            time.sleep(_PAUSE_SECONDS)
    print(json.dumps({"stored": stored, "units": units, "failed": failed, "error": error}), flush=True)
    sys.stdin.readline()  # the connection stays open until the parent process ends this one


if __name__ == "__main__":
    main()
