"""The page docs/licences.md: every package of the locked lists, with its versions and its licence."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from licence_rules import EXTRAS, RUNTIME, TOOLS
from locked_lists import ROOT, lists, read

PAGE = ROOT / "docs" / "licences.md"
# The extras that services install; `dev` is for this repository.
_EXTRAS_OF_SERVICES = ("async", "cli", "opentelemetry", "datadog", "prometheus", "local", "test")
_ROW = re.compile(r"\| (?P<name>[^|]+) \| (?P<versions>[^|]+) \| (?P<licence>[^|]+) \|")

Versions: TypeAlias = dict[str, list[str]]
"""The locked versions of each package."""

_INTRODUCTION = """# Licences

The package itself has the [Apache License 2.0](../LICENSE).
It contains no code of other packages; it installs them.
`make licences` writes this page from the locked lists and the metadata of the packages.
It fails if a licence is not in the list of `release/licence_rules.py`.
A test fails if the page and the locked lists differ.
`BSD` is the licence of a package that does not state which of the BSD licences it has.
"""
_SECTIONS = {
    RUNTIME: "Every service installs these (`requirements/runtime.txt`).\n"
    "psycopg has the LGPL: a service imports it unmodified, and can replace it.",
    EXTRAS: "A service installs these with an extra: " + ", ".join(f"`{name}`" for name in _EXTRAS_OF_SERVICES) + ".",
    TOOLS: "Only the work in this repository, its infrastructure and its documentation uses these.",
}


def locked_packages() -> dict[str, Versions]:
    """Return the packages of each section of the page."""
    runtime = {(each.name, each.version) for each in read(ROOT / "requirements" / "runtime.txt")}
    extras = _packages_of_extras()
    sections: dict[str, Versions] = {RUNTIME: {}, EXTRAS: {}, TOOLS: {}}
    for name, version in sorted({(each.name, each.version) for path in lists() for each in read(path)}):
        section = RUNTIME if (name, version) in runtime else EXTRAS if (name, version) in extras else TOOLS
        sections[section].setdefault(name, []).append(version)
    for name, version, _ in npm_packages():
        sections[TOOLS][name] = [version]
    return sections


def _packages_of_extras() -> set[tuple[str, str]]:
    """Return the names and versions of the packages that the extras name, and of all that those need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [each for extra in _EXTRAS_OF_SERVICES for each in project["optional-dependencies"][extra]]
    found = {re.split(r"[\[<>=!~; ]", each)[0].lower() for each in declared}
    packages = read(ROOT / "requirements" / "dev.txt")
    while new := {each.name for each in packages if found & set(each.dependents)} - found:
        found |= new
    return {(each.name, each.version) for each in packages if each.name in found}


def npm_packages() -> Iterable[tuple[str, str, str]]:
    """Return the name, version and licence of each npm package."""
    lock = json.loads((ROOT / "infra" / "package-lock.json").read_text(encoding="utf-8"))
    for path, package in lock["packages"].items():
        if path:
            yield path.removeprefix("node_modules/"), package["version"], package["license"]


def licence_names() -> dict[str, str]:
    """Return the licence of each package on the page, as an SPDX expression."""
    return {name: licence for rows in page_sections().values() for name, (_, licence) in rows.items()}


def page_sections() -> dict[str, dict[str, tuple[list[str], str]]]:
    """Return the versions and the licence of each package in each section of the page."""
    found: dict[str, dict[str, tuple[list[str], str]]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            found[line.removeprefix("## ")] = {}
        elif (row := _ROW.fullmatch(line)) and row["name"] != "package":
            list(found.values())[-1][row["name"]] = (row["versions"].split(", "), row["licence"])
    return found


def write_page(sections: Mapping[str, Versions], licences: Mapping[str, str]) -> str:
    """Return the text of the page."""
    text = _INTRODUCTION
    for section, packages in sections.items():
        text += f"\n## {section}\n\n{_SECTIONS[section]}\n\n| package | version | licence |\n|---|---|---|\n"
        text += "".join(f"| {name} | {', '.join(packages[name])} | {licences[name]} |\n" for name in sorted(packages))
    return text
