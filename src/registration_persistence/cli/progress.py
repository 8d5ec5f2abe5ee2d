"""Progress bars on a terminal. They need the extra `cli`; without it, nothing is shown."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

Show = Callable[[int], None]
"""Sets the number that is done."""


def counting_bar(title: str, *, hidden: bool = False) -> AbstractContextManager[Show]:
    """Return a bar that shows how much is done if the total is unknown, and hands over its `Show`.

    Args:
        title: The text in front of the bar.
        hidden: Whether nothing is shown, also on a terminal. Defaults to false.
    """
    try:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    except ImportError:
        return nullcontext(_show_nothing)
    return _bar(
        TextColumn(title),
        BarColumn(),
        TextColumn("{task.completed:,.0f}"),
        TimeElapsedColumn(),
        total=None,
        hidden=hidden,
    )


def percentage_bar(title: str, total: int | None, *, hidden: bool = False) -> AbstractContextManager[Show]:
    """Return a bar that shows the percentage that is done, and hands over its `Show`.

    Args:
        title: The text in front of the bar.
        total: The number that is 100 %, or `None` if it is unknown.
        hidden: Whether nothing is shown, also on a terminal. Defaults to false.
    """
    try:
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    except ImportError:
        return nullcontext(_show_nothing)
    percentage = TextColumn("{task.percentage:>3.0f} %")
    return _bar(TextColumn(title), BarColumn(), percentage, TimeRemainingColumn(), total=total, hidden=hidden)


@contextmanager
def _bar(*columns: "ProgressColumn", total: int | None, hidden: bool) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)


def _show_nothing(_done: int) -> None:
    """Show nothing, because rich is not installed."""
