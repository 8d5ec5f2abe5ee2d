"""Write docs/diagrams.md from the code: `make diagrams`."""

import sys
from pathlib import Path

from sqlalchemy import Column, Index, Table, UniqueConstraint, make_url

from registration_persistence import Status
from registration_persistence.models import INITIAL_STATUSES, MOVES, Base, RegistrationRow

POSTGRESQL = make_url("postgresql://").get_dialect()()
FILE = Path(__file__).with_name("diagrams.md")

TEXT = """# Diagrams

`make diagrams` generates this page from the code, and a test compares both.

## States

The states and their changes are `INITIAL_STATUSES` and `MOVES`.
The labels are the types of the events.
A trigger of the database rejects every other change.

```mermaid
{states}
```

## Tables

The tables are defined in `models/tables.py`.
`registration_events` and `outbox` outlive a registration, so they have no foreign key.
A dotted line connects a table with the registrations whose ids it contains.

```mermaid
{entities}
```
"""


def states() -> str:
    """Return the statuses and their changes as a Mermaid diagram."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {status}: {event}" for event, statuses in INITIAL_STATUSES.items() for status in statuses]
    lines += [f"    {source} --> {move.target}: {event}" for event, move in MOVES.items() for source in move.sources]
    targets_only = [status for status in Status if not any(status in move.sources for move in MOVES.values())]
    return "\n".join([*lines, *(f"    {status} --> [*]" for status in targets_only)])


def entities() -> str:
    """Return the tables and their relations as a Mermaid diagram."""
    tables = sorted(
        Base.metadata.tables.values(), key=lambda table: (table is not RegistrationRow.__table__, table.name)
    )
    lines = ["erDiagram"]
    for table in tables:
        if "registration_id" in table.columns:
            link = "||--" if table.columns["registration_id"].foreign_keys else "|o.."
            lines.append(f"    registrations {link}o{{ {table.name} : has")
    for table in tables:
        lines += [
            f"    {table.name} {{",
            *(f"        {_described(column, table)}" for column in table.columns),
            "    }",
        ]
    return "\n".join(lines)


def _described(column: Column[object], table: Table) -> str:
    kind = column.type.compile(dialect=POSTGRESQL).lower().split(" collate")[0]
    kind = kind.replace("timestamp with time zone", "timestamptz")
    keys = [name for name, applies in (("PK", column.primary_key), ("FK", bool(column.foreign_keys))) if applies]
    unique: list[Index | UniqueConstraint] = [
        index for index in table.indexes if index.unique and not _is_partial(index)
    ]
    unique += [constraint for constraint in table.constraints if isinstance(constraint, UniqueConstraint)]
    if any(list(rule.columns) == [column] for rule in unique):
        keys.append("UK")
    note = ' "may be null"' if column.nullable else ""
    return f"{kind} {column.name}" + (f" {', '.join(keys)}" if keys else "") + note


def _is_partial(index: Index) -> bool:
    """Return whether *index* excludes rows for another reason than NULL."""
    where = index.dialect_options["postgresql"]["where"]
    return where is not None and "IS NOT NULL" not in str(where)


def text() -> str:
    """Return the text of the page."""
    return TEXT.format(states=states(), entities=entities())


def main() -> int:
    """Write the page."""
    FILE.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
