"""The package's events in Datadog: a monitor or dashboard that counts log lines, changed to count metrics instead."""

import re
from collections.abc import Mapping
from typing import Any

_EVENT = r"@logger:registration_persistence\.database @event:(?P<event>\w+)(?: @cause:(?P<causes>\w+|\([\w ]+\)))?"
_SEARCH = re.compile(rf"env:(?P<environment>[\w-]+) {_EVENT}")
_MONITOR = re.compile(
    r'logs\("(?P<search>[^"]+)"\)\.index\("\*"\)\.rollup\("count"\)\.last\("(?P<period>\w+)"\) (?P<comparison>.+)'
)
# The options of a monitor of logs that one of metrics does not have.
_LOG_OPTIONS = ("enable_logs_sample", "on_missing_data")


def counting_metrics(part: Any) -> Any:
    """Return the payload *part* with each query of log lines of the package's events replaced by one of its metrics.

    `registration_persistence.telemetry.datadog` reports each event as the metric `registration_persistence.EVENT` with
    the tag `cause`.

    Args:
        part: A payload with its placeholders replaced, or a part of it.
    """
    if isinstance(part, list):
        return [counting_metrics(item) for item in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") == "log alert":
        return _metric_monitor(part)
    if part.get("data_source") == "logs":
        return _metric_query(part)
    return {key: counting_metrics(item) for key, item in part.items()}


def _metric_monitor(body: Mapping[str, Any]) -> Any:
    found = _MONITOR.fullmatch(str(body.get("query")))
    metric = found and _metric(found["search"])
    if not found or not metric:
        return body  # of other logs than the package's
    options = {key: value for key, value in body.get("options", {}).items() if key not in _LOG_OPTIONS}
    # An event that does not happen sends no metric.
    options |= {"require_full_window": False, "notify_no_data": False}
    query = f"sum(last_{found['period']}):{metric} {found['comparison']}"
    return {**body, "type": "query alert", "query": query, "options": options}


def _metric_query(query: Mapping[str, Any]) -> Any:
    metric = _metric(str(query.get("search", {}).get("query")))
    if not metric:
        return query
    return {"name": query.get("name"), "data_source": "metrics", "query": metric}


def _metric(search: str) -> str | None:
    """Return the metric that counts the log lines of *search*; `None` if they are not those of one event."""
    found = _SEARCH.fullmatch(search)
    if found is None:
        return None
    causes = re.findall(r"\w+", (found["causes"] or "").replace(" OR ", " "))
    scope = [f"env:{found['environment']}", *([f"cause IN ({','.join(causes)})"] if causes else [])]
    return f"sum:registration_persistence.{found['event']}{{{' AND '.join(scope)}}}.as_count()"
