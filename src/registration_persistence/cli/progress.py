"""Progress bars on a terminal. Needs the extra `cli`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def counting_bar(title: str) -> Iterator[Callable[[int], None]]:
    """Show how much is done if the total is unknown.

    Yields:
        The function that sets the number that is done.
    """
    columns = (TextColumn(title), BarColumn(), TextColumn("{task.completed:,.0f}"), TimeElapsedColumn())
    with _bar(*columns, total=None) as update:
        yield update


@contextmanager
def percentage_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show the percentage that is done.

    Args:
        title: The text in front of the bar.
        total: The number that is 100 %, or `None` if it is unknown.

    Yields:
        The function that sets the number that is done.
    """
    columns = (TextColumn(title), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    with _bar(*columns, total=total) as update:
        yield update


@contextmanager
def _bar(*columns: ProgressColumn, total: int | None) -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)
