"""`datadog.monitor_rules`: the rules for a monitor beyond the schema of the API."""

import pytest
from datadog_command import Command, Edit, delete, put


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("cpu", delete("name"), "name is missing: expected text"),
        ("cpu", delete("message"), "message is missing: expected text"),
        ("cpu", delete("options"), "options.thresholds.critical is missing: expected 90, as in the query"),
        ("cpu", put(95, "options", "thresholds", "critical"), "critical is 95: expected 90, as in the query"),
        ("cpu", put(91, "options", "thresholds", "warning"), "warning is 91: expected less than critical, 90"),
        ("freeable-memory", put(9, "options", "thresholds", "warning"), "warning is 9: expected more than cr"),
        ("cpu", put("avg:x{*}", "query"), 'query is "avg:x{*}": expected a comparison with a number at its'),
        ("cpu", put(["env:dev"], "tags"), 'tags[0] is "env:dev": expected none of managed_by:, monitor_id:'),
    ],
)
def test_a_monitor_that_breaks_a_rule_is_rejected(command: Command, file: str, change: Edit, message: str) -> None:
    """A monitor needs a name, a message, thresholds that match its query, and no reserved tag."""
    assert message in command.problem_after(f"monitors/{file}", change)
