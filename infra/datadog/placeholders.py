"""Placeholders in the files: their values in one environment, and their replacement."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from registration_infra import EnvironmentConfig

from datadog.problems import InvalidInput, as_json, child_key

PlaceholderValues = Mapping[str, str | float]

_BYTES_PER_ACU = 2 * 1024**3
_CONNECTIONS_WARNING_PERCENT, _CONNECTIONS_CRITICAL_PERCENT = 70, 80
_MEMORY_WARNING_SHARE, _MEMORY_CRITICAL_SHARE = 0.10, 0.05
_PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")


def placeholder_values(config: EnvironmentConfig) -> dict[str, str | float]:
    """Return the value of each placeholder except `notify` for the environment of *config*.

    No other function of this package knows the structure of *config*.

    Raises:
        InvalidInput: if the stack of the environment has no cluster.
    """
    aurora = config.aurora
    if aurora is None:
        rule = "expected true, because only a cluster of this stack can be watched"
        raise InvalidInput([f"environments/{config.name}.toml: provision_aurora is false: {rule}"])
    # Datadog changes the values of tags to lower case. These names are in lower case already.
    cluster = f"registration-{config.name}"
    return {
        "environment": config.name,
        "cluster": cluster,
        "migration_function": f"{cluster}-migrate",
        "rotation_functions": f"{cluster}-rotate-*",
        "max_capacity": aurora.max_capacity,
        "max_connections": aurora.max_connections,
        "connections_warning": aurora.max_connections * _CONNECTIONS_WARNING_PERCENT // 100,
        "connections_critical": aurora.max_connections * _CONNECTIONS_CRITICAL_PERCENT // 100,
        "memory_warning": int(aurora.max_capacity * _BYTES_PER_ACU * _MEMORY_WARNING_SHARE),
        "memory_critical": int(aurora.max_capacity * _BYTES_PER_ACU * _MEMORY_CRITICAL_SHARE),
        "readers": aurora.readers,
        "event_metrics": bool(config.datadog and config.datadog.event_metrics),
    }


def render(value: Any, values: PlaceholderValues, key: str, problems: list[str]) -> Any:
    """Return *value* with each placeholder replaced.

    The replacement happens in parsed JSON, so no value can change the structure of a file.

    Args:
        value: Parsed JSON.
        values: The value of each placeholder. A text that consists of one placeholder gets the type of its value.
        key: The path of *value* in its file.
        problems: Receives each unknown placeholder and each `${` without a closing brace.
    """
    if isinstance(value, dict):
        return {name: render(item, values, child_key(key, name), problems) for name, item in value.items()}
    if isinstance(value, list):
        return [render(item, values, f"{key}[{index}]", problems) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    found = list(_placeholder_problems(value, values, key))
    problems += found
    if found:
        return value
    whole = _PLACEHOLDER.fullmatch(value)
    return values[whole[1]] if whole else _PLACEHOLDER.sub(lambda match: str(values[match[1]]), value).strip()


def _placeholder_problems(text: str, values: PlaceholderValues, key: str) -> Iterator[str]:
    for name in _PLACEHOLDER.findall(text):
        if name not in values:
            yield f"{key} has the placeholder {as_json('${' + name + '}')}: expected one of {', '.join(values)}"
    if "${" in _PLACEHOLDER.sub("", text):
        yield f"{key} is {as_json(text)}: expected a closing brace after each ${{"
