"""The shipped monitors and dashboards: valid, complete, readable, and in agreement with the package's events."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datadog_command import DATADOG, INFRA, Command
from registration_infra import ENVIRONMENTS

from registration_persistence.database import DatabaseEvent

DOCS = INFRA.parent / "docs"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_shipped_file_is_valid_in_each_environment(shipped: Command, environment: str) -> None:
    """Every file is accepted, keeps no placeholder, and watches only the cluster of its environment."""
    bodies = shipped.bodies(environment)

    files = {f"{kind}/{path.stem}" for kind in ("monitors", "dashboards") for path in (DATADOG / kind).glob("*.json")}
    assert files - bodies.keys() == {"monitors/replica-lag"}
    text = json.dumps(bodies)
    assert "${" not in text
    for scope in re.findall(r"aws\.rds\.\w+\{(.*?)\}", text):
        assert scope == f"dbclusteridentifier:registration-{environment}"
    for scope in re.findall(r"aws\.lambda\.\w+\{(.*?)\}", text):
        assert scope.startswith(f"functionname:registration-{environment}-")
    for other in set(ENVIRONMENTS) - {environment}:
        assert f"registration-{other}" not in text
        assert f"env:{other}" not in text


def test_each_need_is_watched(shipped: Command) -> None:
    """Capacity, connections, memory, deadlocks, transaction ids, CPU, rotation, migration and the package's events."""
    assert shipped.bodies().keys() == {
        "dashboards/database",
        *(
            f"monitors/{name}"
            for name in (
                "acu-utilisation",
                "commit-outcome-unknown",
                "connections",
                "connections-lost",
                "cpu",
                "database-not-ready",
                "deadlocks",
                "freeable-memory",
                "logins-rejected",
                "migration-errors",
                "no-slot",
                "old-snapshot",
                "retries",
                "rotation-errors",
                "secret-stale",
                "transaction-id-age",
            )
        ),
    }


@pytest.mark.parametrize("path", sorted((DATADOG / "monitors").glob("*.json")), ids=lambda path: path.stem)
def test_each_message_says_what_to_do(path: Path) -> None:
    """A message names the problem, its effect on users and the page to read, and the page exists."""
    message = json.loads(path.read_text(encoding="utf-8"))["message"]

    assert re.match(r"Problem: .+\n\nEffect on users: .+\n\nRead: docs/.+\n\n\$\{notify\}$", message)
    pages = re.findall(r"docs/([a-z/-]+\.md)", message)
    assert pages[0].startswith("runbooks/")
    for page in pages:
        assert (DOCS / page).exists()
    for page, section in re.findall(r'docs/([a-z/-]+\.md), "(.+?)"', message):
        assert f"\n## {section}\n" in (DOCS / page).read_text(encoding="utf-8")


def test_log_queries_use_events_of_the_package(shipped: Command) -> None:
    """Each event and cause in a query is documented by `DatabaseEvent`, and the cause belongs to the event."""
    documented: dict[str, set[str]] = {}
    for item in re.split(r"\n\s+- ", DatabaseEvent.__doc__ or "")[1:]:
        name, *reasons = re.findall(r"`([a-z_]+)`", item.partition("seconds:")[0])
        documented[name] = set(reasons)
    queries = list(_log_queries(shipped.bodies()))

    assert documented["connection_opened"] >= {"cold", "rotation", "thaw", "writer_moved", "lost"}
    assert len(queries) > 20
    for query in queries:
        start, _, rest = query.partition(" @event:")
        event, _, causes = rest.partition(" @cause:")
        assert start == "env:dev @logger:registration_persistence.database"
        assert set(re.findall(r"\w+", causes)) - {"OR"} <= documented[event], query


def _log_queries(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "query" and isinstance(item, str) and item.startswith("env:"):
                yield item
            else:
                yield from _log_queries(item)
    elif isinstance(value, list):
        for item in value:
            yield from _log_queries(item)
    elif isinstance(value, str) and value.startswith('logs("'):
        yield value.removeprefix('logs("').partition('").index(')[0]
