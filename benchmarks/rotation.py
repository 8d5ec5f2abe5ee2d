"""Counts the units of work that fail while the secret rotates, with this package and with SQLAlchemy and pre-ping.

Each contender has its own secret, which is rotated once. Units of work run during the rotation window, in which the
server wants the new password, but AWSCURRENT is still the old one. More units run after the rotation. Every fifth unit
needs a new connection, as if the server had closed the idle one. The results are counts, not times, so they are equal
on every machine.

`part_rotation.py` runs it.
"""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aws_secretsmanager_caching import SecretCache
from boto3.session import Session
from sqlalchemy import URL, Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from registration_persistence import Database, DatabaseSettings, RegistrationPersistenceError
from registration_persistence.sandbox import LocalCluster, LocalSecretsManager, rotate

RECONNECT_EVERY = 5
_REGION = "eu-west-1"


@dataclass(frozen=True, slots=True)
class ContenderEnvironment:
    """The database and the secret of a contender."""

    cluster: LocalCluster
    manager: LocalSecretsManager
    arn: str

    def url(self) -> URL:
        """Return the URL for SQLAlchemy, without user and password."""
        return URL.create("postgresql+psycopg", host="127.0.0.1", port=self.cluster.endpoint.port, database="postgres")


def this_package(environment: ContenderEnvironment) -> Engine:
    """Return the engine of a `Database` with the ARN of the secret."""
    settings = DatabaseSettings(
        environment="test",
        host="127.0.0.1",
        port=environment.cluster.endpoint.port,
        name="postgres",
        secret_arn=environment.arn,
        sslmode="prefer",
        pool="lambda",
    )
    return Database(settings).engine


def password_at_the_start(environment: ContenderEnvironment) -> Engine:
    """Return an engine with pre-ping and with the password that the secret holds now."""
    value = environment.manager.read(environment.arn)
    return create_engine(
        environment.url().set(username=value["username"], password=value["password"]), pool_pre_ping=True
    )


def password_from_the_cache(environment: ContenderEnvironment) -> Engine:
    """Return an engine with pre-ping that asks `aws-secretsmanager-caching` for the password of each connection."""
    engine = create_engine(environment.url(), pool_pre_ping=True)
    cache = SecretCache(client=Session(region_name=_REGION).client("secretsmanager"))

    def provide(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        value = json.loads(cache.get_secret_string(environment.arn))
        parameters.update(user=value["username"], password=value["password"])

    event.listen(engine, "do_connect", provide)
    return engine


def failed_units(engine: Engine, units: int) -> int:
    """Run *units* units of work, and return the number that failed."""
    failed = 0
    for number in range(units):
        if number % RECONNECT_EVERY == 0:
            engine.dispose()
        try:
            with engine.begin() as connection:
                connection.execute(text("SELECT 1"))
        except (SQLAlchemyError, RegistrationPersistenceError):
            failed += 1
    return failed


def count_failed_units(
    contender: Callable[[ContenderEnvironment], Engine],
    cluster: LocalCluster,
    manager: LocalSecretsManager,
    units: int,
) -> list[int]:
    """Return the failed units in the window, the failed units after it, and the calls to Secrets Manager."""
    server, name, password = cluster.primary.server, f"unit_{secrets.token_hex(4)}", secrets.token_urlsafe()
    server.create_login(name, password)
    arn = manager.create(name, {"username": name, "password": password})
    manager.forget_calls()
    engine = contender(ContenderEnvironment(cluster, manager, arn))
    if failed_units(engine, units):
        raise SystemExit(f"{contender.__name__} fails without a rotation: expected 0 failed units")
    in_the_window: list[int] = []
    rotate(server, manager, arn, pause_in_window=lambda: in_the_window.append(failed_units(engine, units)))
    after = failed_units(engine, units)
    engine.dispose()
    return [*in_the_window, after, manager.calls.total()]


CONTENDERS = (this_package, password_from_the_cache, password_at_the_start)
