"""The public functions, classes and methods of the package, for tests that must not miss a new one."""

import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from types import ModuleType
from typing import Any, Protocol

import registration_persistence
from registration_persistence import database, outcomes, sandbox, schema, testing

_SECTION = re.compile(r"([A-Z][a-z]+):")

_ENTRY = re.compile(r" {4}(\w+): ")

_MODULES = (registration_persistence, database, outcomes, sandbox, schema, testing)


def public_callables(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
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


CALLABLES: dict[str, Callable[..., Any]] = dict(entry for module in _MODULES for entry in public_callables(module))
"""Each public function, class and method, by its dotted name."""


def arguments_of(described: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of *described* without `self`, by name."""
    parameters = inspect.signature(described).parameters
    return {name: parameter for name, parameter in parameters.items() if name != "self"}


def entries_of(described: Callable[..., Any]) -> dict[str, str]:
    """Return the text of each entry in the section `Args` of the docstring, by the name of the argument."""
    entries: dict[str, str] = {}
    section = name = ""
    for line in (inspect.getdoc(described) or "").splitlines():
        if heading := _SECTION.fullmatch(line):
            section = heading[1]
        elif section == "Args" and (entry := _ENTRY.match(line)):
            name = entry[1]
            entries[name] = line
        elif section == "Args" and name:
            entries[name] += f" {line.strip()}"
    return entries
