"""The files of GitHub in the repository, as data."""

from pathlib import Path
from typing import Any

import yaml
from deployment.fake_cloud import ROOT

WORKFLOWS = ROOT / ".github" / "workflows"


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the content of the file *path*; every value is a string."""
    found = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506 this loader creates only strings
    assert isinstance(found, dict)
    return found


def workflow(name: str) -> dict[str, Any]:
    """Return the workflow of the file *name*."""
    return read_yaml(WORKFLOWS / name)
