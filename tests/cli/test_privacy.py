"""`erase` and `export`: the rights of one person."""

import json
from uuid import UUID, uuid4

from command_line import Answer, one_line
from workspace import Workspace


def test_erase_takes_ids_and_a_mailbox(workspace: Workspace) -> None:
    """Every spelling of a mailbox finds its registrations; ids can be added; the mailbox is never printed."""
    ada, also_ada, bob, eve = (
        workspace.sign_up(email)
        for email in ("ada@example.com", "Ada@EXAMPLE.com", "bob@example.com", "eve@example.com")
    )

    answers = workspace.run_each(
        ("erase", bob, "--email", "--yes", "--actor", "admin:kim"),
        ("erase", ada, bob, ada, "--yes"),
        ("erase", "--email", "--yes"),
        stdin=" ADA@Example.Com \nada@example.com",
    )

    assert [
        Answer(0, f"{bob} erased\n{ada} erased\n{also_ada} erased\n", ""),
        Answer(0, f"{ada} was erased before\n{bob} was erased before\n", ""),
        Answer(0, "no registration has this mailbox\n", ""),
    ] == answers
    events = workspace.rows("SELECT registration_id, actor FROM registration_events WHERE type = 'erased' ORDER BY 1")
    assert [(UUID(erased), "admin:kim") for erased in (ada, also_ada, bob)] == [tuple(row.values()) for row in events]
    assert [{"id": UUID(eve)}] == workspace.rows("SELECT id FROM registrations WHERE status <> 'erased'")


def test_erase_asks_for_confirmation_on_a_terminal(workspace: Workspace) -> None:
    """Only y erases; any other answer changes nothing and ends with 1. The mailbox is asked for, too."""
    ada, bob = workspace.sign_up("ada@example.com"), workspace.sign_up("bob@example.com")
    erased = "SELECT id FROM registrations WHERE status = 'erased'"

    terminal, stdout = workspace.run_on_terminal("erase", ada, bob, typed="n\n", code=1)

    assert f"{ada}\r\n{bob}\r\nerase these for good? [y/N] " in terminal
    assert "nothing was erased\n" == stdout
    assert [] == workspace.rows(erased)

    terminal, stdout = workspace.run_on_terminal("erase", "--email", typed="ada@example.com\ny\n")

    assert "e-mail address: " in terminal
    assert f"{ada}\r\nerase these for good? [y/N] " in terminal
    assert f"{ada} erased\n" == stdout
    assert [{"id": UUID(ada)}] == workspace.rows(erased)


def test_wrong_ids_mailboxes_and_options_are_rejected(workspace: Workspace) -> None:
    """Each ends with its exit code and one line, and nothing is erased."""
    ada, unknown = workspace.sign_up("ada@example.com"), str(uuid4())
    cases: dict[tuple[str, ...], tuple[int, str]] = {
        ("erase",): (2, "nothing is chosen"),
        ("erase", "--yes"): (2, "nothing is chosen"),
        ("erase", ada): (2, "pass --yes if there is no terminal to ask on"),
        ("erase", ada, "--yes", "--actor", "kim"): (2, "--actor is 'kim': expected user, system or admin:<id>, with "),
        ("erase", unknown, "--yes"): (1, f"there is no registration {unknown}"),
        ("erase", "--email", "--yes"): (2, "the e-mail address is not valid"),
        ("export",): (2, "nothing is chosen"),
        ("export", ada, unknown): (1, f"there is no registration {unknown}"),
        ("export", "--email"): (2, "the e-mail address is not valid"),
    }

    answers = workspace.run_each(*cases)

    for (command, (code, problem)), answer in zip(cases.items(), answers, strict=True):
        assert code == answer.code, command
        assert problem in one_line(answer.stderr), command
        assert answer.stdout == "", command
    done = workspace.run("erase", "--email", code=2, stdin="ada@example.com\n")
    assert "" == done.stdout
    assert "pass --yes" in one_line(done.stderr)
    assert [{"status": "pending"}] == workspace.rows("SELECT status FROM registrations")


def test_erase_reports_an_unknown_id_and_continues(workspace: Workspace) -> None:
    """An id that is unknown or purged is reported, and the other registrations are erased."""
    ada, unknown = workspace.sign_up("ada@example.com"), str(uuid4())

    done = workspace.run("erase", unknown, ada, "--yes", code=1)

    assert f"{ada} erased\n" == done.stdout
    assert f"there is no registration {unknown}\n" == done.stderr


def test_erase_prints_json(workspace: Workspace) -> None:
    """Each id has its result, also an unknown one and one that was not confirmed; there is no remark beside it."""
    ada, unknown = workspace.sign_up("ada@example.com"), str(uuid4())

    _, not_confirmed = workspace.run_on_terminal("erase", ada, "--json", typed="n\n", code=1)
    erased, again, nobody = workspace.run_each(
        ("erase", ada, unknown, "--yes", "--json"), ("erase", ada, "--yes", "--json"), ("erase", "--email", "--json"),
        stdin="ada@example.com\n",
    )  # fmt: skip

    assert {"id": ada, "result": "not confirmed"} == json.loads(not_confirmed)
    assert (1, "") == (erased.code, erased.stderr)
    assert [{"id": ada, "result": "erased"}, {"id": unknown, "result": "not found"}] == [
        json.loads(line) for line in erased.stdout.splitlines()
    ]
    assert {"id": ada, "result": "erased before"} == json.loads(again.stdout)
    assert Answer(0, "", "") == nobody


def test_export_prints_readable_json(workspace: Workspace) -> None:
    """`export` prints an indented JSON array, by id and by mailbox, and an empty array if nothing is found."""
    ada = workspace.sign_up("Ada@example.com", "Zo\u00eb \u65e5\u672c")

    stdout = workspace.run("export", "--email", ada, stdin="ada@EXAMPLE.com\n").stdout
    by_id, empty = workspace.run_each(("export", ada), ("export", "--email"), stdin="bob@example.com\n")

    assert [Answer(0, stdout, ""), Answer(0, "[]\n", "")] == [by_id, empty]
    assert '"name": "Zo\u00eb \u65e5\u672c"' in stdout
    (exported,) = json.loads(stdout)
    assert {"registration", "tokens", "consents", "events"} == set(exported)
    registration = exported["registration"]
    assert (ada, "pending", "Ada@example.com", "ada@example.com") == tuple(
        registration[name] for name in ("id", "status", "email", "email_key")
    )
    assert [("terms", "2026-01", True, "web")] == [
        (row["purpose"], row["document_version"], row["granted"], row["source"]) for row in exported["consents"]
    ]
    assert [("registered", "user")] == [(event["type"], event["actor"]) for event in exported["events"]]
    assert ["verify_email"] == [token["purpose"] for token in exported["tokens"]]
