"""Part `rotation`: the failed units of a rotation, and the time from a rejected login to a working connection."""

import json
import os
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from aws_secretsmanager_caching import SecretCache
from boto3.session import Session
from measurements import Measurement, skip
from part_warm import environment
from rotation import CONTENDERS, ContenderEnvironment, count_failed_units, this_package
from sqlalchemy import Engine, create_engine, event, text

from registration_persistence.sandbox import LocalCluster, LocalSecretsManager

_REGION = "eu-west-1"
_SECOND_ROTATION_WITHIN_SECONDS = 0.5
FIRST, SECOND = "rejected login", "second rejected login within 0.5 s"


@dataclass(frozen=True, slots=True)
class Login:
    """A contender's environment, and the password that it expects."""

    environment: ContenderEnvironment
    name: str

    def change(self) -> None:
        """Change the password on the server, and in the secret at once."""
        password = secrets.token_urlsafe()
        self.environment.cluster.primary.server.create_login(self.name, password)
        self.environment.manager.put(self.environment.arn, {"username": self.name, "password": password})


def cached_secret(environment: ContenderEnvironment) -> Engine:
    """Return an engine that refreshes `aws-secretsmanager-caching` after a rejected login."""
    engine = create_engine(environment.url())
    cache = SecretCache(client=Session(region_name=_REGION).client("secretsmanager"))

    def connect(dialect: Any, _record: Any, arguments: Any, parameters: dict[str, Any]) -> Any:
        for attempt in range(2):
            value = json.loads(cache.get_secret_string(environment.arn))
            parameters.update(user=value["username"], password=value["password"])
            try:
                return dialect.connect(*arguments, **parameters)
            except dialect.dbapi.OperationalError:
                if attempt:
                    raise
                cache.refresh_secret_now(environment.arn)
        return None

    event.listen(engine, "do_connect", connect)
    return engine


def wrapper(environment: ContenderEnvironment) -> Engine:
    """Return an engine with AWS's Advanced Python Wrapper and its plugin for the secret."""
    arguments = {
        "plugins": "aws_secrets_manager",
        "secrets_manager_secret_id": environment.arn,
        "secrets_manager_region": _REGION,
        "secrets_manager_endpoint": os.environ["AWS_ENDPOINT_URL_SECRETS_MANAGER"],
        "wrapper_dialect": "pg",
    }
    return create_engine(environment.url().set(drivername="postgresql+aws_wrapper_psycopg"), connect_args=arguments)


def candidates(*, slow: bool) -> dict[str, Callable[[ContenderEnvironment], Engine]]:
    """Return the candidates that are installed, and that find the new password; *slow* ones take seconds."""
    found: dict[str, Callable[[ContenderEnvironment], Engine]] = {"this package": this_package}
    if slow:
        found["aws-secretsmanager-caching, refreshed"] = cached_secret
    if find_spec("aws_advanced_python_wrapper"):
        return {**found, "AWS wrapper": wrapper}
    skip("aws-advanced-python-wrapper: it is not installed")
    return found


def measure(runs: int, *, units: int) -> tuple[list[Measurement], list[str]]:
    """Return the measurements, and the versions of the servers."""
    with ExitStack() as stack:
        cluster = stack.enter_context(LocalCluster())
        manager = stack.enter_context(LocalSecretsManager())
        stack.enter_context(environment(manager.environment))
        measurements = [*_failed_units(cluster, manager, units), *_times(cluster, manager, runs)]
        with cluster.primary.server.connect() as connection:
            version = connection.info.server_version // 10_000
    return measurements, [f"PostgreSQL {version} without TLS"]


def _failed_units(cluster: LocalCluster, manager: LocalSecretsManager, units: int) -> list[Measurement]:
    found = [
        Measurement("failed_in_window", f"Failed units of {units} in the rotation window", "units", exact=True),
        Measurement("failed_after", f"Failed units of {units} after the rotation", "units", exact=True),
        Measurement("api_calls", "Calls to Secrets Manager in a rotation", "calls", exact=True),
    ]
    for contender in CONTENDERS:
        counts = count_failed_units(contender, cluster, manager, units)
        if contender is this_package and any(counts[:2]):
            raise RuntimeError("a unit of work of this package failed in a rotation: expected 0")
        for measurement, count in zip(found, counts, strict=True):
            measurement.add(contender.__name__.replace("_", " "), count)
    return found


def _times(cluster: LocalCluster, manager: LocalSecretsManager, runs: int) -> list[Measurement]:
    """Measure from the attempt whose login is rejected to the first result, the candidates in turn."""
    base = "this package"
    found = {
        name: Measurement(key, f"Time to a working connection after a {name}", "ms", exact=False, base=base)
        for key, name in (("first", FIRST), ("second", SECOND))
    }
    for _ in range(runs):
        for name, candidate in candidates(slow=runs > 1).items():
            login = _new_login(cluster, manager)
            engine = candidate(login.environment)
            _connect(engine)
            started = time.monotonic()
            for which in (FIRST, SECOND):
                login.change()
                found[which].add(name, _connect(engine) * 1000)
                if name == base and time.monotonic() - started > _SECOND_ROTATION_WITHIN_SECONDS:
                    skip("a second rejected login within 0.5 s: the first one took longer")
            engine.dispose()
    return list(found.values())


def _new_login(cluster: LocalCluster, manager: LocalSecretsManager) -> Login:
    name, password = f"unit_{secrets.token_hex(4)}", secrets.token_urlsafe()
    cluster.primary.server.create_login(name, password)
    arn = manager.create(name, {"username": name, "password": password})
    return Login(ContenderEnvironment(cluster, manager, arn), name)


def _connect(engine: Engine) -> float:
    """Open a connection, and return the seconds to its first result."""
    engine.dispose()
    started = time.perf_counter()
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        return time.perf_counter() - started
