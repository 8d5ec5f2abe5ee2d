"""`doctor`: the judgements that need a date or a number that no test can produce on a real server."""

import ast
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from registration_persistence import DatabaseSettings
from registration_persistence.cli.doctor.activity import activity_check, id_age_check
from registration_persistence.cli.doctor.check import Check, failed
from registration_persistence.cli.doctor.clock_skew import skew_check
from registration_persistence.cli.doctor.outbox import age_check
from registration_persistence.cli.doctor.schema_state import months_check
from registration_persistence.cli.doctor.server_settings import Interference, Setting, fix_of, interferences
from registration_persistence.cli.doctor.support_dates import LAST_RELEASE_OF_MAJOR, support_check

ROOT = Path(__file__).parents[3]
QUIET = {
    "pid": None, "user": None, "state": None, "seconds": None, "snapshot_age": None, "prepared_seconds": None,
    "slot_age": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("version", "major", "today", "state", "shown"),
    [
        ("16.9", 16, "2026-11-29", "ok", "PostgreSQL 16.9, fixes until 2028-11-09"),
        ("15.18", 15, "2026-11-11", "ok", "fixes until 2027-11-11"),
        ("15.18", 15, "2026-11-12", "warning", "the last fixes come on 2027-11-11"),
        ("15.18", 15, "2027-11-12", "failed", "no fixes since 2027-11-11"),
        ("14.22", 14, "2026-11-29", "failed", "this package expects 15 to 18"),
        ("19.0", 19, "2026-11-29", "warning", "newer than this version of the package knows"),
    ],
)
def test_the_end_of_support_is_judged_by_the_date(version: str, major: int, today: str, state: str, shown: str) -> None:
    """A year before the end is a warning, the end and an unknown old version are failures."""
    check = support_check("version", version, major, date.fromisoformat(today))

    assert state == check.state
    assert shown in check.detail


def test_the_dates_are_those_of_the_infrastructure() -> None:
    """The package and `infra`, which cannot import each other, have the same dates."""
    source = ROOT / "infra/registration_infra/config/engine_support.py"
    (table,) = (
        node.value
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id == "_LAST_RELEASE_OF_MAJOR"
    )
    assert isinstance(table, ast.Dict)
    dates = {
        int(ast.literal_eval(cast(ast.expr, key))): date(
            *(ast.literal_eval(each) for each in cast(ast.Call, value).args)
        )
        for key, value in zip(table.keys, table.values, strict=True)
    }
    assert dates == dict(LAST_RELEASE_OF_MAJOR)


@pytest.mark.parametrize(
    ("offset", "uncertainty", "state"),
    [
        (0.0, 0.001, "ok"), (-4.9, 0.0, "ok"), (5.5, 1.0, "ok"), (6.5, 1.0, "warning"), (-6.5, 1.0, "warning"),
        (299.0, 0.1, "warning"), (-301.0, 0.1, "failed"),
    ],
)  # fmt: skip
def test_a_clock_is_judged_by_the_least_difference(offset: float, uncertainty: float, state: str) -> None:
    """Half of the round trip is subtracted; AWS refuses signatures that are 5 minutes off."""
    check = skew_check(offset, uncertainty)

    assert state == check.state
    assert ("ahead of" if offset > 0 else "behind") in check.detail


@pytest.mark.parametrize(
    ("changes", "state", "shown"),
    [
        ({}, "ok", "the oldest transaction has lasted 0 s"),
        ({"seconds": 299.0, "snapshot_age": 100_000}, "ok", "299 s"),
        ({"seconds": 301.0, "pid": 7, "user": "app", "state": "idle in transaction"}, "warning", "process 7 of app"),
        ({"snapshot_age": 100_001}, "warning", "100,001 transactions"),
        ({"snapshot_age": 1_000_001}, "failed", "1,000,001 transactions"),
        ({"slot_age": 100_001}, "warning", "a replication slot holds back 100,001 transactions"),
        ({"prepared_seconds": 3601.0}, "warning", "a prepared transaction is 3601 s old"),
    ],
)
def test_snapshots_are_judged_by_their_age(changes: dict[str, Any], state: str, shown: str) -> None:
    """Each way to hold back vacuum is named, with the thresholds of the monitors."""
    check = activity_check(cast(Any, SimpleNamespace(**(QUIET | changes))), sees_all=True)

    assert state == check.state
    assert shown in check.detail


def test_ages_are_judged() -> None:
    """The ages of transaction ids and of messages have a limit for a warning and one for a failure."""
    assert ["ok", "warning", "failed"] == [id_age_check(age * 10**8).state for age in (5, 6, 11)]
    assert id_age_check(6 * 10**8).fix.endswith("docs/runbooks/freeze-transaction-ids.md")
    assert ["ok", "ok", "warning", "failed"] == [age_check(age).state for age in (None, 299.0, 300.0, 3600.0)]


def test_a_database_with_another_encoding_fails() -> None:
    """An encoding cannot be reset, so the fix is another database; a limit of transactions is a warning."""
    settings = DatabaseSettings(host="db", name="db", environment="test", user="app", password="secret")
    in_effect = {"server_encoding": Setting("LATIN1", "override"), "transaction_timeout": Setting("5000", "user")}
    encoding, timeout = interferences(in_effect, settings)

    assert (encoding.name, encoding.breaks) == ("server_encoding", True)
    assert (timeout.name, timeout.breaks) == ("transaction_timeout", False)


def test_the_texts_of_a_hostile_server() -> None:
    """A name in a statement cannot end its quotes, and a long text or an escape sequence does not reach a terminal."""
    jit = Interference("jit", Setting("on", "user"), "slow", wanted="off")
    assert fix_of(jit, 'app" SUPERUSER; --', "db") == 'ALTER ROLE "app"" SUPERUSER; --" SET jit = off'
    of_database = Interference("row_security", Setting("off", "database"), "fails")
    assert fix_of(of_database, "app", 'd"b') == 'ALTER DATABASE "d""b" RESET row_security'
    assert failed("login", "\x1b]0;x\x07 \u202e\n" + "x" * 100_000, "y" * 100_000) == Check(
        "login", "failed", "?]0;x? ? " + "x" * 1991 + "...", "y" * 2000 + "..."
    )


def test_months_are_counted_over_the_end_of_a_year() -> None:
    """The months ahead of November 2026 go on in 2027; a gap ends the count, and other names do not matter."""
    now = datetime(2026, 11, 29, tzinfo=UTC)
    names = [f"registration_events_{month}" for month in ("y2026m11", "y2026m12", "y2027m01", "y2027m03", "default")]

    assert months_check(names, now).detail == "this month, and 2 months ahead"
    assert months_check(names[1:], now).state == "failed"
    assert months_check(names[:2], now).state == "warning"
    assert months_check([], now).state == "failed"
