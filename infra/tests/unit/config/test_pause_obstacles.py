"""`config.pause_obstacles`: settings that keep a cluster with a minimum of 0 ACU awake."""

from environment_files import CLUSTER, DATADOG, EXISTING, PAUSE, accepted
from registration_infra.config.pause_obstacles import pause_obstacles

INSIGHTS = {"aurora.performance_insights": "true"}
WITHOUT_AGENT = {"datadog.database_monitoring": "false"}


def test_each_obstacle_is_reported() -> None:
    """The agent's session prevents each pause, and Performance Insights can delay it."""
    agent, insights = pause_obstacles(accepted(CLUSTER, PAUSE, DATADOG, INSIGHTS))

    assert agent == (
        "aurora.min_capacity is 0, but datadog.database_monitoring is true: the agent's session is always open, so the "
        "cluster never pauses while an agent runs"
    )
    assert insights.startswith("aurora.min_capacity is 0, but aurora.performance_insights is true: ")


def test_other_environments_have_none() -> None:
    """Without an obstacle, without a pause, or without a cluster, nothing is reported."""
    for keys in ({**CLUSTER, **PAUSE}, {**CLUSTER, **PAUSE, **DATADOG, **WITHOUT_AGENT}, {**CLUSTER, **DATADOG}):
        assert [*pause_obstacles(accepted(keys))] == []
    assert [*pause_obstacles(accepted(EXISTING))] == []
