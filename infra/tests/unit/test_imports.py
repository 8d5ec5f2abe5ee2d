"""Which packages the modules of infra/ import."""

import ast
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

INFRA = Path(__file__).parents[2]
OWN_FOLDERS = ("registration_infra", "datadog", "migrate_function", "rotate_function", "tests")


def imported_names(path: Path) -> Iterator[str]:
    """Yield the full name of everything that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    "path",
    sorted((INFRA / "registration_infra").rglob("*.py")),
    ids=lambda path: path.relative_to(INFRA).as_posix(),
)
def test_no_module_imports_the_package(path: Path) -> None:
    """The infrastructure does not import the package that runs on it."""
    imported = {name.split(".")[0] for name in imported_names(path)}

    assert imported or path.name == "__init__.py"
    assert "registration_persistence" not in imported


def test_mypy_reads_every_module_that_is_used() -> None:
    """No module of the CDK or of moto that infra/ imports is skipped, because its names would have no types."""
    settings = tomllib.loads((INFRA / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]["overrides"]
    patterns = {each["follow_imports"]: each["module"] for each in settings if "follow_imports" in each}
    files = [*INFRA.glob("*.py"), *(path for name in OWN_FOLDERS for path in (INFRA / name).rglob("*.py"))]
    names = {name for path in files for name in imported_names(path) if name.split(".")[0] in ("aws_cdk", "moto")}
    modules = {name if is_module(name) else name.rpartition(".")[0] for name in names}

    assert {"aws_cdk.*", "moto.*"} == {*patterns["skip"]}
    assert {"aws_cdk", "aws_cdk.aws_rds", "moto.rds.models"} <= modules
    packages = tuple(pattern.removesuffix("*") for pattern in patterns["normal"] if pattern.endswith(".*"))
    skipped = {name for name in modules - {*patterns["normal"]} if not f"{name}.".startswith(packages)}
    assert skipped == set()


def is_module(name: str) -> bool:
    """Return whether a name that is imported is a module, and not a name in one."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
