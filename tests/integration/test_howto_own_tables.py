"""The files of docs/howto/your-own-tables.md are those of the example, and a service whose tests pass."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from registration_persistence.sandbox import PostgresServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/your-own-tables.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples/campaign_service"
FILES = dict(re.findall(r"```python\n# ([\w/]+\.py)\n(.*?)```", PAGE, re.DOTALL))
CHANGES = re.findall(r"```diff\n # ([\w/]+\.py)\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_shows_the_example() -> None:
    """Every code block is a file of the example, and every file of the example is on the page."""
    assert len(FILES) == PAGE.count("```python")
    assert {str(path.relative_to(EXAMPLE)): path.read_text(encoding="utf-8") for path in python_files()} == FILES


def python_files() -> list[Path]:
    """Return the Python files of the example."""
    return [path for path in EXAMPLE.rglob("*.py") if path.name != "__init__.py"]


@pytest.mark.parametrize("schema", ["public", "campaigns"])
def test_the_page_is_a_service_whose_tests_pass(schema: str, tmp_path: Path, command_server: PostgresServer) -> None:
    """With the files of `alembic init` and of the page, every test passes, in the same schema and in another one."""
    url = f"postgresql://{command_server.user}:{command_server.password}@{command_server.host}:{command_server.port}"
    run(tmp_path, "alembic", "init", "campaigns/migrations")
    for name, content in (FILES if schema == "public" else changed_files()).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")

    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-W", "error", "-o", "pythonpath=."]
    options += [
        f"-pno:{plugin}" for plugin in ("asyncio", "pytest_alembic", "schemathesis")
    ]  # of the tests of this package
    selection = [] if schema == "public" else ["-k", "not forgotten and not lambda"]  # in one cluster is enough
    output = run(tmp_path, "pytest", *options, *selection, TEST_POSTGRES_URL=url)

    assert ("5 passed" if schema == "public" else "3 passed") in output


def changed_files() -> dict[str, str]:
    """Return the files after the changes for another schema."""
    files = dict(FILES)
    for name, hunk in CHANGES:
        lines = hunk.splitlines(keepends=True)
        before, after = ("".join(line[1:] for line in lines if line[0] in kinds) for kinds in (" -", " +"))
        assert files[name].count(before) == 1, before
        files[name] = files[name].replace(before, after)
        assert "public.campaign_members" not in (after, before)
    return {name: text.replace("public.campaign_members", "campaigns.campaign_members") for name, text in files.items()}


def run(folder: Path, module: str, *arguments: str, **environ: str) -> str:
    """Run a module of this interpreter in *folder*, which must succeed, and return its output."""
    path = os.pathsep.join(each for each in sys.path if each and not Path(each).is_relative_to(EXAMPLE))
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
