"""`expire` and `purge`, and the progress of long commands."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session
from workspace import Workspace

from registration_persistence import OutboxRepository, Retention
from registration_persistence.cli import remaining
from registration_persistence.database import forget_db

# The colours of rich: cyan for the time left, and yellow for the time of a bar that has reached its end.
LEFT, ELAPSED = r"\x1b\[36m", r"\x1b\[33m"
DELIVERY_SECONDS = 0.25
PURGE, CREATE = ("purge",), ("partitions",)
DELIVER = ("outbox", "run", "--once", "--deliver", "mail:deliver", "--batch", "1")


def test_expire_runs_batches_until_nothing_is_due(workspace: Workspace) -> None:
    """`expire` changes every registration that is due and no other, and prints the number."""
    workspace.import_registrations(14, "pending")
    workspace.import_registrations(6, "verified")
    workspace.execute("UPDATE registrations SET expires_at = now()")
    workspace.import_registrations(3, "pending")
    workspace.import_registrations(2)

    done = workspace.run("expire", "--batch", "5")

    assert re.fullmatch(r"expired 20 registrations in \d+\.\d s\n", done.stdout)
    assert done.stderr == ""
    assert {"expired": 20, "pending": 3, "active": 2} == {
        row["status"]: row["count"]
        for row in workspace.rows("SELECT status, count(*) FROM registrations GROUP BY status")
    }
    assert re.fullmatch(r"expired 0 registrations in \d+\.\d s\n", workspace.run("expire").stdout)


def test_purge_deletes_by_age(workspace: Workspace) -> None:
    """`purge` deletes closed registrations and ended tokens that are older than a number of days, 30 by default."""
    closed = {workspace.sign_up(f"closed{n}@example.com"): days for n, days in enumerate((29, 31, 31))}
    opened = {workspace.sign_up(f"open{n}@example.com"): days for n, days in enumerate((0, 29, 31, 31))}
    workspace.execute(
        *(
            f"UPDATE registrations SET status = 'expired', expires_at = NULL, close_reason = 'ttl',"
            f" closed_at = now() - interval '{days} d' WHERE id = '{registration_id}'"
            for registration_id, days in closed.items()
        ),
        *(
            f"UPDATE verification_tokens SET created_at = now() - interval '1 y',"
            f" expires_at = now() - interval '{days} d' WHERE registration_id = '{registration_id}'"
            for registration_id, days in opened.items()
        ),
    )

    done = workspace.run("purge", "--batch", "1")

    kept = list(closed)[:1]
    assert re.fullmatch(r"deleted 2 closed registrations in \d+\.\d s\ndeleted 2 tokens in \d+\.\d s\n", done.stdout)
    assert done.stderr == ""
    assert kept + list(opened) == [str(row["id"]) for row in workspace.rows("SELECT id FROM registrations ORDER BY id")]
    assert 3 == workspace.value("SELECT count(*) FROM verification_tokens")

    answers = workspace.run_each(
        ("purge", "--closed-days", "30", "--token-days", "28"), ("purge", "--closed-days", "28", "--token-days", "30")
    )

    assert [["0", "1"], ["1", "0"]] == [re.findall(r"deleted (\d+)", answer.stdout) for answer in answers]


def test_expire_shows_a_progress_bar_on_a_terminal(workspace: Workspace) -> None:
    """The bar is only on the terminal and is removed at the end; the summary is only on standard output."""
    workspace.import_registrations(3, "pending")
    workspace.execute("UPDATE registrations SET expires_at = now()")

    terminal, stdout = workspace.run_on_terminal("expire", "--batch", "1")

    assert "Expiring registrations" in terminal
    assert "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in terminal
    assert terminal.endswith("\x1b[2K")
    assert re.fullmatch(r"expired 3 registrations in \d+\.\d s\n", stdout)


def test_long_commands_show_the_time_left_on_a_terminal_only(workspace: Workspace) -> None:
    """The due rows are counted first, so a bar has the time left and reaches its end; with `--json` it is not shown."""
    let_end(workspace)
    assert ["", ""] == [workspace.run_on_terminal(*command, "--json")[0] for command in (PURGE, CREATE)]
    let_end(workspace)
    workspace.write("mail.py", f"import time\n\n\ndef deliver(message):\n    time.sleep({DELIVERY_SECONDS})\n")
    assert len(workspace.outbox()) >= 4

    for command, titles in (
        (PURGE, ("Purging closed registrations", "Purging tokens")),
        (CREATE, ("Creating partitions",)),
        (DELIVER, ("Delivering messages",)),
    ):
        terminal, _ = workspace.run_on_terminal(*command)
        for title in titles:
            *_, last = (line for line in re.split("[\r\n]", terminal) if title in line)
            assert re.search(rf"{ELAPSED}\d+:\d\d:\d\d", last), title
        assert terminal.endswith("\x1b[2K")
    assert re.search(rf"{LEFT}\d+:\d\d:\d\d", terminal)
    assert [] == workspace.outbox()


def let_end(workspace: Workspace) -> None:
    """Let a registration and a token end so long ago that `purge` deletes them."""
    closed, open_ = (workspace.sign_up(f"{name}@example.com") for name in ("closed", "open"))
    workspace.execute(
        "UPDATE registrations SET status = 'expired', expires_at = NULL, close_reason = 'ttl',"
        f" closed_at = now() - interval '1 y' WHERE id = '{closed}'",
        "UPDATE verification_tokens SET created_at = now() - interval '2 y', expires_at = now() - interval '1 y'"
        f" WHERE registration_id = '{open_}'",
    )


def test_the_rows_of_a_bar_are_those_that_the_command_processes(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counts for the bars are those of the statements: the same statuses, and the same times."""
    for name, value in workspace.environ.items():
        monkeypatch.setenv(name, value)
    workspace.import_registrations(2, "pending", announce=True)
    workspace.import_registrations(1, "verified")
    workspace.execute("UPDATE registrations SET expires_at = now()")
    workspace.execute("UPDATE outbox SET dead_at = now() WHERE event_id IN (SELECT event_id FROM outbox LIMIT 1)")
    lapsed = workspace.sign_up("ada@example.com")
    workspace.execute(f"UPDATE verification_tokens SET expires_at = now() WHERE registration_id = '{lapsed}'")
    later = datetime.now(UTC) + timedelta(days=1)

    def both(counted: Callable[[], int | None], processed: Callable[[Session], int]) -> tuple[int | None, int]:
        before = counted()
        with workspace.database.session() as session:
            return before, processed(session)

    assert (3, 3) == both(remaining.lapsed_registrations, lambda session: Retention(session).expire_due())
    assert (1, 1) == both(lambda: remaining.ended_tokens(later), lambda session: Retention(session).purge_tokens(later))
    assert (3, 3) == both(
        lambda: remaining.closed_registrations(later), lambda session: Retention(session).purge_closed(later)
    )
    due, claimed = both(remaining.due_messages, lambda session: len(OutboxRepository(session).claim(100)))
    assert due == claimed == len(workspace.outbox()) - 1
    forget_db()
