"""Part `warm`: units of work on an open connection."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

from bench_secrets import open_secrets
from bench_servers import Server, newest_binaries, open_server
from instructions import instructions_per_unit
from local_database import create_migrated_database
from measurements import Measurement, skip
from sqlalchemy import text
from unit_clients import UNITS, Options

from registration_persistence import Database, DatabaseSettings
from registration_persistence.testing import RoundTripCounter

LATENCY_SECONDS = 0.005
WARM_UNITS = 1000
STATEMENTS = (1, 3)
# psycopg prepares a statement at its sixth execution, which takes one more round trip.
_UNITS_BEFORE = 12
_COUNTED_UNITS = 10

PACKAGE, PSYCOPG, CORE, SESSION = "this package", "psycopg", "SQLAlchemy Core", "SQLAlchemy ORM session"
PRE_PING, WRAPPER = "SQLAlchemy Core with pre-ping", "AWS wrapper + SQLAlchemy Core"

_IN_A_TRANSACTION = {
    "this package, session": "package_session",
    "this package, Core": "package_core",
    CORE: "core",
    PRE_PING: "core_pre_ping",
    SESSION: "session",
    WRAPPER: "wrapper",
    PSYCOPG: "raw_transaction",
}
_IN_AUTOCOMMIT = {
    "this package, session": "package_session_autocommit",
    "this package, Core": "package_core_autocommit",
    CORE: "core_autocommit",
    PRE_PING: "core_autocommit_pre_ping",
    SESSION: "session_autocommit",
    PSYCOPG: "raw_autocommit",
}
# The key, the title, and the kinds of this package and of its peers.
_INSTRUCTIONS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    (
        "core",
        "Core, in a transaction",
        {PACKAGE: "package_core", CORE: "core", WRAPPER: "wrapper", PSYCOPG: "raw_transaction"},
    ),
    (
        "core_autocommit",
        "Core, in autocommit",
        {PACKAGE: "package_core_autocommit", CORE: "core_autocommit", PSYCOPG: "raw_autocommit"},
    ),
    ("session", "ORM session, in a transaction", {PACKAGE: "package_session", SESSION: "session"}),
    (
        "session_autocommit",
        "ORM session, in autocommit",
        {PACKAGE: "package_session_autocommit", SESSION: "session_autocommit"},
    ),
)


@contextmanager
def unit_database() -> Iterator[tuple[Server, Options]]:
    """Start a server with the schema, and yield the options of clients that connect without TLS."""
    binaries, encrypted = newest_binaries()
    with open_server(binaries, encrypted=encrypted) as server:
        settings = create_migrated_database(server.server)
        with server.server.connect(settings.name) as connection:
            connection.execute("CREATE TABLE bench_rows (id bigint GENERATED ALWAYS AS IDENTITY, name text NOT NULL)")
        yield server, options_of(settings)


def options_of(settings: DatabaseSettings) -> Options:
    """Return the options of a client of `unit_clients.py`."""
    names = ("host", "port", "user", "password", "name")
    return {name: getattr(settings, name) for name in names}


def through(options: Options, proxy: RoundTripCounter) -> Options:
    """Return *options* with the address of *proxy*."""
    return {**options, "host": "127.0.0.1", "port": proxy.port}


def trips_per_unit(kind: str, options: Options) -> float:
    """Return the round trips of one unit on an open connection, whose statement is prepared."""
    with RoundTripCounter(options["host"], options["port"]) as proxy, ExitStack() as closing:
        unit = UNITS[kind](through(options, proxy), closing)
        for number in range(_UNITS_BEFORE):
            unit(number)
        proxy.round_trips()
        for number in range(_COUNTED_UNITS):
            unit(number)
        return proxy.round_trips() / _COUNTED_UNITS


def calls_of_warm_units(units: int) -> int:
    """Return the calls to Secrets Manager of *units* units of work on an open connection."""
    binaries, encrypted = newest_binaries()
    with ExitStack() as stack:
        secrets = stack.enter_context(open_secrets())
        server = stack.enter_context(open_server(binaries, encrypted=encrypted))
        variables = {**server.variables(), **secrets.secret_of(server), **secrets.environment}
        stack.enter_context(environment(variables))
        database = Database(DatabaseSettings.from_env())
        stack.callback(database.dispose)
        for number in range(units + 1):
            if number == 1:
                secrets.manager.forget_calls()
            with database.session(autocommit=True) as session:
                session.execute(text("SELECT 1"))
        return secrets.manager.calls.total()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Add *variables* to the environment of this process until the block ends."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def measure(runs: int, *, instruction_units: int) -> tuple[list[Measurement], list[str]]:
    """Return the measurements, and the versions of the servers."""
    with unit_database() as (server, options):
        measurements = _round_trips(options)
        measurements.append(_api_calls(runs))
        if instruction_units:
            measurements += _instructions(options, instruction_units)
        measurements.append(_times(options, runs))
        return measurements, [f"PostgreSQL {server.version} without TLS"]


def installed(kinds: Mapping[str, str]) -> dict[str, str]:
    """Return the *kinds* whose packages are installed."""
    if find_spec("aws_advanced_python_wrapper"):
        return dict(kinds)
    skip("aws-advanced-python-wrapper: it is not installed")
    return {name: kind for name, kind in kinds.items() if kind != "wrapper"}


def _round_trips(options: Options) -> list[Measurement]:
    found = []
    for statements in STATEMENTS:
        plural = "s" if statements > 1 else ""
        found.append(
            Measurement(
                f"transaction_{statements}", f"Transaction of {statements} INSERT{plural}", "round trips", exact=True
            )
        )
        for name, kind in installed(_IN_A_TRANSACTION).items():
            found[-1].add(name, trips_per_unit(kind, {**options, "statements": statements}))
    found.append(Measurement("autocommit", "One INSERT in autocommit", "round trips", exact=True))
    for name, kind in _IN_AUTOCOMMIT.items():
        found[-1].add(name, trips_per_unit(kind, options))
    found.append(Measurement("repository_call", "One repository call", "round trips", exact=True))
    for name, kind in (("this package, look-up", "package_look_up"), ("this package, register", "package_register")):
        found[-1].add(name, trips_per_unit(kind, options))
    return found


def _api_calls(runs: int) -> Measurement:
    units = WARM_UNITS if runs > 1 else _COUNTED_UNITS
    measurement = Measurement("api_calls", f"Calls to Secrets Manager in {units} units", "calls", exact=True)
    measurement.add(PACKAGE, calls_of_warm_units(units))
    return measurement


def _instructions(options: Options, units: int) -> list[Measurement]:
    kinds = installed({kind: kind for _, _, compared in _INSTRUCTIONS for kind in compared.values()})
    counts = instructions_per_unit(list(kinds), options, units)
    found = []
    for key, title, compared in _INSTRUCTIONS:
        base = SESSION if "session" in key else CORE
        heading = f"Instructions of one INSERT: {title}"
        found.append(Measurement(f"instructions_{key}", heading, "thousand instructions", exact=True, base=base))
        for name, kind in installed(compared).items():
            found[-1].add(name, counts[kind] / 1000)
    return found


def _times(options: Options, runs: int) -> Measurement:
    """Measure one INSERT in autocommit at 5 ms, the candidates in turn."""
    measurement = Measurement(
        "autocommit_times", "Time of one INSERT in autocommit at 5 ms", "ms", exact=False, base=PSYCOPG
    )
    with RoundTripCounter(options["host"], options["port"], latency=LATENCY_SECONDS) as proxy, ExitStack() as closing:
        here = through(options, proxy)
        units: dict[str, Any] = {name: UNITS[kind](here, closing) for name, kind in _IN_AUTOCOMMIT.items()}
        for number in range(_UNITS_BEFORE + runs * _COUNTED_UNITS):
            for name, unit in units.items():
                started = time.perf_counter()
                unit(number)
                if number >= _UNITS_BEFORE:
                    measurement.add(name, (time.perf_counter() - started) * 1000)
    return measurement
