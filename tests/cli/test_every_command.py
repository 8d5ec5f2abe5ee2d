"""Every command of the parser: its examples, its JSON, and the same wrong uses; a new command is included by itself."""

import json
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import command_page
import pytest
from command_line import Answer, one_line, run, run_each
from sqlalchemy import text
from workspace import Workspace

from registration_persistence.cli.command_parser import Command, CommandParser
from registration_persistence.cli.commands import commands_of
from registration_persistence.cli.main import build_parser
from registration_persistence.schema import VERSION_TABLE

ROOT = Path(__file__).parents[2]
ID = "01890a5d-ac96-774b-bcce-b302099a8057"
ADDRESS = "ada@example.com"
PROGRAM = "registration-persistence"
# `bootstrap` creates roles of the cluster; test_bootstrap.py has a login that may do that.
NEEDS_ROLES = {"bootstrap"}
# They report the state of the schema, or change it.
ABOUT_THE_SCHEMA = {"migrate", "bootstrap", "current", "check", "ping"}
# It prints each failure as the result of a check; tests/cli/doctor has these cases.
REPORTS_FAILURES = {"doctor"}
TABLES = "registrations, registration_events, registration_consents, verification_tokens, outbox"


def parsers() -> list[CommandParser]:
    """Return the parser of each command."""
    return list(commands_of(build_parser()))


def name_of(parser: CommandParser) -> str:
    """Return the name of a command, with that of its group."""
    return parser.prog.partition(" ")[2]


def description(parser: CommandParser) -> Command:
    """Return the description of a command."""
    assert parser.command is not None
    return parser.command


def words(example: str, *more: str) -> tuple[str, ...]:
    """Return the arguments of an example, without its redirections, and *more* of them."""
    lexer = shlex.shlex(example, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    tokens = list(lexer)
    redirected = {number + offset for number, token in enumerate(tokens) if token in "<>" for offset in (0, 1)}
    return (*(token for number, token in enumerate(tokens) if number not in redirected), *more)


def on_the_database() -> Iterator[tuple[str, Command]]:
    """Yield the commands whose examples use the database and need no roles."""
    for parser in parsers():
        command = description(parser)
        if command.needs_database and name_of(parser) not in NEEDS_ROLES:
            yield name_of(parser), command


@pytest.fixture
def prepared(workspace: Workspace) -> Workspace:
    """A workspace with the files and rows that the examples name."""
    workspace.write("people.csv", "email\neve@example.com\n")
    workspace.write("address.txt", f"{ADDRESS}\n")
    (workspace.folder / "myservice").mkdir()
    workspace.write("myservice/mail.py", "def deliver(message):\n    pass\n")
    workspace.sign_up(ADDRESS)
    workspace.write("id.txt", workspace.sign_up(ADDRESS))
    workspace.import_registrations(3, announce=True)
    workspace.execute("UPDATE outbox SET dead_at = now(), last_error = 'smtp:550'")
    return workspace


def test_the_page_is_that_of_the_parser() -> None:
    """`docs/cli.md` has every command with its arguments, variables, examples and JSON fields."""
    assert command_page.text() == command_page.FILE.read_text(encoding="utf-8"), "run `make diagrams`"


def test_every_command_has_examples_and_json() -> None:
    """Each example parses as its command and is a line of its help, as is each variable; each command has `--json`."""
    for parser in parsers():
        command = description(parser)
        assert command.examples, name_of(parser)
        assert command.json_fields, name_of(parser)
        for example in command.examples:
            found, options = build_parser().parse(words(example, "--json"))
            assert name_of(found) == name_of(parser)
            assert options.json
        shown = parser.format_help().splitlines()
        assert {f"  {PROGRAM} {example}" for example in command.examples} <= {*shown}
        assert {f"  {variable}" for variable in parser.variables.values()} <= {*shown}


def test_every_option_has_a_variable_of_its_own() -> None:
    """A variable belongs to one option of one command, except `--json`; few options have none, each for a reason."""
    variables = [variable for parser in parsers() for name, variable in parser.variables.items() if name != "json"]
    without = {
        f"{name_of(parser)} {action.option_strings[0]}"
        for parser in parsers()
        for action in parser.declared
        if action.option_strings and action.dest not in (*parser.variables, "help")
    }

    assert len(set(variables)) == len(variables)
    assert {
        "erase --yes",
        "find --reveal",
        "show --reveal",
        "bootstrap --application-secret",
        "bootstrap --application-user",
        "bootstrap --monitoring-secret",
    } == without


def run_examples(prepared: Workspace, *more: str) -> list[tuple[str, str, Answer]]:
    """Run each example on the database, with *more* arguments; return the command, the example and the answer."""
    examples = [(name, example) for name, command in on_the_database() for example in command.examples]
    commands = [stored(prepared, words(example, *more)) for _, example in examples]
    answers = prepared.run_each(*commands, stdin=f"{ADDRESS}\n" * len(examples))
    return [(name, example, answer) for (name, example), answer in zip(examples, answers, strict=True)]


def stored(prepared: Workspace, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Return *arguments* with the id of a registration in the place of that of the examples."""
    return tuple(prepared.read("id.txt") if argument == ID else argument for argument in arguments)


def first_examples(*more: str) -> list[tuple[str, ...]]:
    """Return the arguments of the first example of each command on the database, with *more* of them."""
    return [words(command.examples[0], *more) for name, command in on_the_database() if name not in REPORTS_FAILURES]


def test_every_example_works(prepared: Workspace) -> None:
    """Each example of a command on the database ends with 0 and prints a result; only remarks are beside it."""
    remarks = ("personal data is masked: ", "more events follow: ", "there are no ", "no registration has ")
    for _, example, answer in run_examples(prepared):
        assert 0 == answer.code, (example, answer.stderr)
        assert answer.stdout or "there are no " in answer.stderr, example
        assert [] == [line for line in answer.stderr.splitlines() if not line.startswith(remarks)], example


def test_json_has_the_documented_fields(prepared: Workspace) -> None:
    """With `--json`, each example prints objects with the fields of the page, and nothing to standard error."""
    descriptions, seen = dict(on_the_database()), defaultdict[str, set[str]](set)
    for name, example, answer in run_examples(prepared, "--json"):
        assert (0, "") == (answer.code, answer.stderr), example
        if name == "export":
            objects = json.loads(answer.stdout)
        else:
            objects = [json.loads(line) for line in answer.stdout.splitlines()]
            assert descriptions[name].json_lines or 1 == len(objects), example
        seen[name].update(*objects)
    assert {name: set(command.json_fields) for name, command in descriptions.items()} == seen


def test_no_environment_is_wrong_use(prepared: Workspace) -> None:
    """Without variables, each command on the database ends with 2 and names them; standard output stays empty."""
    examples, before = first_examples(), _files(prepared)

    for example, answer in zip(examples, prepared.run_each(*examples, environ={}, stdin="a\n" * 30), strict=True):
        assert (2, "") == (answer.code, answer.stdout), example
        assert answer.stderr.startswith("registration-persistence: the database settings are wrong:\n  - "), example
    assert before == _files(prepared)


def test_the_environment_is_checked_before_an_address_is_read(workspace: Workspace) -> None:
    """Nobody types an address in vain: the error is that of the settings, and not that of the line that is too long."""
    commands = [("find",), ("erase", "--email", "--yes"), ("export", "--email")]

    for command, answer in zip(commands, workspace.run_each(*commands, environ={}, stdin="a" * 9999), strict=True):
        assert answer.stderr.startswith("registration-persistence: the database settings are wrong:\n  - "), command


def test_a_database_that_is_down_is_one_line(prepared: Workspace) -> None:
    """Each command ends with 1 and one line, as text or as JSON; no file is written and none is left behind."""
    environ = prepared.environ | {"APP_DATABASE_PORT": "1", "APP_DATABASE_CONNECT_TIMEOUT": "2"}
    before = _files(prepared)
    examples = first_examples("--json")

    def answers(part: list[tuple[str, ...]]) -> list[Answer]:
        return prepared.run_each(*part, environ=environ, stdin=f"{ADDRESS}\n" * len(part))

    with ThreadPoolExecutor(4) as pool:  # each command waits for APP_DATABASE_CONNECT_TIMEOUT
        answered = list(pool.map(answers, [examples[start::4] for start in range(4)]))
    for number, example in enumerate(examples):
        answer = answered[number % 4][number // 4]
        error = json.loads(one_line(answer.stderr))["error"]
        assert (1, "DatabaseUnavailable", True) == (answer.code, error["kind"], error["retryable"]), example
        assert error["message"].startswith("cannot connect to "), example
    assert before == _files(prepared)


def _files(workspace: Workspace) -> set[str]:
    return {str(file) for file in workspace.folder.rglob("*") if "__pycache__" not in file.parts}


def test_a_schema_that_is_behind_is_one_line(empty_database: dict[str, str], tmp_path: Path) -> None:
    """On a database without the tables, each command that needs them ends with 1 and says what to run."""
    (tmp_path / "people.csv").write_text(f"email\n{ADDRESS}\n")
    (tmp_path / "myservice").mkdir()
    (tmp_path / "myservice/mail.py").write_text("def deliver(message):\n    pass\n")
    examples = [
        words(command.examples[0])
        for name, command in on_the_database()
        if name not in ABOUT_THE_SCHEMA | REPORTS_FAILURES
    ]

    answers, _ = run_each(*examples, environ=empty_database, folder=tmp_path, stdin=f"{ADDRESS}\n" * len(examples))

    for example, answer in zip(examples, answers, strict=True):
        assert 1 == answer.code, example
        assert re.search("run `?registration-persistence migrate", one_line(answer.stderr)), example


def test_a_schema_that_is_ahead_is_no_error(prepared: Workspace) -> None:
    """A newer version keeps the tables usable, for services that are rolled back; `check` and `migrate` refuse it."""
    with prepared.database.engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0123456789ab'"))

    for name, _, answer in run_examples(prepared, "--json"):
        refused = name in ("check", "migrate")
        if name == "migrate" and answer.stdout:  # --sql
            continue
        assert refused == (answer.code != 0), name
        assert not refused or "is newer" in json.loads(one_line(answer.stderr))["error"]["message"]


@pytest.mark.parametrize(
    "stdout", [pytest.param("/dev/full", id="full disk"), pytest.param("", id="closed pipe", marks=pytest.mark.nightly)]
)
def test_output_that_cannot_be_written_is_one_line(prepared: Workspace, stdout: str) -> None:
    """On a full disk each command ends with 1 and says so; if the reader has gone, it ends without a word."""
    if stdout and not Path(stdout).exists():
        pytest.skip("the system has no /dev/full")
    others = [
        ("--help",),
        ("--version",),
        *(words(description(parser).examples[0]) for parser in parsers() if name_of(parser) == "completion"),
    ]
    for example in (*others, *first_examples("--json")):
        done = run(
            *stored(prepared, example),
            environ=prepared.environ,
            folder=prepared.folder,
            stdin=f"{ADDRESS}\n",
            stdout=stdout,
            code=1 if stdout else 141,
        )
        if stdout:
            assert "cannot write to standard output: No space left on device" in one_line(done.stderr), example
        else:
            assert "" == done.stderr, example


@pytest.mark.nightly
def test_the_commands_without_a_database_print_json(tmp_path: Path) -> None:
    """`demo` and `chaos` start servers of their own; each example prints one object with the fields of the page."""
    (tmp_path / "examples").mkdir()
    with (ROOT / "examples/signups.csv").open() as signups:
        (tmp_path / "examples/signups.csv").write_text("".join(islice(signups, 20)))
    for parser in parsers():
        command = description(parser)
        if not command.needs_database:
            for example in command.examples:
                (answer,), _ = run_each(words(example, "--json"), folder=tmp_path)
                assert (0, set(command.json_fields)) == (answer.code, set(json.loads(answer.stdout))), example


def test_ctrl_c_leaves_nothing_half_written(prepared: Workspace) -> None:
    """A command that is interrupted while it waits ends with 130 and without an error; no row and no file changes."""
    counts = " UNION ALL ".join(f"SELECT count(*) FROM {table}" for table in TABLES.split(", "))
    rows, files = prepared.rows(counts), _files(prepared)
    with prepared.database.session() as session:
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        session.execute(text(f"LOCK TABLE {TABLES}, {VERSION_TABLE} IN ACCESS EXCLUSIVE MODE"))
        for name, command in on_the_database():
            if name in ("ping", "outbox run"):  # one waits for no table, the other ends after its batch
                continue
            done = run(
                *words(command.examples[-1] if name == "import" else command.examples[0], "--json"),
                environ=prepared.environ | {"APP_DATABASE_LOCK_TIMEOUT": "30"},
                folder=prepared.folder,
                stdin=f"{ADDRESS}\n",
                interrupted_after=0.4,
                code=130,
            )
            assert "" == done.stderr, name
        session.rollback()
    assert rows == prepared.rows(counts)
    assert files == _files(prepared)
