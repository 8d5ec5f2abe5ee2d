"""A cold start: a process that imports a library, reads a secret, connects, and reads its first result.

`bench.py` starts it as `python cold_clients.py CLIENT`, with `BENCH_*`, `APP_*` and `AWS_*` in the environment. It
prints the number of modules and the processor time as JSON when it has the result, and keeps the connection open until
its input ends. It imports no more than the client needs.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

SELECT = "SELECT 1"

Report = Callable[[object], None]


def package(report: Report) -> None:
    """Use this package like a service that makes one repository call."""
    from sqlalchemy import text

    from registration_persistence import get_db

    get_db().run(lambda connection: report(connection.execute(text(SELECT)).scalar()), single=True)


def package_session(report: Report) -> None:
    """Use this package like a service with a session."""
    from sqlalchemy import text

    from registration_persistence import get_db

    with get_db().session(autocommit=True) as session:
        report(session.execute(text(SELECT)).scalar())


def naive(report: Report) -> None:
    """Read the secret with boto3, and use a session of SQLAlchemy."""
    _select_with_session(_secret_of_boto3(), report)


def naive_core(report: Report) -> None:
    """Read the secret with boto3, and use a connection of SQLAlchemy."""
    from sqlalchemy import create_engine, text

    with create_engine(_url("postgresql+psycopg", _secret_of_boto3())).connect() as connection:
        report(connection.execute(text(SELECT)).scalar())


def naive_cache(report: Report) -> None:
    """Read the secret with aws-secretsmanager-caching, and use a session of SQLAlchemy."""
    import boto3
    from aws_secretsmanager_caching import SecretCache

    cache = SecretCache(client=boto3.client("secretsmanager", region_name=os.environ["AWS_REGION"]))
    _select_with_session(json.loads(cache.get_secret_string(os.environ["APP_DATABASE_SECRET_ARN"])), report)


def wrapper(report: Report) -> None:
    """Use AWS's Advanced Python Wrapper with its plugin for the secret, and a session of SQLAlchemy."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.orm import Session

    arguments = {
        "plugins": "aws_secrets_manager",
        "secrets_manager_secret_id": os.environ["APP_DATABASE_SECRET_ARN"],
        "secrets_manager_region": os.environ["AWS_REGION"],
        "secrets_manager_endpoint": os.environ["AWS_ENDPOINT_URL_SECRETS_MANAGER"],
        "wrapper_dialect": "pg",
    }
    engine = create_engine(_url("postgresql+aws_wrapper_psycopg", {}), connect_args=arguments)
    with Session(engine) as session:
        report(session.execute(text(SELECT)).scalar())


def raw(report: Report) -> None:
    """Use psycopg with a password that is known already: the floor."""
    import psycopg

    with psycopg.connect(autocommit=True, **_address(), **_known_login()) as connection:
        report((connection.execute(SELECT).fetchone() or [None])[0])


def raw_import(report: Report) -> None:
    """Only import psycopg, and do not connect."""
    import psycopg

    report(bool(psycopg.__version__) and 1)


def package_import(report: Report) -> None:
    """Only import this package, and do not connect."""
    import registration_persistence

    report(bool(registration_persistence.__all__) and 1)


def nothing(report: Report) -> None:
    """Start the interpreter."""
    report(1)


CLIENTS: dict[str, Callable[[Report], None]] = {
    client.__name__: client
    for client in (
        package,
        package_session,
        naive,
        naive_core,
        naive_cache,
        wrapper,
        raw,
        raw_import,
        package_import,
        nothing,
    )
}


def _secret_of_boto3() -> dict[str, Any]:
    import boto3

    client = boto3.client("secretsmanager", region_name=os.environ["AWS_REGION"])
    value: dict[str, Any] = json.loads(
        client.get_secret_value(SecretId=os.environ["APP_DATABASE_SECRET_ARN"])["SecretString"]
    )
    return value


def _select_with_session(secret: dict[str, Any], report: Report) -> None:
    from sqlalchemy import create_engine, text
    from sqlalchemy.orm import Session

    with Session(create_engine(_url("postgresql+psycopg", secret))) as session:
        report(session.execute(text(SELECT)).scalar())


def _url(driver: str, secret: dict[str, Any]) -> Any:
    from sqlalchemy import URL

    address = _address()
    host, port, name = address.pop("host"), int(address.pop("port")), address.pop("dbname")
    return URL.create(driver, secret.get("username"), secret.get("password"), host, port, name, query=address)


def _address() -> dict[str, Any]:
    address = {
        "host": os.environ["APP_DATABASE_HOST"],
        "port": os.environ["APP_DATABASE_PORT"],
        "dbname": os.environ["APP_DATABASE_NAME"],
        "sslmode": os.environ["APP_DATABASE_SSLMODE"],
    }
    if os.environ.get("APP_DATABASE_SSL_ROOT_CERT"):
        address["sslrootcert"] = os.environ["APP_DATABASE_SSL_ROOT_CERT"]
    return address


def _known_login() -> dict[str, Any]:
    return {"user": os.environ["BENCH_USER"], "password": os.environ["BENCH_PASSWORD"]}


def _report(result: object) -> None:
    """Print the counts of this process, and end it when the parent process has read its own counts."""
    if result != 1:
        raise SystemExit(f"the first result is {result!r}: expected 1")
    print(json.dumps({"modules": len(sys.modules), "cpu": time.process_time()}), flush=True)
    sys.stdin.readline()
    os._exit(0)  # the end of the process is not part of a cold start


if __name__ == "__main__":
    CLIENTS[sys.argv[1]](_report)
