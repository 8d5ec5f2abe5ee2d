"""Writes the pages of the reference, whose contents mkdocstrings takes from the docstrings."""

import ast
from pathlib import Path

_PACKAGE = "registration_persistence"

_INTEGRATIONS = ("opentelemetry", "datadog", "prometheus")

MODULES = (
    *("", "errors", "outcomes", "models", "database", "schema", "testing", "sandbox"),
    *(f"telemetry.{name}" for name in _INTEGRATIONS),
)
"""The public modules; the first one is the package itself."""


def modules() -> list[str]:
    """Return the dotted names of the public modules."""
    return [f"{_PACKAGE}.{name}".removesuffix(".") for name in MODULES]


def public_names(module: str, source: Path) -> list[str]:
    """Return `__all__` of *module*, or its public classes and functions if it has none, without importing it."""
    path = source.parent.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    defined = [node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return [name for name in defined if not name.startswith("_")]


def pages(source: Path) -> dict[str, str]:
    """Return the Markdown of each page, by its path on the site."""
    found = {f"reference/{module}.md": _page(module, source) for module in modules()}
    entries = "\n".join(f"- [`{path[10:-3]}`]({path[10:]})" for path in found)
    found["reference/index.md"] = f"# Reference\n\nGenerated from the docstrings of each public name.\n\n{entries}\n"
    return found


def _page(module: str, source: Path) -> str:
    options = {"members": "false", "show_root_heading": "false", "show_root_toc_entry": "false"}
    head = f"# {module}\n\n::: {module}\n    options:\n"
    head += "".join(f"      {name}: {value}\n" for name, value in options.items())
    names = "".join(f"\n::: {module}.{name}\n" for name in public_names(module, source))
    return head + names
