"""`config.readme_table`: the table of keys in infra/README.md."""

import re
import runpy
import shutil
from pathlib import Path

import pytest
from key_values import EXPECTED, VALUES
from registration_infra.config import readme_table
from registration_infra.config.readme_table import END, README, START, with_key_table

# Defaults as TOML writes them; keys that are not listed are optional and have none.
DEFAULTS = {
    "log_retention_days": "90",
    "network.cidr": '"10.0.0.0/16"',
    "network.nat_gateways": "0",
    "aurora.sslmode": '"verify-full"',
    "aurora.engine_version": '"18.4"',
    "aurora.extended_support": "false",
    "aurora.min_capacity": "0.5",
    "aurora.max_capacity": "1",
    "aurora.readers": "0",
    "aurora.removal": '"snapshot"',
    "aurora.backup_retention_days": "1",
    "aurora.authentication": '"secret"',
    "aurora.rotation": '"alternating"',
    "aurora.rotation_days": "30",
    "aurora.proxy": "false",
    "aurora.slow_query_ms": "1000",
    "aurora.performance_insights": "false",
    "existing.port": "5432",
    "existing.auth": '"secret"',
    "backup.own_plan": "false",
    "backup.own_plan_retention_days": "35",
    "backup.restore_test": "false",
    "backup.restore_test_min_registrations": "1",
    "application.reserved_concurrency": "50",
    "application.requests_per_second": "100",
    "application.connections": "1",
    "application.secret_source": '"secrets-manager"',
    "application.tls_groups": '""',
    "application.ssl_negotiation": '"postgres"',
    "application.snap_start": "false",
    "datadog.python_layer_version": "120",
    "datadog.extension_layer_version": "90",
    "datadog.event_metrics": "false",
    "datadog.database_monitoring": "true",
}
REQUIRED = {
    *("provision_aurora", "account", "region", "network.availability_zones"),
    *("aurora.database_name", "aurora.deletion_protection", "aurora.force_ssl"),
    *("existing.host", "existing.name"),
    *("datadog.site", "datadog.api_key_secret_arn"),
}


def rows() -> dict[str, tuple[str, str, str]]:
    """Return the default, the values and the meaning of each key in the README."""
    table = README.read_text(encoding="utf-8").partition(START)[2].partition(END)[0]
    found = re.findall(r"^\| `([a-z_.]+)` \| (.*) \| (.*) \| (.*) \|$", table, re.MULTILINE)
    return {key: (default, values, meaning) for key, default, values, meaning in found}


def test_the_readme_has_the_generated_table() -> None:
    """The README is the same after the table is generated again."""
    readme = README.read_text(encoding="utf-8")

    assert readme.count(START) == readme.count(END) == 1
    assert with_key_table(readme) == readme


def test_every_key_has_its_row() -> None:
    """The table has a row for each key, with the expected values of its messages and with its meaning."""
    assert list(rows()) == sorted(rows(), key=lambda key: "." in key)
    assert rows().keys() == VALUES.keys()
    for key, (_, values, meaning) in rows().items():
        assert (key, values) == (key, EXPECTED[key])
        assert re.fullmatch(r"[A-Z].*\.", meaning), key


def test_every_row_has_the_default() -> None:
    """The table has the default of each key as TOML writes it, and marks the required keys."""
    for key, (default, _, _) in rows().items():
        given = "required" if key in REQUIRED else f"`{DEFAULTS[key]}`" if key in DEFAULTS else ""
        assert (key, default) == (key, given)


@pytest.mark.parametrize("table", ["", "| an old | table |\n"])
def test_the_command_writes_the_table(tmp_path: Path, table: str) -> None:
    """The command replaces the text between the comments, and nothing else."""
    module = tmp_path / "registration_infra/config/readme_table.py"
    module.parent.mkdir(parents=True)
    shutil.copy(str(readme_table.__file__), module)
    readme = tmp_path / "README.md"
    readme.write_text(f"# Before\n\n{START}{table}{END}\nAfter\n", encoding="utf-8")

    runpy.run_path(str(module), run_name="__main__")

    _, _, after = README.read_text(encoding="utf-8").partition(START)
    assert readme.read_text(encoding="utf-8") == f"# Before\n\n{START}{after.partition(END)[0]}{END}\nAfter\n"
