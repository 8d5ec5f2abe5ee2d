"""`load` and `parse`: from a file of an environment to an `EnvironmentConfig`."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registration_infra.config.environment import EnvironmentConfig
from registration_infra.config.errors import InfraConfigError
from registration_infra.config.field_problems import unknown_key_problem


def load(path: Path) -> EnvironmentConfig:
    """Read the environment that is named like the file at *path* from this file.

    Raises:
        InfraConfigError: The file cannot be read, or its environment is wrong. The error lists every problem.
    """
    try:
        values = tomllib.loads(_text(path))
    except OSError as error:
        raise InfraConfigError(str(path), [f"it cannot be read: {error.strerror}"]) from error
    except (ValueError, RecursionError) as error:
        raise InfraConfigError(str(path), [f"it cannot be read as TOML: {error}"]) from error
    return parse(path.stem, values, source=str(path))


def parse(name: str, values: Mapping[str, Any], *, source: str) -> EnvironmentConfig:
    """Return the environment *name* with *values*, which are the content of *source*.

    Raises:
        InfraConfigError: The environment is wrong. The error lists every problem.
    """
    # The model has a field `name`, the file must not have it.
    problems = [unknown_key_problem("name", EnvironmentConfig)] if "name" in values else []
    try:
        environment = EnvironmentConfig.model_validate({**values, "name": name})
    except InfraConfigError as error:
        raise InfraConfigError(source, [*problems, *error.problems]) from None
    if problems:
        raise InfraConfigError(source, problems)
    return environment


def _text(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte order mark, but must be UTF-8 without one")
    return text
