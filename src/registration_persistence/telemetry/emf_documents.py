"""`documents`: metrics in the embedded metric format of CloudWatch."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

NAMESPACE = "RegistrationPersistence"
"""The namespace of the metrics in CloudWatch."""

MetricGroup = dict[str, list[float]]
"""The metrics of one tag, with the values of each."""


def documents(groups: Mapping[str, MetricGroup], *, environment: str) -> Iterator[dict[str, Any]]:
    """Return documents with all *groups*, by tag, of which a dimension has one value in each.

    Args:
        groups: The metrics of each tag, which is empty or `name:value`.
        environment: The value of the dimension `environment`.
    """
    for parts in _without_equal_names(groups):
        directives = []
        members: dict[str, Any] = {"environment": environment}
        for tag, metrics in parts.items():
            name, _, value = tag.partition(":")
            members |= {name: value} if name else {}
            members |= {metric: values[0] if len(values) == 1 else values for metric, values in metrics.items()}
            dimensions = [["environment"], ["environment", name]] if name else [["environment"]]
            units = {metric: "Seconds" if metric.endswith(".seconds") else "Count" for metric in metrics}
            definitions = [{"Name": metric, "Unit": unit} for metric, unit in units.items()]
            directives.append({"Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": definitions})
        metadata = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": directives}
        yield {"_aws": metadata, **members}


def _without_equal_names(groups: Mapping[str, MetricGroup]) -> list[dict[str, MetricGroup]]:
    """Return the groups in parts, in each of which the tags have different names."""
    parts: list[dict[str, MetricGroup]] = []
    for tag, metrics in groups.items():
        name = tag.partition(":")[0]
        free = (part for part in parts if all(other.partition(":")[0] != name for other in part))
        part = next(free, None)
        if part is None:
            parts.append(part := {})
        part[tag] = metrics
    return parts
