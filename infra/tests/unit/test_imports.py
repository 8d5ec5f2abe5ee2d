"""Which packages the modules of `registration_infra` import."""

import ast
from pathlib import Path

import pytest

INFRA = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "path",
    sorted((INFRA / "registration_infra").rglob("*.py")),
    ids=lambda path: path.relative_to(INFRA).as_posix(),
)
def test_no_module_imports_the_package(path: Path) -> None:
    """The infrastructure does not import the package that runs on it."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])

    assert imported or path.name == "__init__.py"
    assert "registration_persistence" not in imported
