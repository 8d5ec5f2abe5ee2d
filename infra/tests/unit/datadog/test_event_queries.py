"""`datadog.event_queries`: the monitors and dashboards of an environment whose services send metrics."""

import json
import re

from datadog_command import Command, put
from fake_datadog import FakeDatadog

DATADOG_TABLE = """
[datadog]
site = "datadoghq.eu"
api_key_secret_arn = "arn:aws:secretsmanager:eu-central-1:111111111111:secret:datadog-AbCdEf"
event_metrics = true
"""


def send_metrics(command: Command) -> None:
    """Let the services of the environment dev send the package's events as metrics."""
    path = command.infra / "environments" / "dev.toml"
    text = path.read_text(encoding="utf-8")
    text = text.replace("[network]\n", "[network]\nnat_gateways = 1\n")
    path.write_text(text + DATADOG_TABLE, encoding="utf-8")


def test_monitors_count_metrics_if_services_send_them(shipped: Command) -> None:
    """Each monitor of log lines becomes one of metrics with the same threshold; no other payload changes."""
    logs = shipped.bodies()
    send_metrics(shipped)
    metrics = shipped.bodies()

    assert logs.keys() == metrics.keys()
    assert '"logs' not in json.dumps(metrics)
    assert "@event" not in json.dumps(metrics)
    retries = metrics["monitors/retries"]
    assert retries["type"] == "query alert"
    assert retries["query"] == (
        "sum(last_15m):sum:registration_persistence.retry"
        "{env:dev AND cause IN (transaction_conflict,lock_timeout)}.as_count() > 50"
    )
    assert retries["options"] == {
        "thresholds": {"critical": 50},
        "include_tags": True,
        "require_full_window": False,
        "notify_no_data": False,
    }
    assert metrics["monitors/logins-rejected"]["query"] == (
        "sum(last_15m):sum:registration_persistence.login_rejected{env:dev}.as_count() > 100"
    )
    for name, body in logs.items():
        if "@event" not in json.dumps(body):
            assert body == metrics[name]
        else:
            assert (body.get("message"), body.get("priority")) == (
                metrics[name].get("message"),
                metrics[name].get("priority"),
            )


def test_the_dashboard_counts_metrics_if_services_send_them(shipped: Command) -> None:
    """Each query of log lines becomes one of a metric, under the name that the formulas use."""
    logs = json.dumps(shipped.bodies()["dashboards/database"])
    send_metrics(shipped)
    metrics = json.dumps(shipped.bodies()["dashboards/database"])

    counted = re.findall(r"sum:registration_persistence\.(\w+)\{env:dev(?: AND cause IN \((.+?)\))?\}", metrics)
    searched = re.findall(r"@event:(\w+)(?: @cause:(?:\((.+?)\)|(\w+)))?", logs)
    assert counted == [(event, several.replace(" OR ", ",") or one) for event, several, one in searched]
    assert len(counted) > 15
    assert re.findall(r'"name": "q\d"', logs) == re.findall(r'"name": "q\d"', metrics)


def test_a_monitor_of_other_logs_stays(command: Command) -> None:
    """A monitor of log lines that are not the package's events is not changed."""
    send_metrics(command)
    other = 'logs("service:other").index("*").rollup("count").last("15m") > 50'
    command.edit("monitors/retries", put(other, "query"))

    body = command.bodies()["monitors/retries"]
    assert (body["type"], body["query"]) == ("log alert", other)


def test_a_monitor_of_another_type_is_replaced(command: Command, datadog: FakeDatadog) -> None:
    """Datadog cannot change the type of a monitor, so it is deleted and created again; the next run changes nothing."""
    command.apply(datadog)
    before = datadog.named("retries")["id"]
    send_metrics(command)

    changes = command.apply(datadog)

    assert "replaced monitor retries" in changes
    assert len([change for change in changes if change.startswith("replaced")]) == 7
    assert datadog.named("retries")["id"] != before
    assert datadog.named("retries")["type"] == "metric alert"
    assert command.apply(datadog) == []
