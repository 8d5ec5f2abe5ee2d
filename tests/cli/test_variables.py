"""Options that are set as environment variables."""

import json

import pytest
from command_line import one_line, run
from workspace import Workspace

from registration_persistence.cli.main import build_parser

PREFIX = "REGISTRATION_PERSISTENCE_"


def parsed(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *arguments: str) -> dict[str, object]:
    """Return the options of a command in an environment."""
    for name, value in variables.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    return vars(build_parser().parse(arguments)[1])


def test_a_variable_sets_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the type of the option, satisfies a required one, and belongs to its command alone."""
    variables = {
        "EXPIRE_BATCH": "7",
        "OUTBOX_RUN_DELIVER": "mail:deliver",
        "OUTBOX_RUN_ONCE": "yes",
        "OUTBOX_RUN_ACKNOWLEDGE": "batch",
        "OUTBOX_RUN_LEASE": "0.5",
    }
    expire = parsed(monkeypatch, variables, "expire")
    outbox = parsed(monkeypatch, {}, "outbox", "run")

    assert (7, False) == (expire["batch"], expire["json"])
    assert ("mail:deliver", True, "batch", 0.5, 10) == tuple(
        outbox[name] for name in ("deliver", "once", "acknowledge", "lease", "batch")
    )


def test_an_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option replaces the variable, also a wrong one; `--no-...` turns a switch off; an empty one is not set."""
    variables = {"JSON": "true", "EXPIRE_BATCH": "0", "PURGE_BATCH": ""}

    expire = parsed(monkeypatch, variables, "expire", "--batch", "5", "--no-json")
    purge = parsed(monkeypatch, {}, "purge")

    assert (5, False) == (expire["batch"], expire["json"])
    assert (1000, True) == (purge["batch"], purge["json"])


@pytest.mark.parametrize(
    ("variable", "value", "arguments", "problem"),
    [
        ("EXPIRE_BATCH", "0", ["expire"], ": 0 is out of range: expected a whole number from 1 to 10000"),
        (
            "IMPORT_DRY_RUN",
            "maybe",
            ["import", "people.csv"],
            " is 'maybe': expected one of 1, true, yes, ",
        ),
        ("IMPORT_FORMAT", "xlsx", ["import", "people.csv"], " is 'xlsx': expected one of csv, jsonl"),
        ("JSON", "json", ["ping"], " is 'json': expected one of 1, true"),
        ("ERASE_ACTOR", "kim", ["erase", "--email"], " is 'kim': expected user, system or admin:<id>, "),
        ("PARTITIONS_DROP_BEFORE", "9999-01", ["partitions"], " is in the future: the events of this month "),
        ("OUTBOX_RUN_DELIVER", "mail", ["outbox", "run"], " mail: expected module:function, "),
        ("OUTBOX_RUN_DELIVER", "os:nothing", ["outbox", "run"], " os:nothing: AttributeError: "),
    ],
)
def test_a_wrong_value_names_the_variable(variable: str, value: str, arguments: list[str], problem: str) -> None:
    """The command ends with 2 and one line, before it does anything."""
    done = run(*arguments, environ={f"{PREFIX}{variable}": value}, code=2)

    assert one_line(done.stderr).startswith(f"registration-persistence: {PREFIX}{variable}{problem}")


def test_a_wrong_use_is_json_too() -> None:
    """`--json` holds for errors of the arguments, wherever it stands, and the variable holds without the option."""
    for arguments, environ in (
        (("expire", "--batch", "0", "--json"), {}),
        (("frobnicate", "--json"), {}),
        (("expire", "--batch", "0"), {f"{PREFIX}JSON": "1"}),
    ):
        error = json.loads(one_line(run(*arguments, environ=environ, code=2).stderr))["error"]
        assert {"kind", "message", "retryable"} == set(error)
        assert ("WrongUse", False) == (error["kind"], error["retryable"])
    assert "{" not in run("expire", "--batch", "0", "--no-json", environ={f"{PREFIX}JSON": "1"}, code=2).stderr


def test_a_confirmation_has_no_variable(workspace: Workspace) -> None:
    """A variable cannot confirm an erasure or reveal personal data."""
    ada = workspace.sign_up("ada@example.com")
    environ = workspace.environ | {f"{PREFIX}ERASE_YES": "1", f"{PREFIX}SHOW_REVEAL": "1"}

    erased, shown = workspace.run_each(("erase", ada), ("show", ada), environ=environ)

    assert 2 == erased.code
    assert "pass --yes" in one_line(erased.stderr)
    assert "ada@" not in shown.stdout
