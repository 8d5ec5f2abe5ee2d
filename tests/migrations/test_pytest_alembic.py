"""The tests of pytest-alembic, with each way of passing in the connection."""

from collections.abc import Iterator

import pytest
from alembic.config import Config
from migration_commands import ROOT
from pytest_alembic.plugin.fixtures import alembic_runner
from pytest_alembic.tests import (
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)
from sqlalchemy import Connection, Engine

from registration_persistence import Database

__all__ = [
    "alembic_runner",
    "test_model_definitions_match_ddl",
    "test_single_head_revision",
    "test_up_down_consistency",
    "test_upgrade",
]


@pytest.fixture
def alembic_config() -> Config:
    """Our migrations."""
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


@pytest.fixture(params=["engine", "connection", "transaction"])
def alembic_engine(request: pytest.FixtureRequest, empty: Database) -> Iterator[Engine | Connection]:
    """An engine, a connection, or a connection in a transaction of the caller, to an empty database."""
    if request.param == "engine":
        yield empty.engine
        return
    with empty.engine.connect() as connection:
        if request.param == "transaction":
            connection.begin()
        yield connection
