"""The run on the asynchronous side: its lists are right, its tasks act like threads, and it finds blocking calls."""

import ast
import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from awaited.exclusions import EXCLUDED, TASKS
from awaited.harness import is_named
from awaited.side import run_in_loop
from awaited.tasks import TaskBarrier, TaskEvent, TaskExecutor, TaskThread, fork, sleep

TESTS = Path(__file__).parents[1]


def modules() -> Iterator[Path]:
    """Yield the modules that may be in the lists."""
    yield TESTS / "races.py"
    for folder in ("integration", "resilience"):
        yield from (TESTS / folder).rglob("test_*.py")


def test_the_lists_have_names_that_exist() -> None:
    """Each excluded test is a function of its module, and each module with tasks imports a class of threads."""
    tests: set[str] = set()
    imported: set[str] = set()
    for path in modules():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                tests.add(f"{path.stem}::{node.name}")
            if isinstance(node, ast.ImportFrom) and node.module in {"threading", "concurrent.futures"}:
                imported |= {path.stem, *(f"{path.stem}.{each.name}" for each in node.names)}

    assert set() == {name.partition("[")[0] for name in EXCLUDED} - tests
    assert set() == TASKS - imported
    assert all(excluded.reason for excluded in EXCLUDED.values())


def test_an_excluded_case_is_one_of_its_test() -> None:
    """A name without a case means every case."""
    assert is_named("test_pool", "test_it", "test_pool::test_it")
    assert is_named("test_pool", "test_it[embedded-1-False]", "test_pool::test_it")
    assert is_named("test_pool", "test_it[embedded-1-False]", "test_pool::test_it[1-False]")
    assert not is_named("test_pool", "test_it[embedded-1-True]", "test_pool::test_it[1-False]")
    assert not is_named("test_pool", "test_it_too", "test_pool::test_it")
    assert not is_named("test_run", "test_it", "test_pool::test_it")


def test_a_task_does_what_a_thread_does() -> None:
    """Tasks wait for each other at a barrier, for an event and for results, and the error of a call is raised."""

    def use_tasks() -> tuple[list[int], bool, list[str]]:
        barrier, event, order = TaskBarrier(3), TaskEvent(), list[str]()

        def meet(number: int) -> int:
            barrier.wait(5)
            order.append("met")
            return number

        def wait_for_event() -> None:
            event.wait()
            order.append("after the event")

        thread = TaskThread(wait_for_event, daemon=True)
        thread.start()
        with TaskExecutor(3) as executor:
            numbers = list(executor.map(meet, range(3)))
            with pytest.raises(ZeroDivisionError):
                executor.submit(lambda: 1 // 0).result()
            with pytest.raises(threading.BrokenBarrierError):
                executor.submit(barrier.wait, 0.01).result()
        was_alive = thread.is_alive()
        event.set()
        thread.join()
        return numbers, was_alive, order

    assert ([0, 1, 2], True, ["met"] * 3 + ["after the event"]) == run_in_loop(use_tasks, None)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_goes_on_in_its_own_loop() -> None:
    """The child and its parent both await, in two loops."""
    reader, writer = os.pipe()

    def fork_and_wait() -> int:
        child = fork()
        loop = id(asyncio.get_running_loop())
        sleep(0.01)
        if child == 0:
            os.write(writer, str(loop).encode())
            os._exit(0)
        os.waitpid(child, 0)
        sleep(0.01)
        return loop

    loop = run_in_loop(fork_and_wait, None)

    assert int(os.read(reader, 100)) != loop
    for descriptor in (reader, writer):
        os.close(descriptor)


def named(module: str, file: str, function: Callable[..., object]) -> Callable[..., None]:
    """Return a function of *module* that calls *function*."""
    file = str(TESTS / file) if module.startswith("tests.") else file
    scope: dict[str, Any] = {"__name__": module, "function": function}
    exec(compile("def call(*arguments):\n    function(*arguments)", file, "exec"), scope)  # noqa: S102 a made-up module
    made: Callable[..., None] = scope["call"]
    return made


def call_and_wait(function: Callable[..., None], *arguments: object) -> None:
    """Call *function*, then let the loop run until its callback has been looked at."""
    function(*arguments)
    sleep(0.05)


@pytest.mark.parametrize(
    ("module", "is_found"),
    [
        ("registration_persistence.database.made_up", True),
        ("registration_persistence.outbox_worker.made_up", True),
        ("registration_persistence.sandbox.made_up", False),
        ("tests.resilience.test_made_up", False),
    ],
)
def test_a_blocking_call_of_the_package_is_found(tmp_path: Path, module: str, is_found: bool) -> None:  # noqa: FBT001 parametrized
    """The package is reported if it blocks the loop for 0.1 s, and a test is not, even if the package calls it."""
    report = tmp_path / "slow callbacks"
    blocks = named(module, "made_up.py", threading.Event().wait)
    calls_it = named("registration_persistence.database.retry", "retry.py", blocks)

    run_in_loop(partial(call_and_wait, calls_it, 0.15), report)

    assert is_found == report.exists()
    assert not is_found or "made_up.py:2 in call" in report.read_text()


def test_an_import_of_the_package_is_not_slow(tmp_path: Path) -> None:
    """It counts as the test that imports it, and as the package if a function of the package imports it."""
    wait = threading.Event().wait
    body = {"__name__": "registration_persistence.made_up", "wait": wait}
    code = compile("wait(0.15)", "made_up.py", "exec")
    for module in ("tests.test_made_up", "registration_persistence.database.made_up"):
        report = tmp_path / module
        imports = named(module, "made_up.py", exec)
        run_in_loop(partial(call_and_wait, imports, code, body), report)

    assert ["registration_persistence.database.made_up"] == [path.name for path in tmp_path.iterdir()]


def test_short_waits_and_awaited_ones_are_not_slow(tmp_path: Path) -> None:
    """The package may take less than 0.05 s in a callback, and wait for any time."""
    report = tmp_path / "slow callbacks"
    computes = named("registration_persistence.database.made_up", "made_up.py", threading.Event().wait)

    def work() -> None:
        for _ in range(10):
            computes(0.01)
            sleep(0.01)

    run_in_loop(work, report)

    assert not report.exists()


def test_a_garbage_collection_is_not_slow(tmp_path: Path) -> None:
    """It takes longer the more objects the tests have, whatever code is running when it begins."""
    report = tmp_path / "slow callbacks"
    collects = named("registration_persistence.database.made_up", "made_up.py", gc.collect)
    objects: list[list[int]] = [[] for _ in range(500_000)]

    def work() -> None:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            collects()
        sleep(0.05)

    run_in_loop(work, report)

    assert objects
    assert not report.exists()


def test_the_package_must_not_call_time_sleep() -> None:
    """It would block the event loop, however short it is; the sandbox may, and a source of credentials by itself."""
    blocks = named("registration_persistence.outbox_worker.worker", "worker.py", sleep)
    with pytest.raises(AssertionError, match=r"called time\.sleep"):
        run_in_loop(lambda: blocks(0), None)

    waits = named("registration_persistence.database.waits", "waits.py", sleep)
    with pytest.raises(AssertionError, match=r"waits called time\.sleep"):
        run_in_loop(lambda: waits(0), None)
    called_by_bootstrap = named("registration_persistence.schema.bootstrap", "bootstrap.py", waits)
    run_in_loop(lambda: called_by_bootstrap(0), None)
    source = named("registration_persistence.database.credentials.made_up", "made_up.py", sleep)
    run_in_loop(lambda: source(0), None)
    called_by_service = named("registration_persistence.database.connector", "connector.py", source)
    with pytest.raises(AssertionError, match=r"credentials\.made_up called time\.sleep"):
        run_in_loop(lambda: called_by_service(0), None)

    started = time.monotonic()
    run_in_loop(lambda: named("registration_persistence.sandbox.waiting", "waiting.py", sleep)(0.01), None)
    assert time.monotonic() - started >= 0.01
