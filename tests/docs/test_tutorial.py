"""The tutorial is executed as a newcomer would do it."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from page_blocks import PageRun

ROOT = Path(__file__).parents[2]
PEOPLE = "email,display_name,locale,source,terms_version,newsletter\ngrace@example.com,Grace,en-GB,web,2026-01,yes\n"
# The demo runs already, with fewer people, and the packages are those of this environment.
SKIPPED = ("make demo", "pip install")
# Plugins of this environment, which a service does not have.
PLUGINS = " ".join(
    f"-p no:{name}" for name in ("asyncio", "pytest_alembic", "schemathesis", "ddtrace", "cacheprovider")
)


def test_each_command_of_the_tutorial_has_the_printed_output(tmp_path: Path) -> None:
    """Every file is written, every command succeeds, and every output is the printed one."""
    page = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    folder = tmp_path / "campaign"
    folder.mkdir()
    with running_demo(tmp_path) as exported:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        run = PageRun(
            folder, {"PATH": path, "PYTEST_ADDOPTS": PLUGINS, "TEST_POSTGRES_KIND": "embedded", **exported}, SKIPPED
        )
        run.follow(page)

    assert run.commands == page.count("```sh\n") - len(SKIPPED)
    assert run.commands > 8


@contextmanager
def running_demo(folder: Path) -> Iterator[dict[str, str]]:
    """Start the demo with `--keep`, and yield the variables that it tells a reader to export."""
    (folder / "people.csv").write_text(PEOPLE, encoding="utf-8")
    command = [sys.executable, "-m", "registration_persistence", "demo", "--keep", "people.csv"]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        assert demo.stdout
        assert demo.stdin
        try:
            printed = []
            for line in demo.stdout:
                printed.append(line)
                if "Press Enter" in line:
                    break
            words = [shlex.split(line) for line in printed if line.startswith("  export ")]
            assert words, "".join(printed)
            yield dict(word[1].split("=", 1) for word in words)
        finally:
            demo.stdin.close()
            demo.terminate()
