"""The results of the benchmarks: medians, spread and ratios, as text and as JSON."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

_PACKAGES = (
    "sqlalchemy", "psycopg", "boto3", "aws-secretsmanager-caching", "aws-advanced-python-wrapper", "procrastinate",
    "pgqueuer", "psycopg-pool",
)  # fmt: skip
_MIN_VALUES_FOR_QUARTILES = 2

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One quantity, measured for several candidates in one run.

    Args:
        key: Name of the measurement in the JSON file.
        title: The quantity, for people.
        unit: Unit of the values.
        exact: Whether the values are counts that do not depend on the machine.
        better: Whether a `lower` or a `higher` value is better.
        base: The candidate to which the others are compared; `None` for no ratio.
        values: The values of each candidate.
    """

    key: str
    title: str
    unit: str
    exact: bool
    better: Better = "lower"
    base: str | None = None
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, candidate: str, value: float) -> None:
        """Add a value of *candidate*."""
        self.values.setdefault(candidate, []).append(value)

    def medians(self) -> dict[str, float]:
        """Return the median of each candidate."""
        return {candidate: statistics.median(values) for candidate, values in self.values.items()}

    def as_json(self) -> dict[str, Any]:
        """Return the measurement with medians, quartiles and ratios."""
        medians = self.medians()
        base = medians.get(self.base or "")
        results = {}
        for candidate, values in self.values.items():
            low, high = quartiles(values)
            results[candidate] = {
                "median": _rounded(medians[candidate]),
                "first_quartile": _rounded(low),
                "third_quartile": _rounded(high),
                "runs": len(values),
            }
            if base:
                results[candidate]["ratio"] = _rounded(medians[candidate] / base)
        return {
            "key": self.key,
            "title": self.title,
            "unit": self.unit,
            "exact": self.exact,
            "better": self.better,
            "base": self.base,
            "results": results,
        }

    def as_text(self) -> str:
        """Return a table."""
        heading = f"{self.title} ({self.unit}{', exact' if self.exact else ''})"
        lines = [f"{heading:<62}{'median':>14}{'quartiles':>24}{'ratio':>8}"]
        for candidate, result in self.as_json()["results"].items():
            spread = f"{result['first_quartile']:,} to {result['third_quartile']:,}" if result["runs"] > 1 else ""
            ratio = f"{result['ratio']:.3f}" if "ratio" in result else ""
            lines.append(f"  {candidate:<60}{result['median']:>14,}{spread:>24}{ratio:>8}")
        return "\n".join(lines)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the first and the third quartile of *values*."""
    if len(values) < _MIN_VALUES_FOR_QUARTILES:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def machine(servers: Sequence[str]) -> dict[str, Any]:
    """Return the class of this machine and the versions of the programs, without names and paths."""
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return {
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "system": release.get("PRETTY_NAME", platform.system()),
        "python": platform.python_version(),
        "servers": list(servers),
        "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
    }


def write_part(folder: Path, part: str, measurements: Sequence[Measurement], servers: Sequence[str]) -> None:
    """Write the measurements of a part to `<part>.json`."""
    content = {
        "part": part,
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": machine(servers),
        "measurements": [measurement.as_json() for measurement in measurements],
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / f"{part}.json").write_text(text + "\n", encoding="utf-8")


@cache
def skip(reason: str) -> None:
    """Print once that something is not measured, and why."""
    print(f"not measured: {reason}", file=sys.stderr)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _rounded(value: float) -> float:
    """Return *value* with four significant digits, or as a whole number if it is one or has as many digits."""
    if value == int(value) or abs(value) >= 1000:  # noqa: PLR2004 four digits
        return round(value)
    return float(f"{value:.4g}")
