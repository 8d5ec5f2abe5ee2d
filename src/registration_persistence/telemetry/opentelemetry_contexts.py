"""`EnteredContext`: the context of a span, which may be left in another order, thread or task than it was entered."""

from contextvars import ContextVar

from opentelemetry import context


class EnteredContext:
    """A context of OpenTelemetry, entered at once.

    Args:
        inside: The context.

    Attributes:
        inside: The context.
        around: The context before it.
        outer: The one that was entered before.
        has_ended: Whether it is left, or will be when those in it are.
    """

    __slots__ = ("around", "has_ended", "inside", "outer")

    def __init__(self, inside: context.Context) -> None:
        self.inside: context.Context = inside
        self.around: context.Context = context.get_current()
        self.outer: EnteredContext | None = _innermost.get()
        self.has_ended: bool = False
        context.attach(inside)
        _innermost.set(self)

    def leave(self) -> None:
        """Leave the context as soon as those that were entered in it have been left."""
        self.has_ended = True
        leave_ended_contexts()


_innermost: ContextVar[EnteredContext | None] = ContextVar("entered", default=None)


def leave_ended_contexts() -> None:
    """Leave the innermost contexts of this thread or task that have ended; otherwise later spans would belong to them.

    A token of OpenTelemetry cannot be used in another thread or task, so the context around is entered instead.
    """
    entered = _innermost.get()
    while entered is not None and entered.has_ended:
        if context.get_current() is entered.inside:
            context.attach(entered.around)
        entered = entered.outer
    _innermost.set(entered)
