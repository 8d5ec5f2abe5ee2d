"""Describe the differences between a database and the models, each with the SQL statement that removes it."""

import re
from collections.abc import Iterator
from io import StringIO

from alembic.autogenerate import RevisionContext
from alembic.operations import Operations, ops
from alembic.runtime.migration import MigrationContext

_Created = ops.CreateTableOp | ops.AddColumnOp | ops.CreateIndexOp | ops.AddConstraintOp
_Dropped = ops.DropTableOp | ops.DropColumnOp | ops.DropIndexOp | ops.DropConstraintOp


def describe_differences(found: RevisionContext) -> list[str]:
    """Return one line for each difference: the object, its state, and the statement that removes the difference.

    Args:
        found: The result of Alembic's autogenerate.
    """
    script = found.generated_revisions[-1]
    problems: dict[str, tuple[str, list[str]]] = {}
    for directives in script.upgrade_ops_list:
        for operation in _flattened(directives):
            name = _name(operation)
            # A changed index or constraint is dropped and created again.
            problem = "differs from the models" if name in problems else _problem(operation)
            problems[name] = (problem, [*problems.get(name, ("", []))[1], _statement(operation)])
    return [f"{name} {problem}: {' '.join(statements)}" for name, (problem, statements) in problems.items()]


def _flattened(directives: ops.OpContainer) -> Iterator[ops.MigrateOperation]:
    for operation in directives.ops:
        if isinstance(operation, ops.OpContainer):
            yield from _flattened(operation)
        else:
            yield operation


def _name(operation: ops.MigrateOperation) -> str:
    match operation:
        case ops.CreateTableOp() | ops.DropTableOp():
            name = f"table {operation.table_name}"
        case ops.AddColumnOp():
            name = f"column {operation.table_name}.{operation.column.name}"
        case ops.DropColumnOp() | ops.AlterColumnOp():
            name = f"column {operation.table_name}.{operation.column_name}"
        case ops.CreateIndexOp() | ops.DropIndexOp():
            name = f"index {operation.index_name} of {operation.table_name}"
        case ops.AddConstraintOp():
            constraint = operation.to_constraint()
            name = f"constraint {constraint.name} of {constraint.table.name}"
        case ops.DropConstraintOp():
            name = f"constraint {operation.constraint_name} of {operation.table_name}"
        case _:
            name = type(operation).__name__
    return f"the {name}"


def _problem(operation: ops.MigrateOperation) -> str:
    if isinstance(operation, _Created):
        return "is missing"
    if isinstance(operation, _Dropped):
        return "is not in the models"
    if isinstance(operation, ops.AlterColumnOp):
        return " and ".join(_column_problems(operation))
    return "differs from the models"


def _column_problems(operation: ops.AlterColumnOp) -> Iterator[str]:
    if operation.modify_type is not None:
        yield f"has the type {operation.existing_type}"
    if operation.modify_nullable is not None:
        yield "has NOT NULL" if operation.modify_nullable else "has no NOT NULL"
    if operation.modify_server_default is not False:
        default = getattr(operation.existing_server_default, "arg", None)
        yield "has no default" if default is None else f"has the default {default}"
    if operation.modify_comment is not False:
        yield "has another comment"


def _statement(operation: ops.MigrateOperation) -> str:
    """Return the SQL of *operation* on one line."""
    if isinstance(operation, ops.CreateIndexOp | ops.DropIndexOp):
        operation.kw["postgresql_concurrently"] = True  # does not block the writes of the service
    output = StringIO()
    options = {"as_sql": True, "output_buffer": output, "literal_binds": True}
    Operations(MigrationContext.configure(dialect_name="postgresql", opts=options)).invoke(operation)
    return re.sub(r"\s+", " ", output.getvalue()).strip()
