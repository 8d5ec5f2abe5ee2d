"""The fixtures of the service's tests: those of the package, on databases that have the service's tables too."""

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from registration_persistence import Database, DatabaseSettings
from registration_persistence.testing import MigrateService

pytest_plugins = ["registration_persistence.testing.plugin"]

ALEMBIC = Path(__file__).parents[1] / "alembic.ini"


@pytest.fixture(scope="session")
def migrate_service() -> MigrateService:
    """Create the tables of the service; `database`, `isolated_session`, `registration_environment` have them then."""

    def migrate(settings: DatabaseSettings) -> None:
        command.upgrade(Config(ALEMBIC, attributes={"database": Database(settings)}), "head")

    return migrate
