"""`datadog.schema_check`: each kind of problem that a payload can have with the models of the API client."""

from collections.abc import Iterator

import pytest
from datadog import schema_check
from datadog_command import Command, Edit, delete, put

YES = True
REQUEST = ("widgets", 0, "definition", "widgets", 0, "definition", "requests", 0)
GRAPH = "widgets[0].definition.widgets[0].definition"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(1, "colour"), "colour is not a key: expected one of assets, created,"),
        (put(1, "options", "renotfy_interval"), "options.renotfy_interval is not a key: expected one"),
        (put(1, "options", "thresholds", "fatal"), "options.thresholds.fatal is not a key: expected"),
        (put("metric alarm", "type"), 'type is "metric alarm": expected one of audit alert, ci-'),
        (put("keep", "options", "on_missing_data"), 'options.on_missing_data is "keep": expected one'),
        (put(["oops"], "options", "renotify_statuses"), 'renotify_statuses[0] is "oops": expected one'),
        (delete("query"), "query is missing: expected it in every Monitor"),
        (delete("type"), "type is missing: expected it in every Monitor"),
        (put(7, "id"), "id is 7: expected nothing, because Datadog sets it"),
        (put("90", "options", "thresholds", "critical"), 'thresholds.critical is "90": expected a num'),
        (put("no", "options", "include_tags"), 'options.include_tags is "no": expected true or false'),
        (put(YES, "options", "evaluation_delay"), "options.evaluation_delay is true: expected"),
        (put("a,b", "tags"), 'tags is "a,b": expected a list'),
        (put([1], "options"), "options is [1]: expected an object"),
    ],
)
def test_a_monitor_that_does_not_fit_the_schema_is_rejected(command: Command, change: Edit, message: str) -> None:
    """An unknown, read-only or missing key and a wrong value are named with file, key, value and rule."""
    assert message in command.problem_after("monitors/cpu", change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (delete("title"), "title is missing: expected it in every Dashboard"),
        (put("grid", "layout_type"), 'layout_type is "grid": expected one of free, ordered'),
        (put(1, "widgets", 0, "definition", "colour"), "widgets[0].definition.colour is not a k"),
        (put("grup", "widgets", 0, "definition", "type"), 'definition.type is "grup": expected'),
        (
            put("metrix", *REQUEST, "queries", 0, "data_source"),
            f'{GRAPH}.requests[0].queries[0].data_source is "metrix": expected one of',
        ),
        (
            put("dots", *REQUEST, "display_type"),
            f'{GRAPH}.requests[0].display_type is "dots": expected one of area, bar',
        ),
    ],
)
def test_a_dashboard_that_does_not_fit_the_schema_is_rejected(command: Command, change: Edit, message: str) -> None:
    """A problem inside the nested widgets of a dashboard is named with its full path."""
    assert message in command.problem_after("dashboards/database", change)


def test_a_widget_is_compared_with_the_kind_that_it_names(command: Command) -> None:
    """A graph with many wrong keys is checked as a graph, although it has fewer problems as a note."""
    wrong = {"type": "timeseries", "content": "x", "tick_pos": "1"}
    command.edit("dashboards/database", put(wrong, *REQUEST[:5], "definition"))
    command.edit("dashboards/database", put("grup", "widgets", 1, "definition", "type"))

    missing, content, tick, kind = command.problems()

    graph = f"dashboards/database.json: {GRAPH}"
    assert missing == f"{graph}.requests is missing: expected it in every TimeseriesWidgetDefinition"
    assert content.startswith(f"{graph}.content is not a key: expected one of custom_links, description,")
    assert tick.startswith(f"{graph}.tick_pos is not a key: expected one of custom_links, description,")
    assert kind.startswith('dashboards/database.json: widgets[1].definition.type is "grup": expected one of alert_gr')
    assert {"group", "note", "timeseries"} <= set(kind.partition("expected one of ")[2].split(", "))


def test_the_client_validates_after_our_check(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """If our check accepts a payload, the client still rejects it for a wrong type and for a value it does not know."""

    def no_problems(_model: object, _value: object, _key: str) -> Iterator[str]:
        return iter(())

    monkeypatch.setattr(schema_check, "schema_problems", no_problems)
    command.edit("dashboards/database", put("grup", "widgets", 0, "definition", "type"))
    command.edit("monitors/cpu", put("metric alarm", "type"))
    command.edit("monitors/deadlocks", put("text", "options", "evaluation_delay"))

    unknown_type, wrong_type, unknown_widget = command.problems()

    assert unknown_type == 'monitors/cpu.json: type is "metric alarm", which is unknown to Datadog\'s client'
    assert wrong_type.startswith("monitors/deadlocks.json: Invalid type for variable 'evaluation_delay'")
    assert unknown_widget == "dashboards/database.json: widgets[0].definition is unknown to Datadog's client"
