"""`get_async_db` and `get_db` in one process: one secret, and one refresh of it at a time."""

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from support import LambdaEnvironment, login_in_secrets_manager

from registration_persistence import (
    AsyncDatabase,
    Database,
    DatabaseSettings,
    RegistrationRepository,
    async_session_scope,
    get_async_db,
    get_db,
)
from registration_persistence.database import process
from registration_persistence.sandbox import LocalSecretsManager, PostgresServer
from registration_persistence.telemetry import prometheus


@pytest.fixture(name="environment")
def service_environment(
    postgres_server: PostgresServer,
    database_settings: DatabaseSettings,
    secrets_manager: LocalSecretsManager,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[LambdaEnvironment]:
    """The environment of a service whose login is in Secrets Manager, in the state of a new process."""
    environment = login_in_secrets_manager(postgres_server, database_settings, secrets_manager, monkeypatch)
    monkeypatch.setattr(process, "_this_process", process._ThisProcess())
    yield environment
    process.forget_db()


def test_threads_and_tasks_share_the_secret(environment: LambdaEnvironment) -> None:
    """A cold start in ten threads and ten tasks reads it once; after a rotation, they read it once more."""

    def use(_number: int) -> tuple[Database, AsyncDatabase]:
        assert get_db().ping().writable
        return get_db(), get_async_db()

    async def use_all() -> set[AsyncDatabase]:
        await asyncio.gather(*(get_async_db().ping() for _ in range(10)))
        return {get_async_db()}

    for reads in (1, 2):
        with ThreadPoolExecutor(10) as threads:
            used = [threads.submit(use, number) for number in range(10)]
            databases = asyncio.run(use_all())
            both = {each.result() for each in used}
        assert {(get_db(), get_async_db())} == both
        assert {get_async_db()} == databases
        assert {"GetSecretValue": reads} == environment.secrets_manager.calls
        assert reads == get_db().events.count("secret_read") == get_async_db().events.count("secret_read")
        environment.rotate()
        get_db().dispose()
        asyncio.run(get_async_db().dispose())


@pytest.mark.parametrize("both", [True, False])
def test_a_read_of_the_shared_secret_is_reported_once(
    environment: LambdaEnvironment,  # noqa: ARG001 its effect
    caplog: pytest.LogCaptureFixture,
    both: bool,  # noqa: FBT001 a parameter of the test
) -> None:
    """One log line and one metric, whether both databases are observed or only the asynchronous one."""
    registry = CollectorRegistry()
    observed: list[Database | AsyncDatabase] = [get_async_db(), get_db()] if both else [get_async_db()]
    for database in observed:
        prometheus.instrument(database, registry=registry)
    caplog.set_level(logging.INFO)

    asyncio.run(get_async_db().ping())
    get_db().ping()

    assert registry.get_sample_value("registration_persistence_secret_read_total", {"cause": "cold"}) == 1
    assert [vars(record).get("event") for record in caplog.records].count("secret_read") == 1
    asyncio.run(get_async_db().dispose())


def test_a_sign_up_with_nothing_but_the_environment(environment: LambdaEnvironment) -> None:
    """`async_session_scope` is a session of `get_async_db`; both databases have connections of their own."""

    async def sign_up() -> int:
        async with async_session_scope() as session:
            outcome = await session.run_sync(lambda each: RegistrationRepository(each).register("ada@example.com"))
            assert outcome.registration.email == "ada@example.com"
        async with async_session_scope(autocommit=True) as session:
            assert await session.scalar(text("SELECT current_user")) == environment.username
        async with async_session_scope(read_only=True) as session:
            return int(await session.scalar(text("SELECT count(*) FROM registrations")) or 0)

    assert asyncio.run(sign_up()) == 1
    assert get_async_db().settings is get_db().settings
    assert get_async_db().credentials is get_db().credentials
    assert get_async_db().events.count("connection_opened") == 1
    assert get_db().events.count("connection_opened") == 0
