"""Every code block of every page is executed by a test, or it is in a list with the reason why it is not."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from executed_blocks import EXECUTED, NOT_EXECUTED
from page_blocks import Block, blocks_of
from site_pages import SitePages

from registration_persistence.sandbox import PostgresServer

ROOT = Path(__file__).parents[2]
BLOCKS = [
    (page, block)
    for page in SitePages(ROOT, "").paths
    for block in blocks_of((ROOT / page).read_text(encoding="utf-8"))
]
# Without the list itself, which has every page.
HELPERS = {file.stem: file for file in (ROOT / "tests").rglob("*.py") if file.stem != "executed_blocks"}


def reason(page: str, block: Block) -> str | None:
    """Return why *block* is not executed, or `None` if it has to be."""
    reasons = [
        text for (of, beginning), text in NOT_EXECUTED.items() if of == page and block.text.startswith(beginning)
    ]
    return reasons[0] if reasons else None


def test_every_block_is_executed_or_has_a_reason() -> None:
    """A new block fails this test until a test executes it."""
    missing = [
        f"{page}:{block.line}: {block.language} block"
        for page, block in BLOCKS
        if (page, block.language) not in EXECUTED and reason(page, block) is None
    ]

    assert [] == missing
    assert len(BLOCKS) > 150


def test_the_lists_are_up_to_date() -> None:
    """Each entry belongs to a block, and the test that executes it, or the file that its reason names, exists."""
    languages = {(page, block.language) for page, block in BLOCKS}
    assert set() == EXECUTED.keys() - languages
    unused = [
        (page, beginning)
        for page, beginning in NOT_EXECUTED
        if not any(of == page and block.text.startswith(beginning) for of, block in BLOCKS)
    ]
    assert [] == unused
    named = [
        path for text in NOT_EXECUTED.values() for path in re.findall(r"[\w/]+/test_\w+\.py|examples/[\w/.]+", text)
    ]
    assert [] == [path for path in named if not (ROOT / path).exists()]


@cache
def texts_of(file: Path) -> set[str]:
    """Return the strings and names in the code of a test and of the helpers that it imports, without docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts, helpers = set[str](), set[str | None]()
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in docstrings:
                texts.add(text)
            case ast.Name(id=name):
                texts.add(name)
            case ast.Import(names=names):
                helpers |= {each.name for each in names}
            case ast.ImportFrom(module=module):
                helpers.add(module)
    return texts.union(*(texts_of(HELPERS[name]) for name in helpers & HELPERS.keys() if name))


@pytest.mark.parametrize(("page", "language"), sorted(EXECUTED))
def test_the_named_test_reads_the_page(page: str, language: str) -> None:
    """The code of the test has the path of the page and the language of the blocks, or reads the list of the pages."""
    texts = texts_of(ROOT / EXECUTED[page, language])

    assert "EXECUTED" in texts or any(text.endswith("md") and f"/{page}".endswith(f"/{text}") for text in texts)
    # A page of diagrams or of a tree is compared as a whole.
    assert language in {"", "mermaid"} or any(
        text == language or re.search(rf"```{language}\b", text) for text in texts
    )


def test_the_sql_of_the_pages_is_valid(command_server: PostgresServer) -> None:
    """Each statement is executed with the roles of a cluster, in a transaction that is rolled back."""
    pages = {
        page for (page, language), test in EXECUTED.items() if language == "sql" and test.endswith("code_blocks.py")
    }
    command_server.create_database("sql_of_the_pages", template="command_template")
    executed = 0
    with command_server.connect("sql_of_the_pages") as connection:
        for page, block in BLOCKS:
            if page in pages and block.language == "sql":
                with connection.transaction(force_rollback=True):
                    for role in ("registration_app", "registration_owner", "registration_rw", "campaigns_owner"):
                        connection.execute(f"CREATE ROLE {role}".encode())
                    connection.execute("GRANT ALL ON SCHEMA public TO registration_owner")
                    for statement in block.text.split(";\n"):
                        connection.execute(statement.encode())
                executed += 1
    command_server.drop_database("sql_of_the_pages")

    assert executed >= 6


def test_the_python_code_of_methods(registration_environment: Any) -> None:
    """The example of a single call stores a registration."""
    from registration_persistence import RegistrationRepository, get_db, outcomes

    namespace = {
        "RegistrationRepository": RegistrationRepository,
        "get_db": get_db,
        "email": "ada@example.com",
        "key": "1",
    }
    for page, block in BLOCKS:
        if page == "docs/methods.md" and block.language == "python":
            exec(compile(block.text, page, "exec"), namespace)  # noqa: S102 the code is our own documentation

    assert isinstance(namespace["outcome"], outcomes.Registered)
    with registration_environment.connect() as connection:
        assert connection.execute("SELECT count(*) FROM registrations").fetchone() == (1,)
