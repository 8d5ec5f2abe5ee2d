"""`datadog.files`: which files are read, and what makes a file invalid as a whole."""

import shutil

import pytest
from datadog_command import Command, delete, put
from fake_datadog import FakeDatadog


def test_the_replica_lag_is_watched_if_there_are_readers(command: Command) -> None:
    """An environment without readers gets no monitor for their lag."""
    assert "monitors/replica-lag" not in command.bodies()

    command.edit_environment("max_capacity = 1", "max_capacity = 1\nreaders = 1")

    assert "monitors/replica-lag" in command.bodies()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it cannot be read as JSON: Expecting property name"),
        ('{"name": "a", "name": "b"}', "it cannot be read as JSON: the key name occurs twice"),
        ("[]", "the file is []: expected an object"),
    ],
)
def test_a_file_without_a_json_object_is_rejected(command: Command, text: str, message: str) -> None:
    """A file is rejected if it is not JSON, has a key twice or contains something else than an object."""
    (command.files / "monitors" / "cpu.json").write_text(text, encoding="utf-8")

    (problem,) = command.problems()

    assert problem.startswith(f"monitors/cpu.json: {message}")


def test_all_problems_are_reported_together(command: Command) -> None:
    """Two wrong keys in one file and one in another are reported as three problems of one error."""
    command.edit("monitors/cpu", put(1, "colour"))
    command.edit("monitors/cpu", put(1, "options", "size"))
    command.edit("dashboards/database", delete("title"))

    assert len(command.problems()) == 3


def test_a_file_name_that_cannot_be_a_tag_is_rejected(command: Command) -> None:
    """The name of a file becomes a tag, and tags in Datadog are in lower case and have no spaces."""
    (command.files / "monitors" / "cpu.json").rename(command.files / "monitors" / "CPU high.json")

    (problem,) = command.problems()

    assert problem.startswith('monitors/CPU high.json: the name is "CPU high": expected a-z')


def test_an_invalid_file_stops_apply(command: Command, datadog: FakeDatadog) -> None:
    """If one of sixteen files is invalid, `--apply` sends none of them and does not contact Datadog."""
    command.edit("dashboards/database", delete("title"))

    assert command.run(datadog=datadog)[0] == 2
    assert datadog.requests == []


def test_an_empty_folder_deletes_nothing(command: Command, datadog: FakeDatadog) -> None:
    """A folder without files is an error and does not delete all monitors."""
    command.apply(datadog)
    shutil.rmtree(command.files / "monitors")

    (problem,) = command.problems()

    assert problem == "monitors: *.json is missing: expected at least one file"
    assert command.run(datadog=datadog)[0] == 2
    assert len(datadog.monitors) == 16
