"""The page docs/howto/doctor.md shows a real output, and describes every check."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from examined_service import Examine, Service

from registration_persistence.cli.doctor.check import ok
from registration_persistence.cli.doctor.diagnosis import steps_for
from registration_persistence.cli.doctor.printing import summary_of, text_of
from registration_persistence.database import DatabaseSettings
from registration_persistence.schema import READ_WRITE_ROLE

PAGE = Path(__file__).parents[3] / "docs/howto/doctor.md"
THREE_DEAD_LETTERS = (
    "INSERT INTO outbox (event_id, registration_id, type, payload, dead_at) SELECT gen_random_uuid(), "
    "gen_random_uuid(), 'registration.verified', '{{\"seq\": 1}}', statement_timestamp() FROM generate_series(1, 3)"
)
BROKEN = (
    f"REVOKE UPDATE (status) ON registrations FROM {READ_WRITE_ROLE}",
    "SET session_replication_role = replica",
    THREE_DEAD_LETTERS,
)
RESTORED = (
    f"GRANT UPDATE (status) ON registrations TO {READ_WRITE_ROLE}",
    "SET session_replication_role = replica",
    "DELETE FROM outbox",
)


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Return true."""
        return True


def shape_of(output: str) -> str:
    """Return *output* without numbers, ids and line breaks, which differ from run to run."""
    text = re.sub(r"app-\w{6}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{12}\b", "ID", output)
    text = re.sub(r"ahead of|behind", "SIDE", text)
    return " ".join(re.sub(r"[\d.:,-]*\d", "N", text).split())


def test_the_output_is_that_of_a_real_server(
    service: Service, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output of the page is that of a service with a missing grant, dead letters and no rotation."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    service.execute(*BROKEN)
    try:
        found = examine(service.environ)
    finally:
        service.execute(*RESTORED)
    # The support of the version depends on the day.
    checks = [
        ok("version", "PostgreSQL 18.4, fixes until 2030-11-14") if name == "version" else check
        for name, check in found.items()
    ]
    output = "\n".join([*(text_of(check, Terminal()) for check in checks), summary_of(checks, 0.31)])
    (shown,) = re.findall(r"```text\n(ok .*?)```", PAGE.read_text(), re.DOTALL)

    assert shape_of(shown) == shape_of(output), output
    assert all(len(line) <= 80 or "arn:aws" in line for line in output.splitlines())


def test_every_check_is_described() -> None:
    """The table has a row for each check that some settings have."""
    some: dict[str, Any] = {"host": "db", "name": "db", "environment": "test"}
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"
    endpoint = "app.cluster-c1a2b3.eu-west-1.rds.amazonaws.com"
    settings = (
        DatabaseSettings(**some, secret_arn=arn, reader_host="ro"),
        DatabaseSettings(**some, user="app", password="secret"),
        DatabaseSettings(host=endpoint, name="db", auth="iam", user="app"),
    )
    names = {step.name for each in settings for step in steps_for(each)} | {"environment", "libpq variables"}
    _, _, section = PAGE.read_text().partition("## The checks")
    rows = set(re.findall(r"^\| `([^`]+)` \|", section.partition("##")[0], re.MULTILINE))

    assert names == rows


def test_the_handler_of_the_page(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler returns the document of the command."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for name, value in service.with_password.items():
        monkeypatch.setenv(name, value)
    namespace: dict[str, Any] = {}
    exec(compile(code, PAGE.name, "exec"), namespace)  # noqa: S102 the code is our own documentation

    document = namespace["handle"]({}, None)

    assert {"login", "schema", "outbox"} <= {check["name"] for check in document["checks"]}
