"""`datadog.placeholders`: the values of an environment, and the rejection of wrong placeholders."""

import pytest
from datadog.placeholders import placeholder_values
from datadog_command import INFRA, Command, Edit, put
from registration_infra import load


def test_values_are_those_of_the_environment() -> None:
    """The values of the placeholders come from the environment's file."""
    values = placeholder_values(load(INFRA / "environments" / "prod.toml"))

    assert (values["environment"], values["cluster"], values["max_connections"]) == ("prod", "registration-prod", 189)


def test_limits_follow_the_capacity(command: Command) -> None:
    """The limits of a monitor follow from the maximum capacity, in its query and in its thresholds."""
    assert command.bodies()["monitors/connections"]["options"]["thresholds"] == {"critical": 151, "warning": 132}

    command.edit_environment("max_capacity = 1", "max_capacity = 4")

    bodies = command.bodies()
    assert bodies["monitors/connections"]["options"]["thresholds"] == {"critical": 658, "warning": 576}
    assert bodies["monitors/connections"]["query"].endswith(" > 658")
    assert "It allows 823," in bodies["monitors/connections"]["message"]
    critical = bodies["monitors/freeable-memory"]["options"]["thresholds"]["critical"]
    assert critical == int(4 * 2 * 1024**3 * 0.05)
    assert bodies["monitors/freeable-memory"]["query"].endswith(f" < {critical}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("${clutser}", "name"), 'name has the placeholder "${clutser}": expected one of environ'),
        (put("${clutser}", "priority"), 'priority has the placeholder "${clutser}": expected one of'),
        (put("x${}", "options", "escalation_message"), 'has the placeholder "${}": expected one of'),
        (put("${cluster", "name"), 'name is "${cluster": expected a closing brace after each ${'),
        (put("${environment}", "priority"), 'priority is "dev": expected'),
    ],
)
def test_a_wrong_placeholder_is_rejected(command: Command, change: Edit, message: str) -> None:
    """An unknown placeholder, an open one, and one with a value of the wrong type are named with file, key and rule."""
    assert message in command.problem_after("monitors/cpu", change)
