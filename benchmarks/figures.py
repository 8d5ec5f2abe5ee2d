"""Draws the figures of docs/performance.md with matplotlib, from the JSON files of the benchmark."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

_FIGURES = {
    "cold": ("round_trips_15", "instructions", "wall"),
    "warm": ("transaction_3", "instructions_core", "autocommit_times"),
    "register": ("instructions", "rate"),
    "rotation": ("first", "second"),
    "bulk": ("rate", "memory"),
    "outbox": ("rate", "transactions"),
    "asyncio": ("throughput",),
}
# These colours are readable on a light and on a dark background.
_TEXT_COLOUR, _OURS_COLOUR, _PEERS_COLOUR = "#7d8590", "#2f81f7", "#9aa4af"
_WIDTH_INCHES, _BAR_INCHES, _HEADING_INCHES = 7.5, 0.25, 0.6


def draw_all(folder: Path) -> None:
    """Draw a figure for each part that was measured, beside its JSON file."""
    matplotlib = import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "performance",
            "svg.fonttype": "none",
            "font.size": 8,
            **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _TEXT_COLOUR),
        }
    )
    for part, keys in _FIGURES.items():
        file = folder / f"{part}.json"
        if file.exists():
            measured = {each["key"]: each for each in json.loads(file.read_text(encoding="utf-8"))["measurements"]}
            _draw([measured[key] for key in keys if key in measured], folder / f"{part}.svg")


def _draw(measurements: list[dict[str, Any]], file: Path) -> None:
    """Draw bars for each measurement, one below the other."""
    pyplot = import_module("matplotlib.pyplot")
    heights = [len(each["results"]) * _BAR_INCHES + _HEADING_INCHES for each in measurements]
    figure, rows = pyplot.subplots(
        len(measurements),
        squeeze=False,
        figsize=(_WIDTH_INCHES, sum(heights)),
        height_ratios=heights,
        layout="constrained",
    )
    for (axes,), measurement in zip(rows, measurements, strict=True):
        _draw_bars(axes, measurement)
    figure.savefig(file, transparent=True, metadata={"Date": None})
    pyplot.close(figure)
    # Trailing white space would differ from the rest of the repository.
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def _draw_bars(axes: Any, measurement: dict[str, Any]) -> None:
    names = list(measurement["results"])[::-1]
    results = [measurement["results"][name] for name in names]
    medians = [result["median"] for result in results]
    spread = [
        [result["median"] - result["first_quartile"] for result in results],
        [result["third_quartile"] - result["median"] for result in results],
    ]
    colours = [_OURS_COLOUR if name.startswith("this package") else _PEERS_COLOUR for name in names]
    bars = axes.barh(names, medians, xerr=spread, color=colours, ecolor=_TEXT_COLOUR, height=0.7)
    axes.bar_label(bars, labels=[f"{median:,}" for median in medians], padding=4)
    axes.margins(x=0.15)
    better = "fewer" if measurement["exact"] else "less"
    better = "more" if measurement["better"] == "higher" else better
    axes.set_title(f"{measurement['title']} ({measurement['unit']}; {better} is better)", loc="right", fontsize=9)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])
