"""The structure of the project: layers, public names, the cost of the import, and documentation that repeats code."""

import ast
import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import registration_persistence
from registration_persistence import errors, outcomes
from registration_persistence.database import settings_rules
from registration_persistence.sandbox.chaos import recording, timeline
from registration_persistence.sandbox.chaos.faults import FaultName
from registration_persistence.schema.bootstrap import APPLICATION_SECRET, APPLICATION_USER, MONITORING_SECRET

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_imports_point_down_the_layers() -> None:
    """import-linter finds no upward import, and every module belongs to a layer."""
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


IMPORT_PROGRAM = """
import json, sys

def audit(event, args):
    if event.startswith("socket.") and event != "socket.gethostname":
        raise SystemExit(f"import did {event}")

sys.addaudithook(audit)
import registration_persistence
registration_persistence.DatabaseSettings.from_env({ENVIRONMENT})
print(json.dumps(sorted(sys.modules)))
"""


def test_the_import_loads_no_sdk_and_opens_no_socket() -> None:
    """In a fresh interpreter, the import loads no AWS SDK, Alembic, pydantic or test tool, and opens no socket."""
    environment = {
        "APP_DATABASE_HOST": "db",
        "APP_DATABASE_NAME": "app",
        "APP_DATABASE_SECRET_ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf",
    }
    program = IMPORT_PROGRAM.replace("{ENVIRONMENT}", repr(environment))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
    modules = json.loads(run.stdout)
    rarely_used = ("outbox_worker", "repositories.wrong_attempts", "database.bounded_pipeline", "telemetry")
    for_observers = ("database.operations", "database.observed_calls", "database.observed_units")
    assert [] == [name for name in rarely_used + for_observers if f"registration_persistence.{name}" in modules]
    loaded = {name.partition(".")[0] for name in modules}
    assert {"registration_persistence", "sqlalchemy", "psycopg"} <= loaded
    assert set() == loaded & {
        "alembic",
        "aws_secretsmanager_caching",
        "boto3",
        "botocore",
        "ddtrace",
        "moto",
        "opentelemetry",
        "prometheus_client",
        "pydantic",
        "pytest",
        "rich",
        "urllib3",
    }


def test_the_root_is_a_list_of_imports() -> None:
    """`__init__` has only imports, many of them lazy, and `__all__`; both have the same names."""
    source = ast.parse((ROOT / "src/registration_persistence/__init__.py").read_text())

    docstring, importlib, typing, *imports, lazy, names = source.body
    assert isinstance(docstring, ast.Expr)
    assert ast.unparse(importlib) == "from importlib import import_module"
    assert ast.unparse(typing) == "from typing import TYPE_CHECKING"
    assert isinstance(lazy, ast.If)
    assert ast.unparse(lazy.test) == "TYPE_CHECKING"
    modules, *functions = lazy.orelse
    assert isinstance(modules, ast.Assign)
    assert ast.literal_eval(modules.value) == {
        alias.name: (node.module or "").removeprefix("registration_persistence.")
        for node in lazy.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert ["__getattr__", "__dir__"] == [node.name for node in functions if isinstance(node, ast.FunctionDef)]
    imports += lazy.body
    assert {ast.ImportFrom} == {type(node) for node in imports}
    assert isinstance(names, ast.Assign)
    imported = {alias.name for node in imports if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert sorted(imported) == registration_persistence.__all__
    assert sorted(imported) == [name for name in sorted(imported) if hasattr(registration_persistence, name)]
    assert not hasattr(registration_persistence, "OutboxWorkers")


ROOT_NAMES = {
    "AsyncDatabase",
    "AsyncOutboxWorker",
    "Consent",
    "ConsentRepository",
    "CredentialSource",
    "Credentials",
    "Database",
    "DatabaseSettings",
    "EventRepository",
    "ImportRow",
    "LambdaContext",
    "OutboxRepository",
    "OutboxWorker",
    "Peppers",
    "PrivacyRepository",
    "Registration",
    "RegistrationPersistenceError",
    "RegistrationRepository",
    "Retention",
    "StaticCredentials",
    "Status",
    "VerificationRepository",
    "async_session_scope",
    "bulk_import",
    "deadline",
    "get_async_db",
    "get_db",
    "get_engine",
    "session_scope",
}
OUTCOMES = {
    "AlreadyVerified",
    "Cancelled",
    "CodeOutcome",
    "ConsentRecord",
    "EmailTaken",
    "Erased",
    "Event",
    "ImportReport",
    "IssueOutcome",
    "Issued",
    "LockedOut",
    "NotPending",
    "OutboxMessage",
    "Page",
    "PeekOutcome",
    "RegisterOutcome",
    "Registered",
    "Registration",
    "Replayed",
    "Throttled",
    "TokenExpired",
    "TokenUnknown",
    "TokenUsable",
    "TooManyPending",
    "Verified",
    "VerifyOutcome",
    "WrongCode",
}
PUBLIC_NAMES_OF_DATABASE = {"DatabaseEvent", "Health", "Operation", "forget_db"}
PUBLIC_MODULES = {"errors", "models", "outcomes", "sandbox", "schema", "telemetry", "testing"}


def test_the_public_names_are_listed() -> None:
    """The root and `outcomes` export exactly these names."""
    assert set(registration_persistence.__all__) == ROOT_NAMES
    assert set(outcomes.__all__) == OUTCOMES


def test_no_return_value_is_named_like_an_error() -> None:
    """A name is an error or a return value, never both, and each error is in `errors` alone."""
    raised = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}

    assert set() == raised & OUTCOMES
    assert {"RegistrationPersistenceError"} == raised & ROOT_NAMES


def _is_public(module: str, names: str | None) -> bool:
    if module == "database":
        return names is not None and set(names.split(", ")) <= PUBLIC_NAMES_OF_DATABASE
    return module in PUBLIC_MODULES | {"testing.plugin", "schema.partitions"}


def test_services_need_no_private_module() -> None:
    """Infrastructure, examples, benchmarks and documentation import only from public modules."""
    private = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for folder, kinds in (("infra", "py"), ("examples", "py"), ("benchmarks", "py"), ("docs", "py md"))
        for kind in kinds.split()
        for file in (ROOT / folder).rglob(f"*.{kind}")
        if not {".venv", "build", "cdk.out", "node_modules"} & set(file.parts)
        for line in file.read_text().splitlines()
        if (found := re.search(r"(?:from|import) registration_persistence\.([\w.]+)(?: import (.*))?", line))
        and not _is_public(found[1], found[2])
    ]

    assert [] == private


def test_the_configuration_page_lists_every_variable() -> None:
    """docs/configuration.md lists the variables that `DatabaseSettings`, `schema` and `domain` read, and no other."""
    table = set(re.findall(r"^\| `(APP_\w+)`", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE))

    of_schema = {"APP_DATABASE_OWNER_ROLE", APPLICATION_SECRET, APPLICATION_USER, MONITORING_SECRET}
    assert {*settings_rules.VARIABLES.values(), *of_schema, "APP_TEST_EMAIL_DOMAINS"} == table
    assert of_schema == {*settings_rules.BOOTSTRAP_VARIABLES}


def test_the_architecture_shows_the_layers_that_are_checked() -> None:
    """The layers in docs/architecture.md are those of the contracts of import-linter."""
    shown = (ROOT / "docs/architecture.md").read_text()

    for contract in PROJECT["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers":
            assert "\n".join(contract["layers"]) in shown, contract["name"]


def test_every_method_is_documented() -> None:
    """docs/methods.md has a table for each repository, with each of its public methods."""
    page = (ROOT / "docs/methods.md").read_text()

    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        name, _, body = section.partition("\n")
        listed = re.findall(r"^\| `(\w+)` \|", body, re.MULTILINE)
        if name == "Functions":
            assert ["bulk_import"] == listed
        else:
            described = getattr(registration_persistence, name)
            assert sorted(method for method in dir(described) if not method.startswith("_")) == sorted(listed), name
    assert {f"## {name}" for name in ("RegistrationRepository", "ConsentRepository", "EventRepository")} <= set(
        page.splitlines()
    )


def test_the_diagrams_are_up_to_date() -> None:
    """`make diagrams` does not change docs/diagrams.md."""
    generated = runpy.run_path(str(ROOT / "docs/make_diagrams.py"))["text"]()

    assert generated == (ROOT / "docs/diagrams.md").read_text()


def test_the_timeline_is_up_to_date() -> None:
    """`make diagrams` does not change docs/chaos.svg, and the recorded run has every fault."""
    drawing = timeline.draw(recording.load(ROOT / "docs/chaos.json"))

    assert drawing == (ROOT / "docs/chaos.svg").read_text()
    assert [fault for fault in FaultName if f">{fault}</text>" not in drawing] == []


def test_locks_contain_hashes_and_no_addresses() -> None:
    """Each locked package has its version and hashes; no file names an index or a path."""
    for name in ("runtime", "local", "dev"):
        lock = (ROOT / f"requirements/{name}.txt").read_text()
        assert "://" not in lock
        assert "--index" not in lock
        packages = re.findall(r"^[a-z0-9._-]+==", lock, re.MULTILINE)
        assert len(packages) == len(re.findall(r"^[a-z0-9._-]+==.*\\\n    --hash=sha256:", lock, re.MULTILINE)) > 0


def test_locks_satisfy_the_project() -> None:
    """Every dependency and extra of pyproject.toml is in the lock that installs it."""
    project = PROJECT["project"]
    wanted = {
        "runtime": project["dependencies"],
        "local": project["optional-dependencies"]["local"],
        "dev": [*project["optional-dependencies"]["test"], *project["optional-dependencies"]["dev"]],
    }
    for lock, requirements in wanted.items():
        locked = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / f"requirements/{lock}.txt").read_text(), re.MULTILINE))
        names = {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements} - {"registration-persistence"}
        assert names <= locked, lock


def test_make_explains_every_target() -> None:
    """`make help` has a line for every target that is not a file."""
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", makefile, re.MULTILINE)

    assert phony is not None
    explained = set(re.findall(r"^([a-z-]+):.*## \w", makefile, re.MULTILINE))
    assert set(phony[1].replace("\\", "").split()) == explained


def test_every_exception_to_a_rule_has_its_reason() -> None:
    """Each `noqa` is followed by its reason on the line, and no type error is ignored."""
    marks = re.compile(r"#\s*(?:noqa: [A-Z0-9, ]+(?P<reason>.*)|type: ignore)")
    bare = [
        f"{file.relative_to(ROOT)}:{number}"
        for folder in ("src", "tests", "migrations", "examples", "benchmarks", "docs", "infra")
        for file in (ROOT / folder).rglob("*.py")
        if not {".venv", "build", "cdk.out", "node_modules"} & set(file.parts)
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if (mark := marks.search(line)) and not re.search(r"[a-z]{3}", mark["reason"] or "")
    ]

    assert [] == bare


def test_waits_use_a_clock_that_tests_cannot_freeze() -> None:
    """Outside of `clock`, only programs that run in processes of their own read `time.monotonic`."""
    programs = {"cli", "chaos", "demo", "clock.py", "watchdog_program.py"}
    files = [file for file in (ROOT / "src").rglob("*.py") if not programs & set(file.parts)]

    assert [] == [file.name for file in files if re.search(r"time\.monotonic\b(?!`|\(\)`)", file.read_text())]
