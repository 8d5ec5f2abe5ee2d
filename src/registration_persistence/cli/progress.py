"""Progress bars on a terminal. They need the extra `cli`; without it, nothing is shown."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Show = Callable[[int], None]
"""Sets the number that is done."""

_NUMBER = "{task.completed:,.0f}"
_PERCENTAGE = "{task.percentage:>3.0f} %"


def counting_bar(title: str, total: Callable[[], int | None], *, hidden: bool = False) -> AbstractContextManager[Show]:
    """Return a bar that shows the number that is done and the time left, and hands over its `Show`.

    Args:
        title: The text in front of the bar.
        total: Returns the number of all, or `None` if it is unknown; called only if there is a bar, because it counts
            rows.
        hidden: Whether nothing is shown, also on a terminal. Defaults to false.
    """
    return _bar(title, _NUMBER, total, hidden=hidden)


def percentage_bar(title: str, total: int | None, *, hidden: bool = False) -> AbstractContextManager[Show]:
    """Return a bar that shows the percentage that is done and the time left, and hands over its `Show`.

    Args:
        title: The text in front of the bar.
        total: The number that is 100 %, or `None` if it is unknown.
        hidden: Whether nothing is shown, also on a terminal. Defaults to false.
    """
    return _bar(title, _PERCENTAGE, lambda: total, hidden=hidden)


def _bar(title: str, done: str, total: Callable[[], int | None], *, hidden: bool) -> AbstractContextManager[Show]:
    if hidden:
        return nullcontext(_show_nothing)
    try:
        from rich.console import Console
    except ImportError:
        return nullcontext(_show_nothing)
    if not Console(stderr=True).is_terminal:
        return nullcontext(_show_nothing)
    return _shown_bar(title, done, total())


@contextmanager
def _shown_bar(title: str, done: str, total: int | None) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), TextColumn(done), TimeRemainingColumn(elapsed_when_finished=True))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda completed: progress.update(task, completed=completed)


def _show_nothing(_done: int) -> None:
    """Show nothing: there is no terminal, or rich is not installed."""
