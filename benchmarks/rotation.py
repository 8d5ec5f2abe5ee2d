"""Units of work that fail while the secret rotates: this package, and SQLAlchemy with pre-ping.

Each contender has a secret of its own, which is rotated once. Units of work run in the rotation window, in which the
server expects the new password and AWSCURRENT is still the old one, and after it. Every fifth unit needs a new
connection, as if the server had closed an idle one. The results are counts, which are the same on every machine.

Run it with `python benchmarks/rotation.py`.
"""

import json
import os
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from aws_secretsmanager_caching import SecretCache
from boto3.session import Session
from sqlalchemy import URL, Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from registration_persistence import Database, DatabaseSettings, RegistrationPersistenceError
from registration_persistence.sandbox import LocalCluster, LocalSecretsManager, rotate

UNITS = 200
RECONNECT_EVERY = 5
_REGION = "eu-west-1"


@dataclass(frozen=True, slots=True)
class Place:
    """The database and the secret of a contender."""

    cluster: LocalCluster
    manager: LocalSecretsManager
    arn: str

    def url(self) -> URL:
        """Return the URL for plain SQLAlchemy, without a login."""
        return URL.create("postgresql+psycopg", host="127.0.0.1", port=self.cluster.endpoint.port, database="postgres")


def this_package(place: Place) -> Engine:
    """Return the engine of this package's `Database`, configured with the ARN of the secret."""
    settings = DatabaseSettings(
        environment="test",
        host="127.0.0.1",
        port=place.cluster.endpoint.port,
        name="postgres",
        secret_arn=place.arn,
        sslmode="prefer",
        pool="lambda",
    )
    return Database(settings).engine


def password_at_the_start(place: Place) -> Engine:
    """Return SQLAlchemy with pre-ping, and with the password that the secret had when the engine was created."""
    value = place.manager.read(place.arn)
    return create_engine(place.url().set(username=value["username"], password=value["password"]), pool_pre_ping=True)


def password_from_the_cache(place: Place) -> Engine:
    """Return SQLAlchemy with pre-ping, and with the password of `aws-secretsmanager-caching` for each connection."""
    engine = create_engine(place.url(), pool_pre_ping=True)
    cache = SecretCache(client=Session(region_name=_REGION).client("secretsmanager"))

    def provide(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        value = json.loads(cache.get_secret_string(place.arn))
        parameters.update(user=value["username"], password=value["password"])

    event.listen(engine, "do_connect", provide)
    return engine


def failed_units(engine: Engine) -> int:
    """Run units of work, and return the number of failures."""
    failed = 0
    for number in range(UNITS):
        if number % RECONNECT_EVERY == 0:
            engine.dispose()
        try:
            with engine.begin() as connection:
                connection.execute(text("SELECT 1"))
        except (SQLAlchemyError, RegistrationPersistenceError):
            failed += 1
    return failed


def measure(contender: Callable[[Place], Engine], cluster: LocalCluster, manager: LocalSecretsManager) -> list[int]:
    """Return the numbers of failures in the window and after it, and the number of calls to Secrets Manager."""
    server, name, password = cluster.primary.server, f"unit_{secrets.token_hex(4)}", secrets.token_urlsafe()
    server.create_login(name, password)
    arn = manager.create(name, {"username": name, "password": password})
    manager.forget_calls()
    engine = contender(Place(cluster, manager, arn))
    if failed_units(engine):
        raise SystemExit(f"{contender.__name__} does not work at all")
    in_the_window: list[int] = []
    rotate(server, manager, arn, pause_in_window=lambda: in_the_window.append(failed_units(engine)))
    after = failed_units(engine)
    engine.dispose()
    return [*in_the_window, after, manager.calls.total()]


def main() -> None:
    """Print one line for each contender."""
    with ExitStack() as stack:
        cluster = stack.enter_context(LocalCluster())
        manager = stack.enter_context(LocalSecretsManager())
        os.environ.update(manager.environment)  # the SDK of every contender reads these
        print(f"failed units, of {UNITS} each           in the window   after it   calls to Secrets Manager")
        for contender in (this_package, password_from_the_cache, password_at_the_start):
            window, after, calls = measure(contender, cluster, manager)
            print(f"{contender.__name__.replace('_', ' '):32} {window:15} {after:10} {calls:26}")
            if contender is this_package and (window or after):
                raise SystemExit("a unit of work failed in a rotation")


if __name__ == "__main__":
    main()
