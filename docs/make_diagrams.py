"""Writes docs/diagrams.md from the code: `make diagrams`."""

import sys
from pathlib import Path

from sqlalchemy import Column, Index, Table, UniqueConstraint
from sqlalchemy.dialects import postgresql

from registration_persistence.domain.status import MOVES, Status
from registration_persistence.models import RegistrationRow
from registration_persistence.models.columns import INITIAL_STATUSES, Base

POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own
FILE = Path(__file__).with_name("diagrams.md")

TEXT = """# Diagrams

Made from the code by `make diagrams`; a test compares them.

## States

From `MOVES` in `registrations/base.py`; the labels are the types of the events. A trigger refuses every other move.

```mermaid
{states}
```

## Tables

From `registrations/models.py`. `registration_events` and `outbox` outlive a registration, so they have no foreign key;
dotted lines show whose id they hold.

```mermaid
{entities}
```
"""


def states() -> str:
    """Return the life of a registration as a Mermaid diagram."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {status}: {event}" for event, statuses in INITIAL_STATUSES.items() for status in statuses]
    lines += [f"    {source} --> {move.target}: {event}" for event, move in MOVES.items() for source in move.sources]
    targets_only = [status for status in Status if not any(status in move.sources for move in MOVES.values())]
    return "\n".join([*lines, *(f"    {status} --> [*]" for status in targets_only)])


def entities() -> str:
    """Return the tables and how they belong together as a Mermaid diagram."""
    # Importing the models has filled the metadata.
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
    """Tell whether *index* leaves out rows for another reason than NULL."""
    where = index.dialect_options["postgresql"]["where"]
    return where is not None and "IS NOT NULL" not in str(where)


def text() -> str:
    """Return the whole page."""
    return TEXT.format(states=states(), entities=entities())


def main() -> int:
    """Write the page."""
    FILE.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
