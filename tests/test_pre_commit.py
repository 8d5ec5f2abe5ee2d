"""The checks before each commit, run by pre-commit in a repository of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = Path(sys.executable).parent


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the hooks, the settings and the programs of this one."""
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(PROGRAMS)
    (tmp_path / ".gitignore").write_text(".venv/\n")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def commit(repository: Path, **files: str) -> tuple[int, str]:
    """Add *files*, whose names have `__` instead of a dot, and run the hooks on the changes; without network."""
    for name, text in files.items():
        (repository / name.replace("__", ".")).write_text(text)
    subprocess.run(["git", "add", "."], cwd=repository, check=True)
    unreachable = {"https_proxy": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}
    done = subprocess.run(
        [PROGRAMS / "pre-commit", "run", "--color=never"],
        cwd=repository,
        env={"PATH": os.environ["PATH"], "HOME": str(repository / ".venv"), **unreachable},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_hooks_find_what_make_lint_finds(repository: Path) -> None:
    """A clean change passes; style, formatting, spelling and an action without a commit are refused."""
    code, output = commit(repository, module__py='"""A module."""\n', page__md="# Title\n\nA sentence.\n")
    assert code == 0, output
    assert output.count("Passed") == 4

    workflow = repository / ".github" / "workflows" / "ci.yml"
    lines = workflow.read_text().splitlines()
    workflow.write_text("\n".join(line.partition("@")[0] + "@v7" if "checkout@" in line else line for line in lines))
    misspelled = "recieve"  # codespell:ignore recieve
    code, output = commit(
        repository, module__py='"""A module."""\nimport os\nA = {  }\n', page__md=f"To {misspelled}.\n"
    )

    assert code == 1
    assert output.count("Failed") == 4
    for found in ("F401", "receive", "unpinned-uses"):
        assert found in output
