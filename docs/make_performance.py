"""Write docs/performance.md from the results and the goals in docs/performance/; `make bench` measures them again."""

import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("performance")
PAGE = Path(__file__).with_name("performance.md")
OURS = "this package"
_TIMES = "\N{MULTIPLICATION SIGN}"
_SMALL = 1000

TEXT = """# Performance

`make bench` measures this package beside the alternatives, and generates this page.
A test compares the page with the results in `docs/performance/`.
Instructions differ by less than 1 % between two runs, and other counts do not differ.
Times depend on the machine, so compare only the values of one table.

## Goals

| Measurement | Goal | Result | Best alternative | |
|---|---|---|---|---|
{goals}

{reasons}

## Reproduce it

`make bench` takes about 20 minutes on two cores; `make bench ONLY=cold` measures one part.
It needs Linux and the system's packages `valgrind` and `postgresql`.
The PostgreSQL of the extra `local` has no TLS.
`BENCH_POSTGRES=FOLDER make bench` also measures cold starts with the PostgreSQL whose programs are in that folder.
The servers are PostgreSQL with TLS, SCRAM and a CA of its own, and Secrets Manager over HTTPS.
The candidates of a part take turns in one run.
`make record-counts` records the exact counts with which a test compares each change.

Measured on:

{machines}

## Not measured

Nothing was measured on AWS: no Aurora, no Lambda with its share of a processor, no SnapStart, no RDS Proxy.
Local servers stand in for Secrets Manager and for the Lambda extension.
`benchmarks/large_tables.py` compares a million registrations with 10,000.
The 99th percentile of look-up, sign-up and expiry was at most 1.12 times as long.
10 million registrations were not measured.

{sections}"""

Contents = Mapping[str, Any]


def read_results(sections: Contents) -> dict[str, Contents]:
    """Return the content of the JSON files, by part, in the order of *sections*."""
    files = {part: FOLDER / f"{part}.json" for part in sections}
    return {part: json.loads(file.read_text(encoding="utf-8")) for part, file in files.items() if file.exists()}


def goal_row(goal: Contents, parts: Mapping[str, Contents]) -> tuple[str, str]:
    """Return the row of *goal*, and the reason if another candidate is better."""
    measured = {each["key"]: each for each in parts.get(goal["part"], {"measurements": []})["measurements"]}
    results: Contents = next((measured[key]["results"] for key in goal["keys"] if key in measured), {})
    values = {name: result[goal["form"]] for name, result in results.items()}
    order, sign, limit = (-1, "≥", goal["at_least"]) if "at_least" in goal else (1, "≤", goal["at_most"])
    heading = f"| {goal['title']} | {sign} {_number(limit, goal)}"
    ours = next((values[name] for name in goal["candidates"] if name in values), None)
    if ours is None:
        return f"{heading} | not measured | | |", ""
    peers = {name: value for name, value in values.items() if not name.startswith(OURS)}
    best = min(peers, key=lambda name: order * peers[name], default=None)
    is_first = best is None or order * ours <= order * peers[best]
    verdict = "reached" if order * ours <= order * limit else "not reached"
    verdict += "" if is_first else ", not first"
    peer = "" if best is None else f"{_number(peers[best], goal)} ({best})"
    reason = "" if is_first else f"- {goal['title']}: {goal.get('reason', f'{best} is better.')}"
    return f"{heading} | {_number(ours, goal)} | {peer} | {verdict} |", reason


def _number(value: float, goal: Contents) -> str:
    """Return *value* with the unit of *goal*."""
    if goal["form"] == "ratio":
        return f"{value:,.2f} {_TIMES}"
    return f"{value:,g} {goal.get('unit', '')}".strip() if value < _SMALL else f"{value:,.0f} {goal.get('unit', '')}"


def section(part: str, introduction: str, content: Contents) -> Iterator[str]:
    """Yield the section of *part*: its figure, and a table for each measurement, the exact ones first."""
    yield f"## {part.capitalize()}\n\n{introduction}\n"
    if (FOLDER / f"{part}.svg").exists():
        yield f"![The results of the part {part}](performance/{part}.svg)\n"
    for measurement in sorted(content["measurements"], key=lambda each: not each["exact"]):
        yield from _table(measurement)


def _table(measurement: Contents) -> Iterator[str]:
    results = measurement["results"]
    is_repeated = not measurement["exact"] and any(result["runs"] > 1 for result in results.values())
    has_ratio = measurement["base"] in results
    columns = [measurement["unit"], *["quartiles"] * is_repeated, *["ratio"] * has_ratio]
    yield f"| {measurement['title']} | {' | '.join(columns)} |"
    yield f"|---|{'---:|' * len(columns)}"
    for name, result in results.items():
        cells = [f"{result['median']:,}"]
        if is_repeated:
            cells.append(f"{result['first_quartile']:,} to {result['third_quartile']:,}")
        if has_ratio:
            cells.append(f"{result['ratio']:.2f}")
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def _machines(parts: Mapping[str, Contents]) -> str:
    """Return one line for each class of machine, with the parts that were measured on it."""
    lines: dict[str, list[str]] = {}
    packages: dict[str, str] = {}
    for part, content in parts.items():
        machine = content["machine"]
        line = f"{machine['cores']} cores, {machine['architecture']}, {machine['system']}, CPython {machine['python']}"
        servers = ", ".join(machine["servers"])
        lines.setdefault(f"{line}, {servers}, {content['measured']}", []).append(part)
        packages |= machine["packages"]
    found = [f"- {', '.join(names)}: {line}" for line, names in lines.items()]
    versions = ", ".join(f"{name} {number}" for name, number in packages.items())
    return "\n".join([*found, f"- packages: {versions}" if versions else "- nothing yet"])


def text() -> str:
    """Return the text of the page."""
    page = tomllib.loads((FOLDER / "page.toml").read_text(encoding="utf-8"))
    parts = read_results(page["sections"])
    rows = [goal_row(goal, parts) for goal in page["goals"]]
    reasons = "\n".join(dict.fromkeys(reason for _, reason in rows if reason))
    sections = (line for part in parts for line in section(part, page["sections"][part], parts[part]))
    filled = TEXT.format(
        goals="\n".join(row for row, _ in rows),
        reasons=f"Another candidate is better for these reasons:\n\n{reasons}" if reasons else "",
        machines=_machines(parts),
        sections="\n".join(sections),
    )
    return filled.rstrip() + "\n"


def main() -> int:
    """Write the page."""
    PAGE.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
