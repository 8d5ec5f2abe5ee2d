"""The docstrings of public names stand alone: each argument is described, and each default is stated."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from public_callables import CALLABLES, arguments_of, entries_of


def _problems(described: Callable[..., Any]) -> Iterator[str]:
    """Yield each argument of *described* that has no entry, or a default that its entry does not state."""
    entries = entries_of(described)
    for name, parameter in arguments_of(described).items():
        if name not in entries:
            yield f"{name} has no entry"
        elif parameter.default is not parameter.empty and "default" not in entries[name].lower():
            yield f"the default of {name} is not stated"


@pytest.mark.parametrize("name", sorted(CALLABLES))
def test_docstring_describes_each_argument_and_its_default(name: str) -> None:
    """Every argument has an entry in `Args`, and an entry states the default if there is one."""
    assert list(_problems(CALLABLES[name])) == []


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
    } <= set(CALLABLES)
