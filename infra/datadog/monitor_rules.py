"""Rules for a monitor that the schema of the API does not express."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from datadog.marks import RESERVED_TAG_PREFIXES
from datadog.problems import as_json

_THRESHOLD = re.compile(r"(<=|>=|==|!=|<|>) *(-?[\d.]+)$")


def monitor_rule_problems(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield each rule that the monitor *body*, which fits the schema, breaks."""
    for key in ("name", "message"):
        if not body.get(key):
            yield f"{key} is missing: expected text that tells an operator what the alarm means"
    for index, tag in enumerate(body.get("tags", [])):
        if tag.startswith(RESERVED_TAG_PREFIXES):
            reserved = ", ".join(RESERVED_TAG_PREFIXES)
            yield f"tags[{index}] is {as_json(tag)}: expected none of {reserved}, which this command sets"
    yield from _threshold_problems(body)


def _threshold_problems(body: Mapping[str, Any]) -> Iterator[str]:
    thresholds = body.get("options", {}).get("thresholds", {})
    critical, warning = thresholds.get("critical"), thresholds.get("warning")
    comparison = _THRESHOLD.search(body["query"])
    if comparison is None:
        yield f"query is {as_json(body['query'])}: expected a comparison with a number at its end"
        return
    operator, number = comparison.groups()
    if critical is None:
        yield f"options.thresholds.critical is missing: expected {number}, as in the query"
    elif float(number) != critical:
        yield f"options.thresholds.critical is {as_json(critical)}: expected {number}, as in the query"
    elif warning is not None and (warning >= critical if ">" in operator else warning <= critical):
        side = "less" if ">" in operator else "more"
        yield f"options.thresholds.warning is {as_json(warning)}: expected {side} than critical, {as_json(critical)}"
