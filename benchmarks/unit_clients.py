"""Units of work on an open connection, of this package and of its peers.

`UNITS` has a function for each kind that returns the unit. `python unit_clients.py KINDS OPTIONS UNITS` runs units of
each kind in processes of their own, whose instructions `instructions.py` counts.
"""

import json
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from sign_ups import Unit, register_unit

INSERT = "INSERT INTO bench_rows (name) VALUES (:name)"
RAW_INSERT = "INSERT INTO bench_rows (name) VALUES (%s)"

Options = dict[str, Any]


def raw_autocommit(options: Options, closing: ExitStack) -> Unit:
    """Insert with psycopg in autocommit."""
    connection = _psycopg(options, closing, autocommit=True)
    return lambda number: connection.execute(RAW_INSERT, [f"row {number}"])


def raw_transaction(options: Options, closing: ExitStack) -> Unit:
    """Insert with psycopg in a transaction."""
    connection = _psycopg(options, closing, autocommit=False)

    def unit(number: int) -> None:
        for _ in range(options.get("statements", 1)):
            connection.execute(RAW_INSERT, [f"row {number}"])
        connection.commit()

    return unit


def core(options: Options, closing: ExitStack) -> Unit:
    """Insert with SQLAlchemy Core in a transaction."""
    return _core_unit(_create_engine(options, closing), options)


def core_pre_ping(options: Options, closing: ExitStack) -> Unit:
    """Insert with SQLAlchemy Core in a transaction, with pre-ping."""
    return _core_unit(_create_engine(options, closing, pool_pre_ping=True), options)


def core_autocommit(options: Options, closing: ExitStack) -> Unit:
    """Insert with SQLAlchemy Core in autocommit."""
    return _core_unit(_create_engine(options, closing, isolation_level="AUTOCOMMIT"), options)


def core_autocommit_pre_ping(options: Options, closing: ExitStack) -> Unit:
    """Insert with SQLAlchemy Core in autocommit, with pre-ping."""
    return _core_unit(_create_engine(options, closing, isolation_level="AUTOCOMMIT", pool_pre_ping=True), options)


def session(options: Options, closing: ExitStack) -> Unit:
    """Insert with a session of SQLAlchemy in a transaction."""
    return _session_unit(_create_engine(options, closing), options)


def session_autocommit(options: Options, closing: ExitStack) -> Unit:
    """Insert with a session of SQLAlchemy in autocommit."""
    return _session_unit(_create_engine(options, closing, isolation_level="AUTOCOMMIT"), options)


def wrapper(options: Options, closing: ExitStack) -> Unit:
    """Insert with SQLAlchemy Core and AWS's Advanced Python Wrapper, without plugins, in a transaction."""
    arguments = {"wrapper_dialect": "pg", "plugins": ""}
    return _core_unit(
        _create_engine(options, closing, "postgresql+aws_wrapper_psycopg", connect_args=arguments), options
    )


def package_core(options: Options, closing: ExitStack) -> Unit:
    """Insert with SQLAlchemy Core on the engine of this package, in a transaction."""
    return _core_unit(_database(options, closing).engine, options)


def package_core_autocommit(options: Options, closing: ExitStack) -> Unit:
    """Insert with SQLAlchemy Core on the engine of this package, in autocommit."""
    return _core_unit(_database(options, closing).engine.execution_options(isolation_level="AUTOCOMMIT"), options)


def package_session(options: Options, closing: ExitStack) -> Unit:
    """Insert with a session of this package in a transaction."""
    from sqlalchemy import text

    database, insert = _database(options, closing), text(INSERT)

    def unit(number: int) -> None:
        with database.session() as opened:
            for _ in range(options.get("statements", 1)):
                opened.execute(insert, {"name": f"row {number}"})

    return unit


def package_session_autocommit(options: Options, closing: ExitStack) -> Unit:
    """Insert with a session of this package in autocommit."""
    from sqlalchemy import text

    database, insert = _database(options, closing), text(INSERT)

    def unit(number: int) -> None:
        with database.session(autocommit=True) as opened:
            opened.execute(insert, {"name": f"row {number}"})

    return unit


def package_look_up(options: Options, closing: ExitStack) -> Unit:
    """Look a mailbox up with one repository call of this package."""
    from registration_persistence import RegistrationRepository

    database = _database(options, closing)
    return lambda number: database.run(
        lambda on: RegistrationRepository(on).find_by_email(f"{number}@example.com"), single=True
    )


def package_register(options: Options, closing: ExitStack) -> Unit:
    """Sign up with one repository call of this package."""
    return register_unit(_database(options, closing))


def raw_register(options: Options, closing: ExitStack) -> Unit:
    """Sign up with psycopg, with the statement of this package and parameters that are made before."""
    connection = _psycopg(options, closing, autocommit=True)
    statement, parameters = pickle.loads(Path(options["sign_ups"]).read_bytes())  # noqa: S301 written by the parent process
    return lambda number: connection.execute(statement, parameters[number], prepare=True).fetchall()


UNITS: dict[str, Callable[[Options, ExitStack], Unit]] = {
    kind.__name__: kind
    for kind in (
        raw_autocommit, raw_transaction, raw_register, core, core_pre_ping, core_autocommit, core_autocommit_pre_ping,
        session, session_autocommit, wrapper, package_core, package_core_autocommit, package_session,
        package_session_autocommit, package_look_up, package_register,
    )
}  # fmt: skip


def _psycopg(options: Options, closing: ExitStack, *, autocommit: bool) -> Any:
    import psycopg

    connection = psycopg.connect(
        host=options["host"],
        port=options["port"],
        user=options["user"],
        password=options["password"],
        dbname=options["name"],
        sslmode="disable",
        autocommit=autocommit,
    )
    return closing.enter_context(connection)


def _create_engine(options: Options, closing: ExitStack, driver: str = "postgresql+psycopg", **arguments: Any) -> Any:
    from sqlalchemy import URL, create_engine

    url = URL.create(
        driver, options["user"], options["password"], options["host"], options["port"], options["name"],
        query={"sslmode": "disable"},
    )  # fmt: skip
    engine = create_engine(url, **arguments)
    closing.callback(engine.dispose)
    return engine


def _database(options: Options, closing: ExitStack) -> Any:
    from registration_persistence import Database, DatabaseSettings

    names = ("host", "port", "user", "password", "name")
    settings = {name: options[name] for name in names}
    database = Database(DatabaseSettings(environment="test", sslmode="disable", pool="lambda", **settings))
    closing.callback(database.dispose)
    return database


def _core_unit(engine: Any, options: Options) -> Unit:
    from sqlalchemy import text

    insert = text(INSERT)

    def unit(number: int) -> None:
        with engine.begin() as connection:
            for _ in range(options.get("statements", 1)):
                connection.execute(insert, {"name": f"row {number}"})

    return unit


def _session_unit(engine: Any, options: Options) -> Unit:
    from sqlalchemy import text
    from sqlalchemy.orm import Session

    insert = text(INSERT)

    def unit(number: int) -> None:
        with Session(engine) as opened:
            for _ in range(options.get("statements", 1)):
                opened.execute(insert, {"name": f"row {number}"})
            opened.commit()

    return unit


def _run_in_a_process(kind: str, options: Options, numbers: range) -> None:
    """Run units in a forked process."""
    process = os.fork()
    if process == 0:
        try:
            with ExitStack() as closing:
                unit = UNITS[kind](options, closing)
                for number in numbers:
                    unit(number)
        except BaseException:  # noqa: BLE001 any error ends the process
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(process, 0)[1]:
        raise SystemExit(f"a process with units of the kind {kind} failed")


def main() -> None:
    """Import everything once, and run one, few and many units of each kind, for valgrind.

    The one unit compiles the modules that are imported at their first use; otherwise the few units would.
    """
    import_module("sqlalchemy.orm")
    import_module("registration_persistence")
    kinds, options, units = json.loads(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
    for kind in kinds:
        for numbers in (range(1), range(1, units + 1), range(units + 1, 3 * units + 1)):
            _run_in_a_process(kind, options, numbers)


if __name__ == "__main__":
    main()
