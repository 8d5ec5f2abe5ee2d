"""Alembic's commands on a connection or engine that a program passes in `attributes["connection"]`."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from migration_commands import ROOT
from sqlalchemy import URL, Connection, Engine, create_engine, text

from registration_persistence import Database, schema


@pytest.fixture
def plain_engine(empty: Database) -> Iterator[Engine]:
    """An engine that SQLAlchemy creates for an empty database, without our dialect."""
    settings = empty.settings
    url = URL.create(
        "postgresql+psycopg", settings.user, settings.password, settings.host, settings.port, settings.name
    )
    engine = create_engine(url)
    yield engine
    engine.dispose()


def configuration(passed: Any) -> Config:
    """Return Alembic's configuration with a connection or an engine."""
    config = Config(attributes={"connection": passed})
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def read(config: Config) -> None:
    """Run the commands that only read, of which a check fails before the newest revision."""
    command.current(config)
    command.history(config, indicate_current=True)
    command.show(config, "current")
    with pytest.raises(CommandError):
        command.check(config)


@pytest.mark.parametrize("isolation_level", ["READ COMMITTED", "AUTOCOMMIT"])
def test_a_passed_connection_is_committed(empty: Database, plain_engine: Engine, isolation_level: Any) -> None:
    """Reading commands leave no transaction open, and every changing command is committed."""
    with plain_engine.connect().execution_options(isolation_level=isolation_level) as connection:
        config = configuration(connection)

        read(config)
        assert not connection.in_transaction()
        assert not has_version_table(connection)
        connection.rollback()
        command.upgrade(config, "head")
        assert (schema.current(empty), connection.in_transaction()) == (schema.newest(), False)
        command.check(config)
        command.upgrade(config, "head")
        command.downgrade(config, "base")
        assert (schema.current(empty), connection.in_transaction()) == (None, False)
        command.stamp(config, "head")
        assert (schema.current(empty), connection.in_transaction()) == (schema.newest(), False)
        command.stamp(config, "base", purge=True)
        assert (schema.current(empty), connection.in_transaction()) == (None, False)
        command.upgrade(config, "+1")
        command.upgrade(config, "head")

    schema.check(empty)


def has_version_table(connection: Connection) -> bool:
    """Return whether the version table exists."""
    return connection.scalar(text(f"SELECT to_regclass('{schema.VERSION_TABLE}') IS NOT NULL")) is True


def test_a_passed_engine_is_used(empty: Database, plain_engine: Engine) -> None:
    """An engine works like a connection: SQLAlchemy's and our own."""
    read(configuration(plain_engine))
    command.upgrade(configuration(plain_engine), "head")
    command.check(configuration(empty.engine))
    command.downgrade(configuration(empty.engine), "base")

    assert schema.current(empty) is None


def test_the_caller_decides_about_its_own_transaction(empty: Database, plain_engine: Engine) -> None:
    """In a transaction or savepoint of the caller, commands neither commit nor roll back."""
    with plain_engine.connect() as connection:
        config = configuration(connection)
        with connection.begin() as transaction:
            with connection.begin_nested() as savepoint:
                command.upgrade(config, "head")
                command.check(config)
                savepoint.rollback()
            assert not has_version_table(connection)
            command.upgrade(config, "head")
            assert transaction.is_active
            assert schema.current(empty) is None

    assert schema.current(empty) == schema.newest()


def test_a_failed_upgrade_leaves_no_transaction_open(empty: Database, plain_engine: Engine) -> None:
    """An error of a revision rolls its transaction back, and the connection can be used for the next command."""
    with plain_engine.connect() as connection:
        config = configuration(connection)
        connection.execute(text("CREATE TABLE outbox (id integer)"))
        connection.commit()

        with pytest.raises(CommandError, match=f'"outbox" already exists, but {schema.VERSION_TABLE} records no'):
            command.upgrade(config, "head")

        assert not connection.in_transaction()
        connection.execute(text("DROP TABLE outbox"))
        connection.commit()
        command.upgrade(config, "head")
    assert schema.current(empty) == schema.newest()


@pytest.mark.parametrize("passed", ["postgresql://", psycopg.connect, create_engine("sqlite://")])
def test_another_object_is_rejected(passed: Any) -> None:
    """The error names the kind of object."""
    with pytest.raises(CommandError, match=r"expected (an SQLAlchemy Connection or Engine|PostgreSQL)"):
        command.current(configuration(passed))
