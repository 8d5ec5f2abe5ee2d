"""pytest in a greenlet of an event loop: its plugin, and the options of `tests/awaited/run.py`."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import pytest
from awaited.exclusions import EXCLUDED, TASKS
from awaited.side import await_every_wait, run_in_loop, start_handlers_in_loops
from awaited.tasks import replace_threads


def run(arguments: list[str], *, debug: bool) -> int:
    """Run pytest with *arguments* on the asynchronous side, and return its exit code.

    Args:
        arguments: The command line of pytest.
        debug: Whether the loops run in asyncio's debug mode, and a test fails if the package blocks its loop.
    """
    await_every_wait()
    with TemporaryDirectory() as folder:
        report = Path(folder) / "slow callbacks" if debug else None
        start_handlers_in_loops(report)
        return run_in_loop(lambda: pytest.main(arguments, [Plugin(report)]), report)


class Plugin:
    """Replaces the threads of the tests with tasks, and marks the tests that fail on the asynchronous side.

    Args:
        report: The file in which slow callbacks are reported, by this process and the processes of handlers. `None`:
            they are not watched.
    """

    def __init__(self, report: Path | None) -> None:
        self._report = report

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Prepare the modules and the items."""
        for name, module in _modules_of(items).items():
            replace_threads(module, name, TASKS)
            if hasattr(module, "freeze_time"):  # it would freeze the loop, too
                setattr(module, "freeze_time", partial(module.freeze_time, real_asyncio=True))  # noqa: B010 a module has no such attribute for mypy
        for item in items:
            for name, excluded in EXCLUDED.items():
                if is_named(item.path.stem, item.name, name):
                    item.add_marker(pytest.mark.xfail(reason=excluded.reason, run=excluded.is_run, strict=True))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Iterator[None]:
        """Fail if the package blocked its loop."""
        yield
        if self._report is not None and self._report.exists():
            found = self._report.read_text()
            self._report.unlink()
            pytest.fail(found, pytrace=False)


def _modules_of(items: list[pytest.Item]) -> dict[str, ModuleType]:
    """Return the modules of *items* and the module that starts threads for them, by the last part of the name."""
    modules = {item.path.stem: item.getparent(pytest.Module) for item in items}
    loaded = {"races": sys.modules["races"]} if "races" in sys.modules else {}
    return loaded | {name: module.obj for name, module in modules.items() if module is not None}


def is_named(module: str, test: str, excluded: str) -> bool:
    """Return whether *excluded*, a key of `EXCLUDED`, means the test that pytest calls *test*."""
    name, _, case = excluded.removesuffix("]").partition("[")
    function, _, cases = test.removesuffix("]").partition("[")
    return f"{module}::{function}" == name and case in cases
