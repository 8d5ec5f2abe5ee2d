"""Comparison of a payload with the state in Datadog."""

from collections.abc import Mapping
from typing import Any


def covers(sent: Any, found: Any) -> bool:
    """Return whether *found* contains all of *sent*.

    Datadog adds keys of its own, strips white space and does not keep the order of tags.
    """
    if isinstance(sent, dict):
        if not isinstance(found, dict):
            return False
        return all(_covers_key(key, value, found.get(key)) for key, value in sent.items())
    if isinstance(sent, list):
        return isinstance(found, list) and len(sent) == len(found) and all(map(covers, sent, found))
    if isinstance(sent, str) and isinstance(found, str):
        return sent.strip() == found.strip()
    return bool(sent == found)


def same_type(sent: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Return whether the type of *found* is that of *sent*. Datadog cannot change the type of a monitor."""
    return _covers_key("type", sent.get("type"), found.get("type"))


def _covers_key(key: str, sent: Any, found: Any) -> bool:
    if key == "tags" and isinstance(sent, list) and isinstance(found, list):
        return sorted(sent) == sorted(found)
    if key == "type" and {sent, found} == {"metric alert", "query alert"}:
        return True  # Two names of the same type. Datadog answers with either.
    return covers(sent, found)
