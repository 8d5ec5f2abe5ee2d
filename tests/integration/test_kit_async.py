"""The fixtures of the test kit for code that awaits, in suites with each plugin and without one."""

import re
import subprocess
import sys
from pathlib import Path

from processes import python_environment

from registration_persistence.sandbox import PostgresServer

CONFTEST = """
import asyncio

import pytest
import uvloop

pytest_plugins = ["registration_persistence.testing.plugin"]


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def seen():
    seen = {"loops": set(), "backends": set()}
    yield seen
    assert len(seen["loops"]) == 2, seen
    assert len(seen["backends"]) == 1, seen
"""

# The marks of a file follow; in pytest-asyncio's mode `auto` there are none.
TESTS = """
import asyncio

import pytest
from sqlalchemy import text

from registration_persistence import RegistrationRepository, outcomes


def sign_up(session):
    return RegistrationRepository(session).register("ada@example.com", idempotency_key="1")


def count(session):
    return session.scalar(text("SELECT count(*) FROM registrations"))


async def test_a_database_for_several_tasks(async_database):
    made = await asyncio.gather(*[async_database.run(sign_up, idempotent=True) for _ in range(5)])
    assert sum(isinstance(outcome, outcomes.Registered) for outcome in made) == 1
    assert await async_database.run(count) == 1


@pytest.mark.parametrize("test", range(2))
async def test_a_session_that_is_rolled_back(async_isolated_session, seen, test):
    session = async_isolated_session
    assert await session.run_sync(count) == 0
    await session.run_sync(sign_up)
    await session.commit()
    await session.execute(text("DELETE FROM outbox"))
    await session.rollback()
    assert isinstance(await session.run_sync(sign_up), outcomes.Replayed)
    assert await session.scalar(text("SELECT count(*) FROM outbox")) == 1
    assert await session.run_sync(count) == 1
    seen["loops"].add(type(asyncio.get_running_loop()).__module__)
    seen["backends"].add(await session.scalar(text("SELECT pg_backend_pid()")))


async def test_a_cancelled_statement(async_isolated_session):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await async_isolated_session.execute(text("SELECT pg_sleep(5)"))
    await async_isolated_session.rollback()
    assert await async_isolated_session.run_sync(count) == 0

"""

WITHOUT_MARK = """

def test_the_session_begins_in_a_running_loop(request):
    async def begin():
        return request.getfixturevalue("async_isolated_session")

    async def use(session):
        return await session.run_sync(count)

    assert asyncio.run(use(asyncio.run(begin()))) == 0
"""

MARKED = "\npytestmark = pytest.mark.asyncio(loop_scope={scope!r})\n"

ANYIO = """
@pytest.fixture(params=[("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})])
def anyio_backend(request):
    return request.param


pytestmark = pytest.mark.anyio


@pytest.fixture
async def ada(async_isolated_session):
    return (await async_isolated_session.run_sync(sign_up)).registration


async def test_an_asynchronous_fixture(ada, async_isolated_session):
    assert (await async_isolated_session.run_sync(lambda s: RegistrationRepository(s).get(ada.id))) == ada
"""

STRICT = """
import pytest_asyncio


@pytest_asyncio.fixture(loop_scope={scope!r})
async def ada(async_isolated_session):
    return (await async_isolated_session.run_sync(sign_up)).registration


async def test_an_asynchronous_fixture(ada, async_isolated_session):
    assert (await async_isolated_session.run_sync(lambda s: RegistrationRepository(s).get(ada.id))) == ada
"""


ASYNCIO = ("-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function")


def run_suite(folder: Path, server: PostgresServer, *options: str, hidden: str = "") -> str:
    """Run the tests of *folder* in a process in which the packages *hidden* are not installed; return its output."""
    url = f"postgresql://{server.user}:{server.password}@127.0.0.1:{server.port}"
    arguments = ["-q", "-p", "no:cacheprovider", "-W", "error", *options]
    # An entry of None makes the import of a module fail as if it were not installed.
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden.split()})); import pytest; pytest.main({arguments})"
    )
    variables = {"TEST_POSTGRES_URL": url, "TEST_POSTGRES_KIND": "named", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=python_environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout + run.stderr


def test_the_fixtures_work_with_both_plugins(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """They work with marks, on asyncio and uvloop, in loops of each scope, and keep their connection between loops."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for scope in ("function", "session"):
        suite = TESTS + MARKED.format(scope=scope) + STRICT.format(scope=scope)
        (tmp_path / f"test_{scope}.py").write_text(suite)
    (tmp_path / "test_anyio.py").write_text(TESTS + ANYIO)

    output = run_suite(tmp_path, postgres_server, "-p", "anyio", *ASYNCIO, "-o", "asyncio_mode=strict")

    # Each of three files has five tests on two loops.
    assert "30 passed in" in output, output


def test_the_fixtures_need_no_marks_in_the_automatic_mode(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """They work in the mode `auto` of pytest-asyncio, in which the service's fixtures are asynchronous, too."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_auto.py").write_text(TESTS + WITHOUT_MARK)

    output = run_suite(tmp_path, postgres_server, *ASYNCIO, "-o", "asyncio_mode=auto")

    assert "9 passed in" in output, output


EXTRA = r"\nE +ImportError: AsyncDatabase needs the package greenlet: pip install 'registration-persistence\[async\]'"

SYNCHRONOUS = """
pytest_plugins = ["registration_persistence.testing.plugin"]


def test_synchronous(database, isolated_session):
    assert database.ping().writable


def test_asynchronous(async_isolated_session):
    pass
"""


def test_a_synchronous_suite_needs_no_package_for_asynchronous_code(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    """Without plugins and greenlet, the other fixtures work, and the error of these fixtures names the extra."""
    (tmp_path / "test_service.py").write_text(SYNCHRONOUS)

    output = run_suite(tmp_path, postgres_server, hidden="pytest_asyncio anyio uvloop greenlet")

    assert "1 passed, 1 error" in output, output
    assert re.search(EXTRA, output), output
