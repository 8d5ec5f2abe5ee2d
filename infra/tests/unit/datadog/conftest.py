"""Fixtures: a stand-in for Datadog, and the command in a copy of the shipped files."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datadog_command import DATADOG, INFRA, Command
from fake_datadog import FakeDatadog


@pytest.fixture
def datadog() -> Iterator[FakeDatadog]:
    """Return an empty Datadog."""
    server = FakeDatadog()
    yield server
    server.close()


@pytest.fixture
def shipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return the command in a copy of the shipped files."""
    shutil.copytree(INFRA / "environments", tmp_path / "environments")
    for name in ("monitors", "dashboards"):
        shutil.copytree(DATADOG / name, tmp_path / "datadog" / name)
    return Command(tmp_path, capsys)


@pytest.fixture
def command(shipped: Command) -> Command:
    """Return the command with a short dashboard, because the check of the complete one takes most of a run."""
    shipped.edit("dashboards/database", _shorten)
    return shipped


def _shorten(dashboard: dict[str, Any]) -> None:
    del dashboard["widgets"][2:]
    for group in dashboard["widgets"]:
        del group["definition"]["widgets"][1:]
