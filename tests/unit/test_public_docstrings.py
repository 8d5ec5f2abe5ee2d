"""The docstrings of public names stand alone: each argument is described, and each default is stated."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum

import pytest

import registration_persistence
from registration_persistence import outcomes, schema

_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):$")

_ENTRY = re.compile(r"^    \*{0,2}(\w+): ")


def _classes_and_functions() -> Iterator[tuple[str, object]]:
    for module in (registration_persistence, outcomes, schema):
        for name in module.__all__:
            public = getattr(module, name)
            if inspect.isclass(public) and not issubclass(public, Enum | BaseException):
                yield f"{module.__name__}.{name}", public
            elif inspect.isfunction(public):
                yield f"{module.__name__}.{name}", public


def _public_callables() -> dict[str, tuple[inspect.Signature, str]]:
    """Return the signature and the docstring of each public class, method and function, by its dotted name."""
    found = {}
    for name, public in _classes_and_functions():
        described = {name: public}
        if inspect.isclass(public):
            methods = inspect.getmembers(public, inspect.isroutine)
            own = {key: method for key, method in methods if any(key in base.__dict__ for base in _our_bases(public))}
            described |= {f"{name}.{key}": method for key, method in own.items() if not key.startswith("_")}
        for key, each in described.items():
            if inspect.isclass(each) and not is_dataclass(each) and "__init__" not in _names_of(each):
                continue
            found[key] = inspect.signature(each), inspect.getdoc(each) or ""
    return found


def _our_bases(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if base.__module__.startswith("registration_persistence")]


def _names_of(kind: type) -> set[str]:
    return {name for base in _our_bases(kind) for name in base.__dict__}


def _entries(docstring: str) -> dict[str, str]:
    """Return the text of each entry in the section `Args`, by the name of the argument."""
    entries: dict[str, str] = {}
    section = name = ""
    for line in docstring.splitlines():
        if heading := _SECTION.match(line):
            section = heading[1]
        elif section == "Args" and (entry := _ENTRY.match(line)):
            name = entry[1]
            entries[name] = line
        elif section == "Args" and name:
            entries[name] += f" {line.strip()}"
    return entries


def _problems(signature: inspect.Signature, docstring: str) -> list[str]:
    entries = _entries(docstring)
    return [
        f"{name} has no entry" if name not in entries else f"the default of {name} is not stated"
        for name, parameter in signature.parameters.items()
        if name not in {"self", "session"}
        and (
            name not in entries or (parameter.default is not parameter.empty and "default" not in entries[name].lower())
        )
    ]


_CALLABLES = _public_callables()


@pytest.mark.parametrize("name", sorted(_CALLABLES))
def test_docstring_describes_each_argument_and_its_default(name: str) -> None:
    assert _problems(*_CALLABLES[name]) == []


def test_missing_entry_and_missing_default_are_found() -> None:
    def delete(limit: int = 5, *, older_than: int = 6, dry_run: bool = False) -> None:
        """Delete rows.

        Args:
            limit: The largest number of rows.
            dry_run: Whether nothing is deleted. Defaults to false.
        """

    problems = _problems(inspect.signature(delete), inspect.getdoc(delete) or "")

    assert problems == ["the default of limit is not stated", "older_than has no entry"]
