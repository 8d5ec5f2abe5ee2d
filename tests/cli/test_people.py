"""`find`, `show` and `events`: the data of a person."""

import json
from uuid import uuid4

from command_line import one_line
from sqlalchemy import text
from workspace import Workspace

from registration_persistence import PrivacyRepository, RegistrationRepository
from registration_persistence.cli.masking import MASK, SHOWN, masked

ADDRESS = "Ada@lovelace.example"
# Clears the screen, in 7 and in 8 bits; turns text around; hides a letter; starts what looks like another line.
INJECTION = '\x1b[2J \x9b2J \u202eevil\u202c \u200b\nstatus                   "erased"'
PERSONAL = {"email", "email_key", "profile"}


def sign_up(workspace: Workspace, name: object = "Zo\u00eb \u65e5\u672c") -> str:
    """Register `ADDRESS` with a profile, and return the id."""
    with workspace.database.session() as session:
        profile = {"name": name, "telephone_number": {"home": ["+44 20 7946 0018"]}, "born 1815": True}
        outcome = RegistrationRepository(session).register(ADDRESS, profile=profile)
    return str(outcome.registration.id)


def test_find_prints_each_registration_of_a_mailbox(workspace: Workspace) -> None:
    """Every spelling finds all registrations, the newest last; the address is masked, also if it was typed."""
    first, second = workspace.sign_up(ADDRESS.upper()), workspace.sign_up(ADDRESS)
    workspace.execute(f"UPDATE registrations SET expires_at = now() WHERE id = '{first}'")

    plain, revealed, limited, unknown, as_json = workspace.run_each(
        ("find",), ("find", "--reveal"), ("find", "--limit", "1"), ("find",), ("find", "--json"),
        stdin=f"{ADDRESS}\n {ADDRESS.lower()} \n{ADDRESS}\nbob@example.com\n{ADDRESS}\n",
    )  # fmt: skip

    assert [0] * 5 == [answer.code for answer in (plain, revealed, limited, unknown, as_json)]
    assert [first, second] == [line.split()[0] for line in plain.stdout.splitlines()]
    assert [f'pending (lapsed)  "{MASK}"', f'pending  "{MASK}"'] == [
        line.split("Z  ")[1] for line in plain.stdout.splitlines()
    ]
    assert f'"{ADDRESS}"' in revealed.stdout
    assert second == one_line(limited.stdout).split()[0]
    assert "1 older ones are not shown: --limit has the number\n" == limited.stderr
    assert ("", "no registration has this mailbox\n") == (unknown.stdout, unknown.stderr)
    rows = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [(first, True, MASK, True), (second, False, MASK, True)] == [
        (row["id"], row["lapsed"], row["email"], row["masked"]) for row in rows
    ]


def test_an_address_is_never_an_argument(workspace: Workspace) -> None:
    """`find ADDRESS` ends with 2 and says where the address belongs, without repeating it."""
    done = workspace.run("find", ADDRESS, code=2)

    assert "pass it to standard input" in one_line(done.stderr)
    assert "lovelace" not in done.stderr + done.stdout
    assert "the e-mail address is not valid" in one_line(workspace.run("find", code=2, stdin="ada\n").stderr)


def test_find_asks_on_a_terminal(workspace: Workspace) -> None:
    """The question is on the terminal, and the answer on standard output."""
    ada = workspace.sign_up(ADDRESS)

    terminal, stdout = workspace.run_on_terminal("find", typed=f"{ADDRESS}\n")

    assert "e-mail address: " in terminal
    assert ada == one_line(stdout).split()[0]


def test_show_masks_personal_data(workspace: Workspace) -> None:
    """No part of the address or of the profile is printed, as text or as JSON; `--reveal` prints both."""
    ada = sign_up(workspace)

    hidden, revealed, hidden_json, revealed_json = workspace.run_each(
        ("show", ada), ("show", ada, "--reveal"), ("show", ada, "--json"), ("show", ada, "--reveal", "--json")
    )

    assert "personal data is masked: --reveal prints it\n" == hidden.stderr
    for answer in (hidden, hidden_json):
        for part in ("Ada", "lovelace", "example", "Zo", "\u65e5", "home", "7946", "1815", "true,"):
            assert part not in answer.stdout.replace('"masked": true', ""), part
    for name in ("email", "profile.name", f"profile.{MASK}", "profile.telephone_number"):  # the last one is the longest
        assert f'{name:<24} "{MASK}"' in hidden.stdout.splitlines()
    for name, value in (("email", f'"{ADDRESS}"'), ("profile.name", '"Zo\u00eb \u65e5\u672c"'), ("events", "1")):
        assert f"{name:<24} {value}" in revealed.stdout.splitlines()
    data = json.loads(hidden_json.stdout)
    assert {"name": MASK, "telephone_number": MASK, MASK: MASK} == data["registration"]["profile"]
    assert (True, False, 1) == (data["masked"], data["lapsed"], data["events"])
    exported = json.loads(workspace.run("export", ada).stdout)[0]
    revealed_data = json.loads(revealed_json.stdout)
    assert [exported[name] for name in ("registration", "consents", "tokens")] == [
        revealed_data[name] for name in ("registration", "consents", "tokens")
    ]


def test_a_new_column_is_masked(workspace: Workspace) -> None:
    """Each column of the export is either in the list of what is shown, or known to be personal; others are masked."""
    ada = sign_up(workspace)

    (exported,) = json.loads(workspace.run("export", ada).stdout)

    assert PERSONAL == set(exported["registration"]) - SHOWN
    assert set() == {name for section in ("tokens", "consents") for row in exported[section] for name in row} - SHOWN
    assert {"telephone": MASK, "status": "active", "email": None, "profile": {}} == masked(
        {"telephone": 1, "status": "active", "email": None, "profile": {}}
    )


def test_a_profile_cannot_change_the_terminal(workspace: Workspace) -> None:
    """Control characters and marks of direction are escaped in each output, and a value never looks like a line."""
    ada = sign_up(workspace, INJECTION)

    answers = workspace.run_each(
        ("show", ada, "--reveal"), ("show", ada, "--reveal", "--json"), ("export", ada), ("find", "--reveal"),
        stdin=f"{ADDRESS}\n",
    )  # fmt: skip

    for answer in answers:
        assert all(char.isprintable() or char == "\n" for char in answer.stdout)
        assert f'{"status":<24} "erased"' not in answer.stdout.splitlines()
    assert r"\u202eevil" in answers[0].stdout
    assert INJECTION == json.loads(answers[1].stdout)["registration"]["profile"]["name"]
    assert INJECTION == json.loads(answers[2].stdout)[0]["registration"]["profile"]["name"]


def test_erased_lapsed_and_unknown_registrations(workspace: Workspace) -> None:
    """An erased one has no address to mask, a lapsed one is marked, and an unknown id ends with 1."""
    erased, lapsed, unknown = sign_up(workspace), sign_up(workspace), str(uuid4())
    workspace.run("erase", erased, "--yes")
    workspace.execute(f"UPDATE registrations SET expires_at = now() WHERE id = '{lapsed}'")

    gone, late, missing, no_log, not_an_id = workspace.run_each(
        ("show", erased, "--json"), ("show", lapsed), ("show", unknown), ("events", unknown), ("show", ADDRESS)
    )

    registration = json.loads(gone.stdout)["registration"]
    assert ("erased", None, None, {}) == tuple(
        registration[name] for name in ("status", "email", "email_key", "profile")
    )
    assert f'{"status":<24} "pending"  (lapsed)' in late.stdout.splitlines()
    for answer in (missing, no_log):
        assert (1, "", f"registration-persistence: there is no registration {unknown}\n") == (
            answer.code,
            answer.stdout,
            answer.stderr,
        )
    assert 2 == not_an_id.code
    assert "an e-mail address is not an id" in one_line(not_an_id.stderr)


def test_events_are_read_in_pages(workspace: Workspace) -> None:
    """The log is printed from any event on; a remark says how to continue; the log of a purged registration stays."""
    ada = workspace.sign_up(ADDRESS)
    workspace.execute(
        "INSERT INTO registration_events (registration_id, seq, id, type, actor)"
        f" SELECT '{ada}', n, gen_random_uuid(), 'profile_updated', 'user' FROM generate_series(2, 1500) n"
    )

    first, rest, last, as_json, beyond = workspace.run_each(
        ("events", ada),
        ("events", ada, "--after", "100", "--limit", "1000"),
        ("events", ada, "--after", "1400"),
        ("events", ada, "--json", "--limit", "2"),
        ("events", ada, "--after", "1500"),
    )

    assert [100, 1000, 100, 2, 0] == [
        len(answer.stdout.splitlines()) for answer in (first, rest, last, as_json, beyond)
    ]
    assert ["more events follow: --after 100\n", "more events follow: --after 1100\n", ""] == [
        answer.stderr for answer in (first, rest, last)
    ]
    assert "there are no events\n" == beyond.stderr
    assert ["     1", "registered", "user"] == [first.stdout[:6], *first.stdout.splitlines()[0].split()[3:5]]
    assert [(1, "registered"), (2, "profile_updated")] == [
        (event["seq"], event["type"]) for event in map(json.loads, as_json.stdout.splitlines())
    ]
    with workspace.database.session() as session:
        session.execute(text("DELETE FROM registrations"))
    assert first.stdout == workspace.run("events", ada).stdout


def test_a_person_who_left_is_found_by_id_alone(workspace: Workspace) -> None:
    """After an erasure the mailbox finds nothing."""
    ada = sign_up(workspace)
    with workspace.database.session() as session:
        PrivacyRepository(session).erase(workspace.value(f"SELECT id FROM registrations WHERE id = '{ada}'"))

    assert "" == workspace.run("find", stdin=f"{ADDRESS}\n").stdout
