"""Part `register`: the work of one process for a sign-up, beside the same statement with psycopg alone."""

import pickle
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from instructions import instructions_per_unit
from measurements import Measurement
from part_warm import unit_database
from sign_ups import made_sign_ups
from sqlalchemy import text
from unit_clients import UNITS, Options

from registration_persistence import Database, DatabaseSettings

PACKAGE, PSYCOPG = "this package", "psycopg, prepared, parameters made before"
_BLOCK_SIGN_UPS = 200
_WARM_UP_SIGN_UPS = 20


def measure(runs: int, *, instruction_units: int) -> tuple[list[Measurement], list[str]]:
    """Return the measurements, and the versions of the servers."""
    block = _BLOCK_SIGN_UPS if runs > 1 else _WARM_UP_SIGN_UPS
    needed = max(block * runs + _WARM_UP_SIGN_UPS, 3 * instruction_units + 1)
    with unit_database() as (server, options), tempfile.TemporaryDirectory() as folder:
        database = Database(DatabaseSettings(environment="test", sslmode="disable", pool="lambda", **options))
        statement, parameters = made_sign_ups(database, needed)
        options["sign_ups"] = str(Path(folder) / "sign_ups")
        Path(options["sign_ups"]).write_bytes(pickle.dumps((statement, parameters)))
        measurements = [_rates(options, database, runs, block)]
        if instruction_units:
            measurements.insert(0, _instructions(options, database, instruction_units))
        database.dispose()
        return measurements, [f"PostgreSQL {server.version} without TLS"]


def _instructions(options: Options, database: Database, units: int) -> Measurement:
    measurement = Measurement(
        "instructions", "Instructions of one sign-up", "thousand instructions", exact=True, base=PSYCOPG
    )
    counts = instructions_per_unit(["package_register", "raw_register"], options, units)
    measurement.add(PACKAGE, counts["package_register"] / 1000)
    measurement.add(PSYCOPG, counts["raw_register"] / 1000)
    _empty(database)
    return measurement


def _rates(options: Options, database: Database, runs: int, block: int) -> Measurement:
    """Measure sign-ups per second, in blocks that alternate."""
    measurement = Measurement(
        "rate", "Sign-ups in one process, without delay", "sign-ups/s", exact=False, better="higher", base=PSYCOPG
    )
    with ExitStack() as closing:
        units: dict[str, Any] = {
            PACKAGE: UNITS["package_register"](options, closing),
            PSYCOPG: UNITS["raw_register"](options, closing),
        }
        for unit in units.values():
            for number in range(_WARM_UP_SIGN_UPS):
                unit(number)
        for run in range(runs):
            for name, unit in units.items():
                first = _WARM_UP_SIGN_UPS + run * block
                started = time.perf_counter()
                for number in range(first, first + block):
                    unit(number)
                measurement.add(name, block / (time.perf_counter() - started))
    _empty(database)
    return measurement


def _empty(database: Database) -> None:
    """Delete all rows, so that every candidate begins with empty tables."""
    with database.session() as session:
        session.execute(text("TRUNCATE registrations, registration_events, outbox CASCADE"))
