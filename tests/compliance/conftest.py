"""Runs SQLAlchemy's compliance suite on a server of its own; started by `make compliance`.

With `--engine dialect` the engines of the suite use our dialect, with `--engine ours` also the arguments and listeners
of `create_database_engine`, and with `--engine plain` SQLAlchemy's own dialect, for comparison.
"""

import importlib
from contextlib import ExitStack
from typing import Any

import pytest
from compliance.expected_differences import expected_difference
from sqlalchemy import URL, Engine, event
from sqlalchemy.dialects import plugins
from sqlalchemy.engine import CreateEnginePlugin
from sqlalchemy.testing import provision

from registration_persistence import Credentials, DatabaseSettings, StaticCredentials
from registration_persistence.database.connector import Connector
from registration_persistence.database.engine import engine_arguments, listen_to, pool_arguments
from registration_persistence.database.events import Events
from registration_persistence.database.waits import DRIVER_NAME
from registration_persistence.sandbox import LocalPostgres, embedded_binaries

DATABASE = "compliance"
PLUGIN = "registration_persistence"

# The suite tests prepared transactions, and creates more connections than a Lambda.
SERVER_SETTINGS = {"max_prepared_transactions": "10", "max_connections": "60"}

_stack = ExitStack()


class OurEngine(CreateEnginePlugin):
    """Gives an engine of the suite the arguments and the listeners of `create_database_engine`."""

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        super().__init__(url, kwargs)
        assert url.host is not None
        assert url.port is not None
        assert url.database is not None
        assert url.username is not None
        self._credentials = StaticCredentials(Credentials(url.username, url.password or ""))
        self._settings = DatabaseSettings(
            environment="test",
            host=url.host,
            port=url.port,
            name=url.database,
            user=url.username,
            password=url.password,
            sslmode="disable",
            pool="service",
        )
        of_our_pool = {} if {"pool", "poolclass"} & kwargs.keys() else pool_arguments(self._settings)
        for name, value in {**engine_arguments(self._settings), **of_our_pool}.items():
            kwargs.setdefault(name, value)

    def update_url(self, url: URL) -> URL:
        """Return *url* unchanged, because the suite makes further engines of it."""
        return url

    def engine_created(self, engine: Engine) -> None:
        """Add our listeners; user and password of the URL are not passed on, because the connector adds them."""

        def forget_login(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
            parameters.pop("user", None)
            parameters.pop("password", None)

        event.listen(engine, "do_connect", forget_login)
        listen_to(engine, Connector(self._settings, self._credentials, Events()))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--engine`."""
    parser.addoption("--engine", choices=["dialect", "ours", "plain"], default="dialect")


def pytest_configure(config: pytest.Config) -> None:
    """Start a server, and let the suite connect to it."""
    server = _stack.enter_context(LocalPostgres(embedded_binaries(), settings=SERVER_SETTINGS)).server
    server.create_database(DATABASE)
    with server.connect(DATABASE) as connection:
        connection.execute("CREATE SCHEMA test_schema")
        connection.execute("CREATE SCHEMA test_schema_2")
    driver = "postgresql+psycopg" if config.option.engine == "plain" else DRIVER_NAME
    url = URL.create(driver, server.user, server.password, server.host, server.port, DATABASE)
    config.option.dburi = [url.render_as_string(hide_password=False)]
    # The embedded server has no extensions. The hook that creates them must be registered before this one.
    importlib.import_module("sqlalchemy.dialects.postgresql.provision")
    provision.post_configure_engine.for_db("postgresql")(lambda *_arguments: None)
    if config.option.engine == "ours":
        plugins.register(PLUGIN, __name__, OurEngine.__name__)
        provision.update_db_opts.for_db("postgresql")(lambda _url, options: options.update(plugins=[PLUGIN]))


def pytest_unconfigure() -> None:
    """Stop the server."""
    _stack.close()


@pytest.hookimpl(trylast=True)  # SQLAlchemy replaces the tests by one for each database
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that are expected to fail, with the reason."""
    for item in items:
        assert isinstance(item, pytest.Function)
        group, _, _dialect = item.nodeid.split("::")[1].partition("_")
        reason = expected_difference(group, item.originalname, engine=config.option.engine)
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
