"""The fixture of the deployment tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment.fake_cloud import Cloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """Return a fake AWS in which every operation succeeds."""
    cloud = Cloud(tmp_path)
    yield cloud
    cloud.close()
