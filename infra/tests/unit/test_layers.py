"""Imports in infra/ point downwards: app, stacks, constructs, and the plain modules below them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

INFRA = Path(__file__).parents[2]
PACKAGE = INFRA / "registration_infra"
# A module may import modules of its own layer and of the layers to the right.
LAYERS = ("stacks", "constructs", "plain")
# Plain modules that create resources with the CDK; the others are usable without it.
MODULES_WITH_CDK = {"layer.py", "nag.py"}


def layer_of(module: str) -> str:
    """Return the layer of a module of `registration_infra`, which is given by its full name."""
    first = module.split(".")[1] if "." in module else ""
    return first if first in LAYERS else "plain"


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the full names of all modules that *path* imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module or ""


def python_files() -> list[Path]:
    """Return all modules of `registration_infra`."""
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the full name of the module at *path*."""
    return ".".join(path.relative_to(INFRA).with_suffix("").parts)


@pytest.mark.parametrize("path", python_files(), ids=name_of)
def test_imports_point_down(path: Path) -> None:
    """A module imports nothing of a layer above its own, nor the programs beside the package."""
    below = LAYERS[LAYERS.index(layer_of(name_of(path))) :]

    for module in imported_modules(path):
        root = module.split(".")[0]
        assert root not in {"app", "deploy", "datadog", "registration_service", "registration_persistence"}, module
        if root == PACKAGE.name:
            assert layer_of(module) in below, module


@pytest.mark.parametrize("path", sorted({*PACKAGE.glob("*.py"), *PACKAGE.glob("config/*.py")}), ids=name_of)
def test_plain_modules_do_not_need_the_cdk(path: Path) -> None:
    """Only the modules that create resources import the CDK, so `deploy.py` starts without it."""
    roots = {module.split(".")[0] for module in imported_modules(path)}

    assert path.name in MODULES_WITH_CDK or not roots & {"aws_cdk", "constructs", "cdk_nag"}


@pytest.mark.parametrize("program", ["app.py", "deploy.py"])
def test_programs_do_not_change_the_import_path(program: str) -> None:
    """cdk.json and pyproject.toml define the import path."""
    assert "sys.path" not in (INFRA / program).read_text(encoding="utf-8")
