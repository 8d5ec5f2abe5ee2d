"""The timeline of `chaos`: an SVG with a dot for each request, over the faults during which they began."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from registration_persistence.errors import InvalidInput, RegistrationPersistenceError
from registration_persistence.sandbox.chaos.load import Record
from registration_persistence.sandbox.chaos.report import Phase

_WIDTH, _HEIGHT = 1280, 670

_LEFT, _RIGHT, _TOP, _BOTTOM = 96, 1176, 190, 570

_INK, _FAINT = "#1f2933", "#52606d"

_TEXT = f"fill='{_INK}' font-size='13' font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"

# Seconds between the marks of the axis of time, of which the first is taken that gives few enough.
_STEPS = (1, 2, 5, 10, 20, 30, 60, 120)

_MOST_MARKS = 15


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    colour: str
    radius: float
    legend: int


# Told apart by size as well as by colour; the last number is the place in the legend.
_OK = _Kind("answered at the first attempt", "#2f6fb7", 1.6, 0)

_RETRIED = _Kind("answered after another attempt", "#e08700", 3.0, 220)

_FAILED = _Kind("failed", "#b3001b", 4.2, 470)

_KINDS = (_OK, _RETRIED, _FAILED)


class _Scale:
    """Places a moment and a latency on the drawing."""

    def __init__(self, records: Sequence[Record], phases: Sequence[Phase]) -> None:
        self.start, self.end = phases[0].began, phases[-1].ended
        latencies = [record.seconds for record in records] or [0.001]
        self.lowest = math.floor(math.log10(max(min(latencies), 0.0001)))
        self.highest = max(self.lowest + 1, math.ceil(math.log10(max(latencies))))

    def x(self, moment: float) -> float:
        share = (moment - self.start) / (self.end - self.start)
        return _LEFT + min(max(share, 0), 1) * (_RIGHT - _LEFT)

    def y(self, seconds: float) -> float:
        share = (math.log10(max(seconds, 0.0001)) - self.lowest) / (self.highest - self.lowest)
        return _BOTTOM - min(max(share, 0), 1) * (_BOTTOM - _TOP)


def check_writable(file: Path) -> None:
    """See that a timeline can be written.

    Raises:
        InvalidInput: It cannot; the message says why.
    """
    if file.suffix != ".svg":
        raise InvalidInput(f"{file} is no name for a timeline: expected one that ends in .svg")
    try:
        with file.open("a", encoding="utf-8"):  # os.access would promise root too much
            pass
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written: {error.strerror}") from error


def write(file: Path, records: Sequence[Record], phases: Sequence[Phase], caption: str) -> None:
    """Write what `draw` returns.

    Raises:
        RegistrationPersistenceError: *file* cannot be written any more.
    """
    try:
        file.write_text(draw(records, phases, caption), encoding="utf-8")
    except OSError as error:
        raise RegistrationPersistenceError(f"cannot write {file}: {error.strerror}") from error


def draw(records: Sequence[Record], phases: Sequence[Phase], caption: str) -> str:
    """Return the drawing.

    Args:
        records: The requests.
        phases: The faults, in the order in which they happened; at least one.
        caption: What it shows, in one line.
    """
    scale = _Scale(records, phases)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' {_TEXT}>",
        "<title>Sign-ups while things go wrong</title>",
        f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='#ffffff'/>",
        f"<text x='{_LEFT}' y='36' font-size='20' font-weight='600'>Sign-ups while things go wrong</text>",
        f"<text x='{_LEFT}' y='60' fill='{_FAINT}'>{escape(caption)}</text>",
        *_bands(scale, phases),
        *_axis_of_time(scale),
        *_axis_of_latency(scale),
        *_dots(scale, records),
        *_legend(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _bands(scale: _Scale, phases: Iterable[Phase]) -> Iterator[str]:
    """Shade the time of each fault, darker while it lasts; names are slanted, so that short times do not cover them."""
    for number, phase in enumerate(phases):
        left, over, right = scale.x(phase.began), scale.x(phase.over), scale.x(phase.ended)
        ground = "#f3f5f8" if number % 2 else "#fafbfc"
        yield _rectangle(left, right, ground)
        yield _rectangle(left, over, "#fbe3d0")
        yield f"<path d='M{left:.1f} {_TOP - 8}V{_BOTTOM}' stroke='#cbd2d9'/>"
        at = f"{left + 6:.1f} {_TOP - 10}"
        yield f"<text transform='translate({at}) rotate(-35)'>{escape(phase.fault)}</text>"


def _rectangle(left: float, right: float, colour: str) -> str:
    return f"<rect x='{left:.1f}' y='{_TOP}' width='{right - left:.1f}' height='{_BOTTOM - _TOP}' fill='{colour}'/>"


def _axis_of_time(scale: _Scale) -> Iterator[str]:
    length = scale.end - scale.start
    step = next((step for step in _STEPS if length / step <= _MOST_MARKS), _STEPS[-1])
    for mark in range(0, math.floor(length) + 1, step):
        x = scale.x(scale.start + mark)
        yield f"<path d='M{x:.1f} {_BOTTOM}v6' stroke='{_FAINT}'/>"
        yield f"<text x='{x:.1f}' y='{_BOTTOM + 22}' text-anchor='middle'>{mark}</text>"
    middle = (_LEFT + _RIGHT) / 2
    label = "when the request began (s)"
    yield f"<text x='{middle}' y='{_BOTTOM + 46}' text-anchor='middle' fill='{_FAINT}'>{label}</text>"


def _axis_of_latency(scale: _Scale) -> Iterator[str]:
    for power in range(scale.lowest, scale.highest + 1):
        y = scale.y(10.0**power)
        label = f"{10**power} s" if power >= 0 else f"{10.0 ** (power + 3):g} ms"
        yield f"<path d='M{_LEFT} {y:.1f}H{_RIGHT}' stroke='#d5dbe1'/>"
        yield f"<text x='{_LEFT - 10}' y='{y + 4:.1f}' text-anchor='end'>{label}</text>"
    middle = (_TOP + _BOTTOM) / 2
    yield (
        f"<text transform='translate(24 {middle}) rotate(-90)' text-anchor='middle' fill='{_FAINT}'>"
        "time to the answer (log scale)</text>"
    )


def _dots(scale: _Scale, records: Iterable[Record]) -> Iterator[str]:
    """Draw, of all dots of one kind that share a column of pixels, the lowest and the highest."""
    columns: dict[tuple[_Kind, int], tuple[tuple[float, float], tuple[float, float]]] = {}
    for record in records:
        dot = (scale.y(record.seconds), scale.x(record.began))
        place = (_kind(record), int(dot[1]))
        highest, lowest = columns.get(place, (dot, dot))
        columns[place] = (min(highest, dot), max(lowest, dot))
    for kind in _KINDS:
        drawn = sorted({dot for (of, _), ends in columns.items() if of is kind for dot in ends})
        yield f"<g fill='{kind.colour}' fill-opacity='0.75'>"
        yield from (f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{kind.radius}'/>" for y, x in drawn)
        yield "</g>"


def _kind(record: Record) -> _Kind:
    if record.outcome != "ok":
        return _FAILED
    return _RETRIED if record.attempts > 1 else _OK


def _legend() -> Iterator[str]:
    y = _HEIGHT - 20
    for kind in _KINDS:
        x = _LEFT + kind.legend
        yield f"<circle cx='{x + 5}' cy='{y - 4}' r='{max(kind.radius, 3)}' fill='{kind.colour}'/>"
        yield f"<text x='{x + 16}' y='{y}'>{kind.name}</text>"
    x = _LEFT + 580
    yield f"<rect x='{x}' y='{y - 11}' width='14' height='14' fill='#fbe3d0' stroke='#cbd2d9'/>"
    yield f"<text x='{x + 22}' y='{y}'>while the fault lasts</text>"
