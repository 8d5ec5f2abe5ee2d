"""The schema of a database as SQL, in the form of one `pg_dump` for every version of the server."""

import re
import subprocess

from registration_persistence import DatabaseSettings
from registration_persistence.sandbox import embedded_binaries

# Partitions of months depend on the day; the others are in the dump.
_MONTHS = "registration_events_y*"
# The versions of the server and of the program, and a random word.
_VOLATILE_LINE = re.compile(r"^(-- Dumped |\\(un)?restrict )")
# Since PostgreSQL 18, NOT NULL is a constraint with a name.
# The dump contains the names in a partition, which are those of the partitioned table.
_NAME_OF_NOT_NULL = re.compile(r" CONSTRAINT \w+_not_null(?= NOT NULL)")


def schema_dump(settings: DatabaseSettings) -> str:
    """Return the statements that create the schema, without owners and partitions of months."""
    done = subprocess.run(
        [
            *(embedded_binaries() / "pg_dump", "--schema-only", "--no-owner", f"--exclude-table={_MONTHS}"),
            *("-h", settings.host, "-p", str(settings.port), "-U", str(settings.user), settings.name),
        ],
        env={"PGPASSWORD": settings.password or ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [_NAME_OF_NOT_NULL.sub("", line) for line in done.stdout.splitlines() if not _VOLATILE_LINE.match(line)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"
