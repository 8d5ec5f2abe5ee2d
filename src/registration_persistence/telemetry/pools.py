"""`pool_states`: the state of the pools of a database."""

from registration_persistence.database.database import Database
from registration_persistence.database.pool import BoundedPool
from registration_persistence.database.pool_place import PoolState
from registration_persistence.telemetry.attachment import AnyDatabase


def pool_states(database: AnyDatabase) -> list[PoolState]:
    """Return the state of each pool that keeps connections; behind a proxy there is none."""
    if not isinstance(database, Database):
        from registration_persistence.database.async_database import awaited_part

        database, _ = awaited_part(database)
    pools = [engine.pool for engine in database.engines]
    return [pool.state() for pool in pools if isinstance(pool, BoundedPool)]
