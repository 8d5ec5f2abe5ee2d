"""The SQL of the migrations is checked by squawk, which knows the statements that block a table in use."""

import json
import subprocess
import sys
from pathlib import Path

from registration_persistence import schema

COUNTER = "the number is limited far below by the package"

# The reason for each finding that is allowed: the rule, and the beginning of the line.
ALLOWED = {
    ("prefer-text-field", "version_num"): "Alembic's own column, which never changes",
    ("require-statement-timeout", "CREATE INDEX"): "an index takes as long as the table is large; locks time out",
    ("changing-column-type", "ALTER TABLE"): "the type stays the same; nothing else removes a column's statistics",
    ("ban-drop-constraint", "ALTER TABLE"): "a wide CHECK is replaced by a narrow one in the same transaction",
    ("prefer-bigint-over-int", "attempts"): COUNTER,
    ("prefer-bigint-over-int", "seq"): COUNTER,
    ("prefer-bigint-over-int", "version"): COUNTER,
    ("prefer-bigint-over-smallint", "email_key_rev"): COUNTER,
    ("prefer-bigint-over-smallint", "tokens_issued"): COUNTER,
    ("prefer-bigint-over-smallint", "hash_key_id"): "the id of a pepper, at most 32,767",
    ("prefer-bigint-over-smallint", "attempts"): COUNTER,
}


def findings(script: str, folder: Path) -> set[tuple[str, str]]:
    """Return the findings in *script*: the rule, and the beginning of the line."""
    file = folder / "migrations.sql"
    file.write_text(script)
    squawk = [str(Path(sys.executable).with_name("squawk")), "--reporter", "json", "--pg-version", "15.0", str(file)]
    done = subprocess.run(squawk, capture_output=True, text=True, check=False)
    lines = script.splitlines()
    return {(finding["rule_name"], beginning(lines[finding["line"]])) for finding in json.loads(done.stdout)}


def beginning(line: str) -> str:
    """Return the name of a column, or the first two words of a statement."""
    words = line.split()
    return " ".join(words[:2]) if words[0].isupper() else words[0]


def test_squawk_finds_nothing_else(tmp_path: Path) -> None:
    """Each finding in the SQL of all revisions is allowed for a reason, and each reason is needed."""
    assert findings(schema.upgrade_sql(), tmp_path) == set(ALLOWED)


def test_squawk_finds_a_blocking_statement(tmp_path: Path) -> None:
    """A constraint that is validated at once, and an index that blocks writes, are found."""
    script = """
        SET lock_timeout = '2s';
        ALTER TABLE outbox ADD CONSTRAINT positive CHECK (attempts >= 0);
        CREATE INDEX mine ON outbox (attempts);
    """

    found = {rule for rule, _ in findings(script, tmp_path)}

    assert {"constraint-missing-not-valid", "require-concurrent-index-creation"} <= found
