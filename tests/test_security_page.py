"""The threat model in `docs/security.md`."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ATTACKERS = (
    "A stranger",
    "A service with a bug",
    "A stolen login of the service",
    "A stolen login of the monitoring",
    "The administrator of another account",
    "A man in the middle",
    "A dependency",
)


def test_each_attacker_has_limits_that_are_shown() -> None:
    """The section of each attacker has a table of what it cannot do, and names a test or a benchmark for each line."""
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    assert set(ATTACKERS) <= set(sections)

    for attacker in ATTACKERS:
        table = sections[attacker].partition("| cannot | shown by |\n|---|---|\n")[2].partition("\n\n")[0]
        lines = table.splitlines()
        assert lines, attacker
        assert [] == [line for line in lines if not re.search(r"\| `(tests|infra/tests|benchmarks)/[^|]+` \|$", line)]


def test_each_test_exists() -> None:
    """The page names no test and no file that was renamed or removed."""
    missing = []
    for path, name in re.findall(r"`((?:tests|infra/tests|benchmarks)/[\w./-]+\.py)(?:::(\w+))?`", PAGE):
        file = ROOT / path
        functions = (
            {
                node.name
                for node in ast.parse(file.read_text(encoding="utf-8")).body
                if isinstance(node, ast.FunctionDef)
            }
            if file.exists()
            else set()
        )
        if not file.exists() or (name and name not in functions):
            missing.append(f"{path}::{name}")

    assert [] == missing
    assert len(re.findall(r"::test_\w+`", PAGE)) > 30
