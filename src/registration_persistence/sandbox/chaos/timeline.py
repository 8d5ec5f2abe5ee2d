"""The timeline of `chaos`: an SVG drawing with a dot for each request, over the phases of the faults."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never
from xml.sax.saxutils import escape

from registration_persistence.errors import InvalidInput, RegistrationPersistenceError
from registration_persistence.sandbox.chaos.evaluation import Phase
from registration_persistence.sandbox.chaos.load import Record

_WIDTH, _HEIGHT = 1280, 670
_LEFT, _RIGHT, _TOP, _BOTTOM = 96, 1176, 190, 570

_INK, _FAINT = "#1f2933", "#52606d"

_TEXT = f"fill='{_INK}' font-size='13' font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"

# Distances between the marks of the time axis; the smallest one that needs no more than the maximum of marks is used.
_MARK_STEPS_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120)

_MAX_MARKS = 15

# The latency axis is logarithmic, so it needs a minimum.
_MIN_LATENCY_SECONDS = 0.0001


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    colour: str
    radius: float
    legend_offset: int


# The kinds differ in size and in colour.
_OK = _Kind("answered at the first attempt", "#2f6fb7", 1.6, 0)

_RETRIED = _Kind("answered after more attempts", "#e08700", 3.0, 220)

_FAILED = _Kind("failed", "#b3001b", 4.2, 470)

_KINDS = (_OK, _RETRIED, _FAILED)


class _Scale:
    """Converts moments and latencies to coordinates."""

    def __init__(self, records: Sequence[Record], phases: Sequence[Phase]) -> None:
        self.start, self.end = phases[0].started_at, phases[-1].ended_at
        latencies = [record.seconds for record in records] or [0.001]
        self.min_power = math.floor(math.log10(max(min(latencies), _MIN_LATENCY_SECONDS)))
        self.max_power = max(self.min_power + 1, math.ceil(math.log10(max(latencies))))

    def x(self, moment: float) -> float:
        share = (moment - self.start) / (self.end - self.start)
        return _LEFT + min(max(share, 0), 1) * (_RIGHT - _LEFT)

    def y(self, seconds: float) -> float:
        power = math.log10(max(seconds, _MIN_LATENCY_SECONDS))
        share = (power - self.min_power) / (self.max_power - self.min_power)
        return _BOTTOM - min(max(share, 0), 1) * (_BOTTOM - _TOP)


def check_writable(file: Path) -> None:
    """Check that a timeline can be written to *file*.

    Raises:
        InvalidInput: The name does not end in `.svg`, or the file cannot be written.
    """
    if file.suffix != ".svg":
        raise InvalidInput(f"the timeline is {file}: expected a name that ends in .svg")
    try:
        with file.open("a", encoding="utf-8"):  # os.access is always true for root
            pass
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written: {error.strerror}") from error


def write(file: Path, records: Sequence[Record], phases: Sequence[Phase], caption: str) -> None:
    """Draw the timeline and write it to *file*.

    Args:
        file: The SVG file.
        records: The requests.
        phases: The phases of the faults, in their order; at least one.
        caption: Description of the drawing, in one line.

    Raises:
        RegistrationPersistenceError: *file* cannot be written.
    """
    try:
        file.write_text(draw(records, phases, caption), encoding="utf-8")
    except OSError as error:
        raise RegistrationPersistenceError(f"cannot write {file}: {error.strerror}") from error


def draw(records: Sequence[Record], phases: Sequence[Phase], caption: str) -> str:
    """Return the timeline as SVG.

    Args:
        records: The requests.
        phases: The phases of the faults, in their order; at least one.
        caption: Description of the drawing, in one line.
    """
    scale = _Scale(records, phases)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' {_TEXT}>",
        "<title>Sign-ups while faults happen</title>",
        f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='#ffffff'/>",
        f"<text x='{_LEFT}' y='36' font-size='20' font-weight='600'>Sign-ups while faults happen</text>",
        f"<text x='{_LEFT}' y='60' fill='{_FAINT}'>{escape(caption)}</text>",
        *_phase_bands(scale, phases),
        *_time_axis(scale),
        *_latency_axis(scale),
        *_dots(scale, records),
        *_legend(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _phase_bands(scale: _Scale, phases: Iterable[Phase]) -> Iterator[str]:
    """Shade each phase, darker while its fault lasts; names are slanted, so that short phases do not overlap them."""
    for number, phase in enumerate(phases):
        left, fault_end, right = scale.x(phase.started_at), scale.x(phase.fault_ended_at), scale.x(phase.ended_at)
        ground = "#f3f5f8" if number % 2 else "#fafbfc"
        yield _rectangle(left, right, ground)
        yield _rectangle(left, fault_end, "#fbe3d0")
        yield f"<path d='M{left:.1f} {_TOP - 8}V{_BOTTOM}' stroke='#cbd2d9'/>"
        at = f"{left + 6:.1f} {_TOP - 10}"
        yield f"<text transform='translate({at}) rotate(-35)'>{escape(phase.fault)}</text>"


def _rectangle(left: float, right: float, colour: str) -> str:
    return f"<rect x='{left:.1f}' y='{_TOP}' width='{right - left:.1f}' height='{_BOTTOM - _TOP}' fill='{colour}'/>"


def _time_axis(scale: _Scale) -> Iterator[str]:
    length = scale.end - scale.start
    step = next((step for step in _MARK_STEPS_SECONDS if length / step <= _MAX_MARKS), _MARK_STEPS_SECONDS[-1])
    for mark in range(0, math.floor(length) + 1, step):
        x = scale.x(scale.start + mark)
        yield f"<path d='M{x:.1f} {_BOTTOM}v6' stroke='{_FAINT}'/>"
        yield f"<text x='{x:.1f}' y='{_BOTTOM + 22}' text-anchor='middle'>{mark}</text>"
    middle = (_LEFT + _RIGHT) / 2
    label = "start of the request (s)"
    yield f"<text x='{middle}' y='{_BOTTOM + 46}' text-anchor='middle' fill='{_FAINT}'>{label}</text>"


def _latency_axis(scale: _Scale) -> Iterator[str]:
    for power in range(scale.min_power, scale.max_power + 1):
        y = scale.y(10.0**power)
        label = f"{10**power} s" if power >= 0 else f"{10.0 ** (power + 3):g} ms"
        yield f"<path d='M{_LEFT} {y:.1f}H{_RIGHT}' stroke='#d5dbe1'/>"
        yield f"<text x='{_LEFT - 10}' y='{y + 4:.1f}' text-anchor='end'>{label}</text>"
    middle = (_TOP + _BOTTOM) / 2
    yield (
        f"<text transform='translate(24 {middle}) rotate(-90)' text-anchor='middle' fill='{_FAINT}'>"
        "duration (log scale)</text>"
    )


def _dots(scale: _Scale, records: Iterable[Record]) -> Iterator[str]:
    """Draw the dots; of those of one kind in one column of pixels, only the lowest and the highest."""
    columns: dict[tuple[_Kind, int], tuple[tuple[float, float], tuple[float, float]]] = {}
    for record in records:
        dot = (scale.y(record.seconds), scale.x(record.started_at))
        place = (_kind(record), int(dot[1]))
        highest, lowest = columns.get(place, (dot, dot))
        columns[place] = (min(highest, dot), max(lowest, dot))
    for kind in _KINDS:
        drawn = sorted({dot for (of, _), ends in columns.items() if of is kind for dot in ends})
        yield f"<g fill='{kind.colour}' fill-opacity='0.75'>"
        yield from (f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{kind.radius}'/>" for y, x in drawn)
        yield "</g>"


def _kind(record: Record) -> _Kind:
    match record.outcome:
        case "ok":
            return _RETRIED if record.attempts > 1 else _OK
        case "failed" | "unknown":
            return _FAILED
        case _:
            assert_never(record.outcome)


def _legend() -> Iterator[str]:
    y = _HEIGHT - 20
    for kind in _KINDS:
        x = _LEFT + kind.legend_offset
        yield f"<circle cx='{x + 5}' cy='{y - 4}' r='{max(kind.radius, 3)}' fill='{kind.colour}'/>"
        yield f"<text x='{x + 16}' y='{y}'>{kind.name}</text>"
    x = _LEFT + 580
    yield f"<rect x='{x}' y='{y - 11}' width='14' height='14' fill='#fbe3d0' stroke='#cbd2d9'/>"
    yield f"<text x='{x + 22}' y='{y}'>while the fault lasts</text>"
