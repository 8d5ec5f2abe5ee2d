"""Settings that keep a cluster awake, although its minimum capacity of 0 ACU lets it pause."""

from collections.abc import Iterator

from registration_infra.config.environment import EnvironmentConfig


def pause_obstacles(config: EnvironmentConfig) -> Iterator[str]:
    """Yield a message for each setting because of which the cluster of the environment hardly ever pauses."""
    if config.aurora is None or not config.aurora.pauses:
        return
    start = "aurora.min_capacity is 0, but"
    if config.datadog is not None and config.datadog.database_monitoring:
        yield (
            f"{start} datadog.database_monitoring is true: the agent's session is always open, so the cluster never "
            "pauses while an agent runs"
        )
    if config.aurora.performance_insights:
        yield f"{start} aurora.performance_insights is true: it can keep the capacity up, so the cluster pauses later"
