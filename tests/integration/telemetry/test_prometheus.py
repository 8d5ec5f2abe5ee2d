"""Prometheus' metrics, as they are scraped over HTTP."""

import asyncio
import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from urllib.request import urlopen

import pytest
from processes import python_environment
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import terminate_backend, variables_of

from registration_persistence import AsyncDatabase, Database, DatabaseSettings, RegistrationRepository
from registration_persistence.sandbox import wait_until
from registration_persistence.telemetry import prometheus

Scrape = Callable[[], dict[tuple[str, str], float]]

MAILBOX = "ada@example.com"


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of the test's own."""
    return CollectorRegistry()


@pytest.fixture
def scrape(registry: CollectorRegistry) -> Iterator[Scrape]:
    """Scrapes the metrics from a server, by name and value of their label."""
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)

    def scraped() -> dict[tuple[str, str], float]:
        with urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=5) as response:
            page = response.read().decode()
        assert "@" not in page
        return {
            (sample.name, ",".join(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }

    yield scraped
    server.shutdown()
    server.server_close()
    thread.join()


def sign_up(session: Session) -> object:
    """Register a person."""
    return RegistrationRepository(session).register(MAILBOX)


def test_a_scrape_counts_events_and_units_of_work(
    database: Database, registry: CollectorRegistry, scrape: Scrape, database_settings: DatabaseSettings
) -> None:
    """Each is counted once, also if `instrument` is called twice, and an asynchronous database is added to it."""
    for _ in range(2):
        prometheus.instrument(database, registry=registry)
    name = "registration_persistence"
    before = scrape()
    assert before[f"{name}_commit_resolved_total", "unknown"] == 0
    attempts: list[int] = []

    def work(session: Session) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            terminate_backend(session)
        sign_up(session)

    database.run(work)
    with pytest.raises(ValueError, match="ada"), database.session() as session:
        sign_up(session)
        raise ValueError(MAILBOX)

    async def work_in_task() -> None:
        beside = AsyncDatabase(database_settings)
        prometheus.instrument(beside, registry=registry)
        await beside.run(sign_up)
        assert scrape()[f"{name}_pool_size", ""] == 2 * database_settings.pool_size
        await beside.dispose()

    asyncio.run(work_in_task())

    after = scrape()
    counted = {key: value for key, value in after.items() if value and key[0].endswith(("_total", "_count"))}
    assert counted == {
        (f"{name}_connection_opened_total", "cold"): 2,
        (f"{name}_connection_opened_total", "lost"): 1,
        (f"{name}_retry_total", "connection_lost"): 1,
        (f"{name}_connect_seconds_count", "cold"): 2,
        (f"{name}_connect_seconds_count", "lost"): 1,
        (f"{name}_unit_of_work_seconds_count", "kept"): 2,
        (f"{name}_unit_of_work_seconds_count", "not_kept"): 1,
        (f"{name}_unit_of_work_attempts_count", ""): 3,
        (f"{name}_unit_of_work_round_trips_count", ""): 3,
    }
    assert (after[f"{name}_unit_of_work_attempts_sum", ""], after[f"{name}_unit_of_work_attempts_bucket", "1.0"]) == (
        4,
        2,
    )
    assert 0 < after[f"{name}_unit_of_work_seconds_sum", "kept"] < 10
    assert set(before) <= set(after)


def test_a_scrape_reads_the_pool(
    database_settings: DatabaseSettings, registry: CollectorRegistry, scrape: Scrape
) -> None:
    """The connections that are in use and idle, and the threads that wait."""
    database = Database(dataclasses.replace(database_settings, pool_size=2))
    prometheus.instrument(database, registry=registry)
    release = Event()

    def state() -> tuple[float, ...]:
        scraped, connections = scrape(), "registration_persistence_pool_connections"
        others = [scraped[f"registration_persistence_pool_{name}", ""] for name in ("size", "waiting")]
        return (scraped[connections, "idle"], scraped[connections, "in_use"], *others)

    def hold() -> None:
        with database.session() as session:
            session.execute(text("SELECT 1"))
            release.wait(10)

    assert state() == (0, 0, 2, 0)
    with ThreadPoolExecutor(3) as threads:
        holding = [threads.submit(hold) for _ in range(3)]
        wait_until(lambda: state() == (0, 2, 2, 1), "two hold a connection, and one waits", timeout=5)
        release.set()
        for each in holding:
            each.result()
    assert state() == (2, 0, 2, 0)
    database.dispose()
    assert state() == (0, 0, 2, 0)


WORKER = """
import sys
from registration_persistence import Database, DatabaseSettings, RegistrationRepository
from registration_persistence.telemetry import prometheus
database = Database(DatabaseSettings.from_env())
prometheus.instrument(database)
database.run(lambda session: RegistrationRepository(session).find_by_email("ada@example.com"))
database.dispose()
"""

COLLECTOR = """
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def test_workers_are_added_up(database_settings: DatabaseSettings, tmp_path: Path) -> None:
    """In the multiprocess mode of `prometheus_client`, one scrape has the units of work of all processes."""
    environment = python_environment(**variables_of(database_settings), PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    workers = [subprocess.Popen([sys.executable, "-c", WORKER], env=environment) for _ in range(2)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    page = subprocess.run(
        [sys.executable, "-c", COLLECTOR], env=environment, check=True, timeout=60, capture_output=True, text=True
    ).stdout

    assert 'registration_persistence_unit_of_work_seconds_count{outcome="kept"} 2.0' in page
    assert 'registration_persistence_connection_opened_total{cause="cold"} 2.0' in page
    assert "pool_" not in page
