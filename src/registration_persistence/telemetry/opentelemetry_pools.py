"""`report_pools`: the connections of the pools as metrics of OpenTelemetry, read when they are exported."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from weakref import ref

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from registration_persistence.database.pool_place import PoolState
from registration_persistence.telemetry.attachment import AnyDatabase
from registration_persistence.telemetry.pools import pool_states

_NAME, _STATE = "db.client.connection.pool.name", "db.client.connection.state"

# All of the process, because a meter calls only the first callback of a metric. Threads append to it and read it
# without a lock, which a forked child could inherit locked.
_databases: list[Callable[[], Any]] = []


def report_pools(database: AnyDatabase, meter: Meter) -> dict[str, str]:
    """Report the state of the pools of *database* as metrics of *meter*, and return the attribute of their name.

    Those of databases with the same address and name are added up.
    """
    _databases.append(ref(database))
    _observe(meter, "count", "{connection}", lambda state: {"idle": state.idle, "used": state.in_use})
    _observe(meter, "max", "{connection}", lambda state: {"": state.size})
    _observe(meter, "pending_requests", "{request}", lambda state: {"": state.waiting})
    return _named(database)


def _named(database: AnyDatabase) -> dict[str, str]:
    settings = database.settings
    return {_NAME: f"{settings.host}:{settings.port}/{settings.name}"}


def _observe(meter: Meter, name: str, unit: str, values: Callable[[PoolState], dict[str, int]]) -> None:
    """Create a metric.

    Args:
        meter: The meter.
        name: The end of its name.
        unit: Its unit.
        values: Returns the values of a pool by the state of the connections, which is empty if there is one value.
    """

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        totals = Counter[tuple[str, str]]()
        for each in _databases:
            if (database := each()) is not None:
                for pool in pool_states(database):
                    totals.update({(_named(database)[_NAME], state): value for state, value in values(pool).items()})
        for (named, state), total in totals.items():
            yield Observation(total, {_NAME: named} | ({_STATE: state} if state else {}))

    meter.create_observable_up_down_counter(f"db.client.connection.{name}", [observe], unit)
