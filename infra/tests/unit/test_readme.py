"""infra/README.md matches the configuration, the Makefile and the files."""

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from registration_infra.config import _KINDS, EnvironmentConfig
from registration_infra.rules import TABLES, TOP

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ROOT = Path(__file__).parents[3]


def rows() -> dict[str, str]:
    """Return the default that the README's table gives for each key; `.name` is in the table of the key before it."""
    found = {}
    section = README.partition("## What a file may say")[2].partition("\n## ")[0]
    for names, defaults in re.findall(r"^\| (`[a-z_.`, ]+`) \| ([^|]*?) ?\|", section, re.MULTILINE):
        table, keys = "", re.findall(r"`([a-z_.]+)`", names)
        values = [value.strip("` ") for value in defaults.split(",")]
        for number, key in enumerate(keys):
            table = key.rpartition(".")[0] if not key.startswith(".") else table
            full = f"{table}{key}" if key.startswith(".") else key
            found[full] = values[number] if number < len(values) else ""
    return found


def test_every_key_has_its_row() -> None:
    """Those of the tables and those above them, and no other."""
    keys = {*TOP, *(f"{table}.{key}" for table, keys in TABLES.items() for key in keys)}

    assert keys - {"aurora.retention_reason"} == rows().keys()
    assert "`aurora.retention_reason`" in README


def test_every_default_is_the_real_one() -> None:
    """As TOML writes it, or nearly so."""
    defaults: dict[str, Any] = {
        f"{table}.{each.name}": each.default for table, kind in _KINDS.items() for each in fields(kind)
    } | {each.name: each.default for each in fields(EnvironmentConfig)}

    for key, shown in rows().items():
        default = defaults.get(key)
        given = "" if default is MISSING or default is None else str(default)
        assert (key, given.lower() if isinstance(default, bool) else given) == (key, shown)


def test_targets_and_links_exist() -> None:
    """Every `make …` is a target of the Makefile, and every link leads to a file."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE))
    assert {"infra-synth", "deploy-database", "bootstrap", "migrate"} <= named <= targets
    for link in re.findall(r"\]\(([^)#]+)", README):
        assert (ROOT / "infra" / link).exists(), link
