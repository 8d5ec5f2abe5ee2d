"""The docstrings of public names stand alone: each argument is described, and each default is stated."""

import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from types import ModuleType
from typing import Any, Protocol

import pytest

import registration_persistence
from registration_persistence import database, outcomes, sandbox, schema, testing

_SECTION = re.compile(r"([A-Z][a-z]+):")

_ENTRY = re.compile(r" {4}(\w+): ")


def _public_callables(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield each function and class of *module* and each of their public methods, with its dotted name."""
    for name in module.__all__:
        public = getattr(module, name)
        if inspect.isfunction(public):
            yield f"{module.__name__}.{name}", public
        elif inspect.isclass(public) and not issubclass(public, Enum | BaseException):
            members = _own_members(public)
            if "__init__" in members and Protocol not in public.__bases__:
                yield f"{module.__name__}.{name}", public
            for key in members:
                if not key.startswith("_") and inspect.isroutine(getattr(public, key)):
                    yield f"{module.__name__}.{name}.{key}", getattr(public, key)


def _own_members(kind: type) -> set[str]:
    """Return the names of the members that *kind* has from this package, inherited ones included."""
    bases = [base for base in kind.__mro__ if base.__module__.startswith("registration_persistence")]
    return {name for base in bases for name in vars(base)}


def _entries(docstring: str) -> dict[str, str]:
    """Return the text of each entry in the section `Args`, by the name of the argument."""
    entries: dict[str, str] = {}
    section = name = ""
    for line in docstring.splitlines():
        if heading := _SECTION.fullmatch(line):
            section = heading[1]
        elif section == "Args" and (entry := _ENTRY.match(line)):
            name = entry[1]
            entries[name] = line
        elif section == "Args" and name:
            entries[name] += f" {line.strip()}"
    return entries


def _problems(described: Callable[..., Any]) -> Iterator[str]:
    """Yield each argument of *described* that has no entry, or a default that its entry does not state."""
    entries = _entries(inspect.getdoc(described) or "")
    for name, parameter in inspect.signature(described).parameters.items():
        if name == "self":
            continue
        if name not in entries:
            yield f"{name} has no entry"
        elif parameter.default is not parameter.empty and "default" not in entries[name].lower():
            yield f"the default of {name} is not stated"


_MODULES = (registration_persistence, database, outcomes, sandbox, schema, testing)
_CALLABLES = dict(entry for module in _MODULES for entry in _public_callables(module))


@pytest.mark.parametrize("name", sorted(_CALLABLES))
def test_docstring_describes_each_argument_and_its_default(name: str) -> None:
    """Every argument has an entry in `Args`, and an entry states the default if there is one."""
    assert list(_problems(_CALLABLES[name])) == []


def test_missing_entry_and_default_are_found() -> None:
    """The check finds an argument without an entry and an entry without the default."""

    def delete(limit: int = 5, *, older_than: int = 6, dry_run: bool = False) -> None:  # noqa: D417 the missing entry
        """Delete rows.

        Args:
            limit: The largest number of rows.
            dry_run: Whether nothing is deleted. Defaults to false.

        Returns:
            older_than: This is not an entry of an argument.
        """

    assert list(_problems(delete)) == ["the default of limit is not stated", "older_than has no entry"]


def test_repositories_outcomes_and_schema_are_inspected() -> None:
    """The check reaches methods, dataclasses and functions."""
    assert {
        "registration_persistence.RegistrationRepository.register",
        "registration_persistence.outcomes.WrongCode",
        "registration_persistence.schema.upgrade",
    } <= set(_CALLABLES)
