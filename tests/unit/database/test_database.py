"""`Database` without a server."""

import gc
from weakref import ref

from registration_persistence import Database, DatabaseSettings


def settings() -> DatabaseSettings:
    """Return settings of a server that does not exist."""
    return DatabaseSettings(host="localhost", name="app", environment="test", user="app", password="hunter2")


def test_an_engine_keeps_its_database_alive() -> None:
    """A fork resets every `Database` that is alive, so it must live as long as its engine is in use."""
    database = Database(settings())
    engine, reference = database.engine, ref(database)

    del database
    gc.collect()

    kept = reference()
    assert kept is not None
    assert engine is kept.engine


def test_repr_shows_the_address_and_no_password() -> None:
    """`repr` names the database, host and port."""
    assert repr(Database(settings())) == "<Database app at localhost:5432>"
