"""The timeline of `chaos`: an SVG drawing of each request from its start to its response, over the faults."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from registration_persistence import private_file
from registration_persistence.errors import InvalidInput, RegistrationPersistenceError
from registration_persistence.sandbox.chaos.evaluation import Phase
from registration_persistence.sandbox.chaos.load import REQUEST_TIMEOUT_SECONDS, Record
from registration_persistence.sandbox.chaos.timeline_scale import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Kind,
    Recording,
    Scale,
    end_of,
    kind_of,
    thinned,
)
from registration_persistence.sandbox.chaos.timeline_style import STYLE

_WIDTH, _HEIGHT = 1280, 676

# The baselines of the names of the faults, and of the outages.
_NAMES, _OUTAGES = 186, 214

# Distances between the marks of the time axis; the smallest one that needs no more than the maximum of marks is used.
_MARK_STEPS_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120)
_MAX_MARKS = 16

# An outage that is shorter has a label, but no bar.
_MIN_OUTAGE_SECONDS = 0.1

_LEGEND: Sequence[tuple[Kind, str]] = (
    ("ok", "answered at the first attempt"),
    ("retried", "answered after more attempts"),
    ("failed", "failed"),
)

# Half the width of the label of an outage.
_LABEL_MARGIN = 20

# The width of a character of the legend, for fonts that are unknown here.
_CHARACTER_WIDTH = 7.1


def check_writable(file: Path, thing: str, suffix: str) -> None:
    """Check that a file can be written, before the run.

    Args:
        file: The file.
        thing: The content of the file, for the error message.
        suffix: The required ending of its name.

    Raises:
        InvalidInput: The name does not end in *suffix*, or the file cannot be written.
    """
    if file.suffix != suffix:
        raise InvalidInput(f"the {thing} is {file}: expected a name that ends in {suffix}")
    try:
        private_file.check_writable(file)  # os.access is always true for root
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written: {error.strerror}") from error


def write(file: Path, recording: Recording) -> None:
    """Draw the timeline and write it to *file*.

    Raises:
        RegistrationPersistenceError: *file* cannot be written.
    """
    try:
        private_file.write(file, draw(recording))
    except OSError as error:
        raise RegistrationPersistenceError(f"cannot write {file}: {error.strerror}") from error


def draw(recording: Recording) -> str:
    """Return the timeline as SVG, for light and dark pages."""
    scale = Scale(recording)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img'>",
        "<title>Sign-ups while faults happen</title>",
        f"<style>{STYLE}</style>",
        f"<rect class='paper' x='0.5' y='0.5' width='{_WIDTH - 1}' height='{_HEIGHT - 1}' rx='8'/>",
        f"<text class='title' x='{LEFT}' y='42'>Sign-ups while faults happen</text>",
        f"<text class='faint' x='{LEFT}' y='68'>{escape(recording.caption)}</text>",
        *_phase_bands(scale, recording.phases),
        *_outages(scale, recording),
        *_time_axis(scale),
        *_duration_axis(scale),
        *_bars(scale, thinned(recording)),
        *_deadline(scale),
        *_legend(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _phase_bands(scale: Scale, phases: Iterable[Phase]) -> Iterator[str]:
    """Shade each phase, stronger while its fault lasts; names are slanted, so that short phases do not overlap."""
    for number, phase in enumerate(phases):
        left, faultend_of, right = scale.x(phase.started_at), scale.x(phase.fault_ended_at), scale.x(phase.ended_at)
        yield _rectangle(left, right, "odd" if number % 2 else "even")
        yield _rectangle(left, faultend_of, "fault")
        yield f"<path class='grid' d='M{left:.1f} {_NAMES + 4}V{BOTTOM}'/>"
        yield f"<text transform='translate({left + 8:.1f} {_NAMES}) rotate(-35)'>{escape(phase.fault)}</text>"


def _rectangle(left: float, right: float, name: str) -> str:
    return f"<rect class='{name}' x='{left:.1f}' y='{TOP}' width='{right - left:.1f}' height='{BOTTOM - TOP}'/>"


def _outages(scale: Scale, recording: Recording) -> Iterator[str]:
    """Draw and label the longest outage of each phase, above the requests."""
    yield f"<text class='faint' x='{LEFT - 10}' y='{_OUTAGES + 10}' text-anchor='end'>outage</text>"
    for phase, outage in zip(recording.phases, recording.outages, strict=True):
        if outage.seconds >= _MIN_OUTAGE_SECONDS:
            left, right = scale.x(outage.started_at), scale.x(outage.ended_at)
            size = f"width='{right - left:.1f}' height='9' rx='2'"
            yield f"<rect class='outage' x='{left:.1f}' y='{_OUTAGES + 2}' {size}/>"
            # Inside the phase, so that the labels of two short outages do not overlap.
            first, last = scale.x(phase.started_at) + _LABEL_MARGIN, scale.x(phase.ended_at) - _LABEL_MARGIN
            yield _small(max(first, min((left + right) / 2, last)), _OUTAGES - 4, f"{outage.seconds:.1f} s")
        else:
            middle = scale.x((phase.started_at + phase.ended_at) / 2)
            yield _small(middle, _OUTAGES + 10, f"{outage.seconds * 1000:.0f} ms", "small faint")


def _small(middle: float, y: float, text: str, name: str = "small") -> str:
    return f"<text class='{name}' x='{middle:.1f}' y='{y}' text-anchor='middle'>{text}</text>"


def _time_axis(scale: Scale) -> Iterator[str]:
    length = scale.end - scale.start
    step = next((step for step in _MARK_STEPS_SECONDS if length / step <= _MAX_MARKS), _MARK_STEPS_SECONDS[-1])
    for mark in range(0, math.floor(length) + 1, step):
        x = scale.x(scale.start + mark)
        yield f"<path class='axis' d='M{x:.1f} {BOTTOM}v6'/>"
        yield _small(x, BOTTOM + 21, str(mark))
    middle = (LEFT + RIGHT) / 2
    yield f"<text class='faint' x='{middle}' y='{BOTTOM + 44}' text-anchor='middle'>time (s)</text>"


def _duration_axis(scale: Scale) -> Iterator[str]:
    for power in range(math.ceil(math.log10(scale.shortest)), math.floor(math.log10(scale.longest)) + 1):
        y = scale.y(10.0**power)
        label = f"{10**power} s" if power >= 0 else f"{10.0 ** (power + 3):g} ms"
        yield f"<path class='grid' d='M{LEFT} {y:.1f}H{RIGHT}'/>"
        yield f"<text class='small' x='{LEFT - 10}' y='{y + 4:.1f}' text-anchor='end'>{label}</text>"
    middle = (TOP + BOTTOM) / 2
    at = f"translate(24 {middle}) rotate(-90)"
    yield f"<text class='faint' transform='{at}' text-anchor='middle'>duration, logarithmic</text>"


def _deadline(scale: Scale) -> Iterator[str]:
    y = scale.y(REQUEST_TIMEOUT_SECONDS)
    yield f"<path class='deadline' d='M{LEFT} {y:.1f}H{RIGHT}'/>"
    label = f"deadline of a request, {REQUEST_TIMEOUT_SECONDS:g} s; longer if the client repeats it"
    yield f"<text class='small' x='{LEFT + 8}' y='{y + 16:.1f}'>{label}</text>"


def _bars(scale: Scale, records: Sequence[Record]) -> Iterator[str]:
    """Draw one line for each request, from its start to its response; a short one looks like a dot."""
    for kind, _ in _LEGEND:
        lines = (_line(scale, record) for record in records if kind_of(record) == kind)
        yield f"<path class='{kind}' d='{''.join(dict.fromkeys(lines))}'/>"


def _line(scale: Scale, record: Record) -> str:
    left, right = scale.x(record.started_at), scale.x(end_of(record))
    return f"M{left:.1f} {scale.y(record.seconds):.1f}h{right - left:.1f}"


def _legend() -> Iterator[str]:
    x, y = float(LEFT), _HEIGHT - 24
    for name, label in (*_LEGEND, ("fault", "while the fault lasts"), ("outage", "no sign-up is acknowledged")):
        if name in ("fault", "outage"):
            yield f"<rect class='{name}' x='{x:.0f}' y='{y - 11}' width='22' height='12' rx='2'/>"
        else:
            yield f"<path class='{name}' d='M{x + 2:.0f} {y - 5}h18'/>"
        yield f"<text x='{x + 30:.0f}' y='{y}'>{label}</text>"
        x += 30 + len(label) * _CHARACTER_WIDTH + 22
