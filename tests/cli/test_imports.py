"""`import`: its options, its repetition, and its end by an error."""

import fcntl
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import COMMAND, TIMEOUT_SECONDS, Answer, one_line
from import_summary import counts
from workspace import Workspace, wait_until

from registration_persistence.repositories.bulk_import import DUPLICATE
from registration_persistence.testing import skip_or_fail

NO_AT = "the e-mail address is not valid: An email address must have an @-sign."
PEAK_MEMORY_PROGRAM = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_a_repeated_import_stores_nothing(workspace: Workspace) -> None:
    """Registrations that exist are duplicates, also pending ones without a key; duplicates alone end with 0."""
    workspace.write(
        "people.csv",
        "email,status,registered_at\nada@example.com,,\nbob@example.com,pending,\n"
        "bob@example.com,pending,2024-05-01T09:30:00Z\n",
    )
    everything = "SELECT * FROM registrations ORDER BY id"

    first = workspace.run("import", "people.csv")
    stored = workspace.rows(everything)
    second = workspace.run("import", "people.csv")

    assert [(3, 0, 0), (0, 3, 0)] == [counts(first.stdout), counts(second.stdout)]
    assert "people.rejected.csv" not in first.stdout
    assert second.stdout.endswith("line and reason of each row that was not stored are in people.rejected.csv\n")
    assert [(2, DUPLICATE), (3, DUPLICATE), (4, DUPLICATE)] == workspace.rejected()
    assert len(stored) == 3
    assert stored == workspace.rows(everything)
    assert [] == workspace.outbox()


def test_options_of_an_import(workspace: Workspace) -> None:
    """`--announce` adds an outbox message for each row, and `--open-days` sets the time until open rows expire."""
    workspace.write("people.txt", "email,status\nada@example.com,\nbob@example.com,pending\neve@example.com,verified\n")
    open_days = "SELECT round(extract(epoch FROM expires_at - now()) / 86400) AS days FROM registrations ORDER BY email"

    workspace.run("import", "people.txt", "--format", "csv", "--announce", "--open-days", "3")

    assert [None, 3, 3] == [row["days"] for row in workspace.rows(open_days)]
    assert ["registration.imported"] * 3 == [message["type"] for message in workspace.outbox()]
    assert workspace.rows("SELECT id FROM registrations ORDER BY id") == [
        {"id": row["registration_id"]} for row in workspace.rows("SELECT registration_id FROM outbox ORDER BY 1")
    ]


def test_a_dry_run_stores_nothing(workspace: Workspace) -> None:
    """It prints the counts of a real import, also for a duplicate of a row in an earlier batch."""
    rows = [f"person{number}@example.com\n" for number in range(1100)]
    workspace.write("people.csv", "".join(["email\n", *rows, "nobody\n", "PERSON0@example.com\n"]))

    done = workspace.run("import", "people.csv", "--dry-run", "--announce", code=1)

    assert done.stdout.splitlines()[0].endswith(", none of them kept: this was a dry run")
    assert (1100, 1, 1) == counts(done.stdout)
    assert [(1102, NO_AT), (1103, DUPLICATE)] == workspace.rejected()
    assert [[], [], []] == [
        workspace.rows(f"SELECT FROM {table}") for table in ("registrations", "registration_events", "outbox")
    ]


def test_an_import_can_be_repeated_after_the_file_is_corrected(workspace: Workspace) -> None:
    """An unclosed quote ends the import and names the line; earlier rows are kept and are duplicates the next time."""
    rows = [f"person{number}@example.com,x\n" for number in range(1500)]
    last_rows = [f"more{number}@example.com,x\n" for number in range(200)]
    start = ["email,profile.name\n", *rows]
    workspace.write("people.csv", "".join([*start, 'ada@example.com,"Ada\n', *last_rows]))

    broken = workspace.run("import", "people.csv", code=2)

    assert "people.csv, line 1502: not CSV" in one_line(broken.stderr)
    assert "can be imported again" in broken.stderr
    kept = workspace.value("SELECT count(*) FROM registrations")
    assert 1000 <= kept <= 1500
    assert (kept, 0, 0) == counts(broken.stdout)

    workspace.write("people.csv", "".join([*start, 'ada@example.com,"Ada"\n', *last_rows]))
    corrected = workspace.run("import", "people.csv")

    assert (1701 - kept, kept, 0) == counts(corrected.stdout)
    assert 1701 == workspace.value("SELECT count(DISTINCT email) FROM registrations")
    assert 1701 == workspace.value("SELECT count(*) FROM registrations")


def test_an_import_can_be_repeated_after_sigkill(workspace: Workspace) -> None:
    """The second import stores the missing rows, and each row exists once."""
    number = 20_000
    workspace.write("people.csv", "email,status\n" + "".join(f"{n}@example.com,pending\n" for n in range(number)))
    stored = "SELECT count(*) FROM registrations"
    with workspace.start("import", "people.csv") as process:
        wait_until(lambda: workspace.value(stored), "a batch is stored", process)
        process.kill()
    other_sessions = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    wait_until(lambda: not workspace.rows(other_sessions), "the session has ended")
    before = workspace.value(stored)

    done = workspace.run("import", "people.csv")

    assert 0 < before < number
    assert (number - before, before, 0) == counts(done.stdout)
    for table in ("registrations", "registration_events"):
        assert number == workspace.value(f"SELECT count(*) FROM {table}")
    assert number == workspace.value("SELECT count(DISTINCT email) FROM registrations")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_an_import_with_a_summary(workspace: Workspace, number: signal.Signals) -> None:
    """The summary states that the import stopped, after which line, and how to continue; continuing completes it."""
    people = "email\nnobody\n" + "".join(f"{n}@example.com\n" for n in range(1500))
    os.mkfifo(workspace.folder / "people.csv")
    with workspace.start("import", "people.csv") as process, (workspace.folder / "people.csv").open("w") as pipe:
        pipe.write(people)
        pipe.flush()
        wait_until(lambda: workspace.value("SELECT count(*) FROM registrations"), "a batch is stored", process)
        time.sleep(0.2)  # the results of the batch are counted, and the command waits for the next line
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)

    assert (128 + number, "") == (process.returncode, stderr)
    stopped, how_to_continue, total, *_ = stdout.splitlines()
    assert "the import stopped after line 1001 of people.csv; some rows after that may be stored, too" == stopped
    assert "to continue, import the same file again: the rows that are stored count as duplicates" == how_to_continue
    assert total.startswith("1,000 rows in ")
    assert (999, 0, 1) == counts(stdout)
    (workspace.folder / "people.csv").unlink()
    workspace.write("people.csv", people)
    assert (501, 999, 1) == counts(workspace.run("import", "people.csv", code=1).stdout)


def test_a_lost_database_stops_an_import_with_a_summary(workspace: Workspace) -> None:
    """An error in the middle has the same summary as a signal; that of a dry run says that nothing is stored."""
    workspace.write("people.csv", "email\nada@example.com\n")
    workspace.execute("DROP TABLE registrations CASCADE")

    answers = workspace.run_each(("import", "people.csv"), ("import", "people.csv", "--dry-run"))

    assert [1, 1] == [answer.code for answer in answers]
    assert answers[0].stdout.startswith("the import stopped at the beginning of people.csv; some rows")
    assert answers[1].stdout.startswith("the dry run stopped at the beginning of people.csv; nothing is stored\n")
    assert "0 rows in" in answers[1].stdout


def test_each_import_has_a_report_of_its_own(workspace: Workspace) -> None:
    """A report never replaces that of another import, and an import that stores each row leaves no report."""
    workspace.write("people.csv", "email\nnobody\n")
    workspace.write("good.csv", "email\nada@example.com\n")

    first, second, good = workspace.run_each(
        ("import", "people.csv"), ("import", "people.csv"), ("import", "good.csv", "--rejected", "chosen.csv")
    )

    assert first.stdout.endswith("are in people.rejected.csv\n")
    assert second.stdout.endswith("are in people.rejected-2.csv\n")
    assert [[(2, NO_AT)]] * 2 == [workspace.rejected(), workspace.rejected("people.rejected-2.csv")]
    assert 0 == good.code
    assert {"people.csv", "good.csv", "people.rejected.csv", "people.rejected-2.csv"} == {
        file.name for file in workspace.folder.iterdir()
    }


def test_a_report_in_use_is_not_overwritten(workspace: Workspace) -> None:
    """If another import is writing the chosen report, the import ends with 2 before it stores anything."""
    workspace.write("people.csv", "email\nada@example.com\nnobody\n")
    workspace.write("chosen.csv", "line,reason\n7,a row of the other import\n")
    with (workspace.folder / "chosen.csv").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        refused = workspace.run("import", "people.csv", "--rejected", "chosen.csv", code=2)

    assert "chosen.csv is in use by another import" in one_line(refused.stderr)
    assert [(7, "a row of the other import")] == workspace.rejected("chosen.csv")
    assert 0 == workspace.value("SELECT count(*) FROM registrations")
    workspace.run("import", "people.csv", "--rejected", "chosen.csv", code=1)
    assert [(3, NO_AT)] == workspace.rejected("chosen.csv")


def test_a_report_is_private_and_no_link_is_followed(workspace: Workspace) -> None:
    """Only the owner can read a new or replaced report; a link or another file is an error; the default avoids it."""
    workspace.write("people.csv", "email\nnobody\n")
    workspace.write("chosen.csv", "line,reason\n1,an earlier reason\n")
    workspace.write("other.csv", "email\nada@example.com\n")
    workspace.write("victim", "old")
    (workspace.folder / "chosen.csv").chmod(0o644)
    (workspace.folder / "link.csv").symlink_to("victim")
    (workspace.folder / "people.rejected.csv").symlink_to("victim")

    default, chosen, link, other = workspace.run_each(
        ("import", "people.csv"),
        ("import", "people.csv", "--rejected", "chosen.csv"),
        ("import", "people.csv", "--rejected", "link.csv"),
        ("import", "people.csv", "--rejected", "other.csv"),
    )

    assert default.stdout.endswith("are in people.rejected-2.csv\n")
    assert (chosen.code, link.code, other.code) == (1, 2, 2)
    assert "cannot write link.csv: it is a link: name the file itself" in one_line(link.stderr)
    for name in ("people.rejected-2.csv", "chosen.csv"):
        assert stat.S_IMODE((workspace.folder / name).stat().st_mode) == 0o600
        assert [(2, NO_AT)] == workspace.rejected(name)
    assert workspace.read("victim") == "old"
    assert "other.csv: it has other content" in one_line(other.stderr)
    assert workspace.read("other.csv") == "email\nada@example.com\n"


@pytest.mark.nightly
def test_memory_does_not_grow_with_the_number_of_rows(workspace: Workspace) -> None:
    """60,000 rows, with duplicates and rejected rows, take at most 20 MB more than 2,000."""
    unit = 1 if sys.platform == "darwin" else 1024
    name = "x" * 1500
    peaks = []
    for number in (2000, 60_000):
        with (workspace.folder / "people.csv").open("w") as file:
            file.write("email,profile.name\n")
            for n in range(number // 5):
                file.write(f"{number}-{n}@example.com,{name}\nada@example.com,{name}\nbob@example.com\n,,\nbob\n")
        done = subprocess.run(
            [sys.executable, "-c", PEAK_MEMORY_PROGRAM, *COMMAND, "import", "people.csv"],
            cwd=workspace.folder,
            env=workspace.environ,  # without coverage, which needs memory, too
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=True,
        )
        code, peak = done.stdout.split()
        assert (1, "") == (int(code), done.stderr)
        peaks.append(int(peak) * unit)

    assert (2000 + 60_000) // 5 + 1 == workspace.value("SELECT count(*) FROM registrations")
    assert peaks[1] - peaks[0] < 20_000_000


def test_an_unreachable_server_ends_an_import(workspace: Workspace) -> None:
    """It ends with 1 and one line that names the server; nothing is imported."""
    workspace.write("people.csv", "email\n" + "ada@example.com\n" * 3000)
    workspace.environ.update(APP_DATABASE_PORT="1", APP_DATABASE_CONNECT_TIMEOUT="2")

    done = workspace.run("import", "people.csv", code=1)

    assert (0, 0, 0) == counts(done.stdout)
    assert one_line(done.stderr).startswith("registration-persistence: cannot connect to ")


def test_an_import_shows_a_progress_bar_on_a_terminal(workspace: Workspace) -> None:
    """The bar is only on the terminal and is removed at the end; the summary is only on standard output."""
    workspace.write("people.csv", "email\nada@example.com\n")

    terminal, stdout = workspace.run_on_terminal("import", "people.csv")

    assert "Importing" in terminal
    assert "100 %" in terminal
    assert terminal.endswith("\x1b[2K")
    assert "imported" not in terminal
    assert (1, 0, 0) == counts(stdout)


def test_an_import_from_a_pipe(workspace: Workspace) -> None:
    """The output of another program is imported while it arrives, although its size is unknown."""
    lines = "".join(f'{{"email": "person{number}@example.com"}}\n' for number in range(2500))

    workspace.run("import", "/dev/stdin", "--format", "jsonl", stdin=lines)

    assert [{"n": 2500}] == workspace.rows("SELECT count(*) AS n FROM registrations")


def test_a_missing_file_keeps_the_report_of_an_earlier_import(workspace: Workspace) -> None:
    """A mistyped name ends with 2, and the earlier report keeps its content."""
    workspace.write("old.csv", "an earlier report\n")

    (answer,) = workspace.run_each(("import", "nowhere.csv", "--rejected", "old.csv"), environ={})

    problem = "registration-persistence: cannot read nowhere.csv: No such file or directory\n"
    assert Answer(2, "", problem) == answer
    assert "an earlier report\n" == workspace.read("old.csv")


def test_a_full_disk_ends_an_import(workspace: Workspace) -> None:
    """If the report cannot be written, the import ends with 2, and the counts are printed."""
    if not Path("/dev/full").exists():
        skip_or_fail("the system has no /dev/full")
    workspace.write("people.csv", "email\nada@example.com\nbob\n")

    done = workspace.run("import", "people.csv", "--rejected", "/dev/full", code=2)

    assert (1, 0, 1) == counts(done.stdout)
    assert "/dev/full: No space left on device" in one_line(done.stderr)


def test_open_days_outside_the_range_are_rejected(workspace: Workspace) -> None:
    """Zero and more than ten years end with 2 and one error that names the option."""
    workspace.write("people.csv", "email\nada@example.com\n")

    answers = workspace.run_each(*(("import", "people.csv", "--open-days", days) for days in ("0", "3651")))

    assert [(2, "", True)] * 2 == [(answer.code, answer.stdout, "--open-days" in answer.stderr) for answer in answers]
    assert "" == workspace.read("people.rejected.csv")
