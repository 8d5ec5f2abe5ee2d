"""`datadog.sync`: which changes `--apply` makes."""

import json

from datadog.marks import OWNER
from datadog_command import Command, delete, put
from fake_datadog import FakeDatadog


def test_the_first_run_creates_everything_and_the_second_changes_nothing(
    command: Command, datadog: FakeDatadog
) -> None:
    """The first run creates all that was checked, and the second run only reads."""
    assert len(command.apply(datadog)) == 17
    assert (len(datadog.monitors), len(datadog.dashboards)) == (16, 1)
    assert {OWNER, "monitor_id:cpu", "env:dev", "service:registration"} <= set(datadog.named("cpu")["tags"])
    datadog.requests.clear()

    assert command.apply(datadog) == []
    assert datadog.changes == []
    assert datadog.requests != []


def test_our_monitors_are_found_on_later_pages(command: Command, datadog: FakeDatadog) -> None:
    """Our monitors and dashboards are found behind 150 of others."""
    datadog.filters = False
    for number in range(150):
        datadog.add_monitor({"name": f"{number}", "type": "log alert", "query": "x > 1", "tags": []})
        datadog.add_dashboard({"title": f"{number}", "layout_type": "ordered", "widgets": []})
    assert len(command.apply(datadog)) == 17

    assert command.apply(datadog) == []


def test_a_changed_file_is_one_update(command: Command, datadog: FakeDatadog) -> None:
    """Only the monitor and the dashboard of the changed files are updated, and they keep their ids."""
    command.apply(datadog)
    before = datadog.named("cpu")["id"]
    command.edit("monitors/cpu", put("new name", "name"))
    command.edit("dashboards/database", put("new title", "title"))

    assert command.apply(datadog) == ["updated monitor cpu", "updated dashboard database"]
    assert datadog.named("cpu")["name"] == "new name"
    assert datadog.named("cpu")["id"] == before
    assert [one["title"] for one in datadog.dashboards.values()] == ["new title"]
    assert command.apply(datadog) == []


def test_a_removed_key_is_an_update(command: Command, datadog: FakeDatadog) -> None:
    """If a key is removed from a file, the monitor is updated although Datadog has all keys that are left."""
    command.apply(datadog)
    command.edit("monitors/cpu", delete("options", "thresholds", "warning"))

    assert command.apply(datadog) == ["updated monitor cpu"]
    assert datadog.named("cpu")["options"]["thresholds"] == {"critical": 90.0}


def test_changes_by_hand_are_reverted(command: Command, datadog: FakeDatadog) -> None:
    """A threshold, a tag and a widget that someone edited in Datadog are set to the content of the files again."""
    command.apply(datadog)
    datadog.named("acu-utilisation")["options"]["thresholds"].pop("warning")
    datadog.named("cpu")["options"]["thresholds"]["critical"] = 99
    datadog.named("deadlocks")["tags"].append("team:other")
    (dashboard,) = datadog.dashboards.values()
    del dashboard["widgets"][0]["definition"]["widgets"][0]

    assert command.apply(datadog) == [
        "updated monitor acu-utilisation",
        "updated monitor cpu",
        "updated monitor deadlocks",
        "updated dashboard database",
    ]
    assert command.apply(datadog) == []


def test_a_monitor_without_a_file_is_deleted(command: Command, datadog: FakeDatadog) -> None:
    """If a file is removed, its monitor or dashboard is deleted, in this environment and in no other."""
    other = json.loads((command.files / "dashboards" / "database.json").read_text(encoding="utf-8"))
    (command.files / "dashboards" / "more.json").write_text(json.dumps(other), encoding="utf-8")
    command.apply(datadog)
    command.apply(datadog, "--environment", "prod")
    assert (len(datadog.monitors), len(datadog.dashboards)) == (32, 4)
    (command.files / "monitors" / "cpu.json").unlink()
    (command.files / "dashboards" / "more.json").unlink()

    assert command.apply(datadog) == ["deleted monitor cpu", "deleted dashboard more"]
    assert "env:prod" in datadog.named("cpu")["tags"]
    assert (len(datadog.monitors), len(datadog.dashboards)) == (31, 3)
    assert command.apply(datadog) == []


def test_a_clone_stops_the_sync(command: Command, datadog: FakeDatadog) -> None:
    """If someone cloned a monitor or a dashboard with its mark, both are named and nothing is changed."""
    command.apply(datadog)
    first = datadog.named("cpu")["id"]
    second = datadog.add_monitor({**datadog.named("cpu"), "name": "clone"})
    (dashboard,) = datadog.dashboards.values()
    clone = datadog.add_dashboard({**dashboard, "title": "clone"})
    command.edit("monitors/deadlocks", put("new name", "name"))
    datadog.requests.clear()

    code, _, err = command.run(datadog=datadog)

    assert code == 2
    assert f"monitors {first} and {second} both have the mark of cpu: expected one; remove the tag {OWNER} from" in err
    ids = f"{dashboard['id']} and {clone}"
    assert f"dashboards {ids} both have the mark of database: expected one; remove the last" in err
    assert datadog.changes == []


def test_the_next_run_completes_a_failed_one(command: Command, datadog: FakeDatadog) -> None:
    """If the fourth change fails, three are reported, and the next run makes only the others."""
    datadog.fail = lambda method, _path: (500, {}, "{}") if method == "POST" and len(datadog.changes) == 4 else None

    code, out, err = command.run("--notify", "@ops", datadog=datadog)

    assert code == 1
    assert out.splitlines()[-1] == "3 of 17 changes were made; run the command again to make the others"
    assert "500 when asked to create monitor connections:" in err
    assert len(datadog.monitors) == 3
    datadog.fail = lambda _method, _path: None
    assert len(command.apply(datadog)) == 14
    assert (len(datadog.monitors), len(datadog.dashboards)) == (16, 1)
    assert command.apply(datadog) == []
