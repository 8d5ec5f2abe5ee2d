"""The files of docs/howto/test-your-service.md are a test suite that passes."""

import re
import subprocess
import sys
from pathlib import Path

from processes import PYTEST, python_environment

PAGE = Path(__file__).parents[2] / "docs/howto/test-your-service.md"


def test_the_page_is_a_test_suite_that_passes(tmp_path: Path) -> None:
    """In a folder with only the files of the page, every test runs and passes."""
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        name = re.match(r"# ([a-z_]+\.py)\n", block)
        assert name, "a code block has no file name"
        (tmp_path / name[1]).write_text(block, encoding="utf-8")

    command = [sys.executable, *PYTEST]
    run = subprocess.run(
        [*command, "--import-mode=importlib", "-o", "pythonpath=."],
        cwd=tmp_path,
        env=python_environment(DOCKER_HOST="unix:///nowhere"),
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "9 passed" in run.stdout


def test_the_page_names_every_fixture() -> None:
    """The table of the page lists the faults of the plugin, and nothing else."""
    from registration_persistence.testing import faults

    table = set(re.findall(r"^\| `(\w+)\(", PAGE.read_text(encoding="utf-8"), re.MULTILINE))

    assert table <= set(vars(faults))
    assert {"rotate", "fail_over", "restart", "pause", "read_only", "fill_slots", "drop_packets", "freeze"} <= table
