"""`Health`: the result of `Database.ping`; `answers_in_time`: whether there is one while a process starts."""

import logging
from collections.abc import Callable

from sqlalchemy import Engine, text

from registration_persistence.clock import monotonic
from registration_persistence.database.commit_guard import driver_connection
from registration_persistence.database.deadlines import deadline
from registration_persistence.database.engine import READS_ONLY
from registration_persistence.errors import RegistrationPersistenceError
from registration_persistence.light_dataclass import dataclass

WARM_UP_TIMEOUT_SECONDS = 6.0
"""The time to connect while a process starts; Lambda gives an initialisation 10 s."""

_PING = text("SELECT current_setting('server_version'), current_setting('transaction_read_only') = 'off'")

_logger = logging.getLogger("registration_persistence.database")


@dataclass(frozen=True, slots=True)
class Health:
    """The state of the server, as `Database.ping` found it.

    Args:
        server_version: The server's `server_version`.
        writable: Whether the server accepts writes; false on a reader and on a demoted writer.
        encrypted: Whether the connection uses TLS.
        seconds: Duration of the ping in seconds, including the opening of a connection if none was open.
    """

    server_version: str
    writable: bool
    encrypted: bool
    seconds: float


def measure_health(engine: Engine) -> Health:
    """Ask the server for its state, with one statement on a connection of *engine* in autocommit."""
    started = monotonic()
    with engine.connect().execution_options(**{READS_ONLY: True}) as connection:
        version, writable = connection.execute(_PING).one()
        encrypted = driver_connection(connection).pgconn.ssl_in_use
    return Health(version, writable, encrypted, monotonic() - started)


def answers_in_time(ping: Callable[[], object]) -> bool:
    """Return whether *ping* succeeds within 6 s; a failure is logged."""
    try:
        with deadline(WARM_UP_TIMEOUT_SECONDS, reserve=0):
            ping()
    except RegistrationPersistenceError as error:
        _logger.warning("could not warm up, the first request will try again: %s", error)
        return False
    return True
