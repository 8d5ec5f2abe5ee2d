"""No error of a statement holds a value of a row or of a parameter, neither in its text nor in its attributes."""

import pickle
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, TracebackType
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.pq import DiagnosticField
from sqlalchemy import JSON, bindparam, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from support import untyped

from registration_persistence import Database, RegistrationPersistenceError, RegistrationRepository, deadline

MAILBOX, NAME = "ada.lovelace@example.com", "Augusta Ada King"
_ERRORS = (SQLAlchemyError, psycopg.Error, RegistrationPersistenceError, UnicodeError, TypeError)
_IGNORED = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, TracebackType)


class Base(DeclarativeBase):
    """The models of a service."""


class Member(Base):
    """A table of a service whose key is a mailbox."""

    __tablename__ = "members"

    email: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    height: Mapped[int] = mapped_column(default=0)


TABLE = """
CREATE TABLE members (email text PRIMARY KEY, name text NOT NULL CHECK (length(name) < 20), height int NOT NULL,
                      born date, UNIQUE (name), EXCLUDE USING btree (lower(email) WITH =));
CREATE FUNCTION complain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'no mail to %% please', NEW.email USING DETAIL = NEW.name, HINT = 'ask ' || NEW.name; END $$;
CREATE FUNCTION cast_name(name text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN name::int; END $$;
CREATE FUNCTION wait_for(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN EXECUTE format('SELECT pg_sleep(10), %%L', name); END $$;
INSERT INTO members VALUES ('ada.lovelace@example.com', 'Augusta Ada King', 160);
"""
INSERT = "INSERT INTO members (email, name, height, born) VALUES (:email, :name, :height, :born)"
ADA: dict[str, Any] = {"email": MAILBOX, "name": NAME, "height": 1, "born": None}
EVE: dict[str, Any] = {**ADA, "email": f"eve.{MAILBOX}", "name": f"{NAME} II"}


def execute(sql: str, **parameters: Any) -> Callable[[Session], object]:
    """Return a call that sends *sql*."""
    return lambda session: session.execute(text(sql), parameters)


def flush(session: Session) -> None:
    """Add two rows of the same key with the ORM."""
    session.add(Member(email=MAILBOX, name=NAME))
    session.flush()


def in_pipeline(session: Session) -> None:
    """Fail in a pipeline of psycopg, without SQLAlchemy."""
    driver = untyped(session.connection().connection.driver_connection)
    with driver.pipeline():
        driver.execute("INSERT INTO members VALUES (%s, %s, 1)", [MAILBOX, NAME])


def copy(session: Session) -> None:
    """Fail in a COPY of psycopg."""
    driver = untyped(session.connection().connection.driver_connection)
    with driver.cursor().copy("COPY members (email, name, height) FROM STDIN") as lines:
        lines.write_row((MAILBOX, NAME, NAME))


def after_deadline(session: Session) -> None:
    """Let the deadline end a statement of psycopg, whose place the server quotes."""
    driver = untyped(session.connection().connection.driver_connection)
    with deadline(0.3, reserve=0):
        driver.execute("SELECT wait_for(%s)", [NAME])


def create_trigger(session: Session) -> None:
    """Fail in a trigger that quotes the row in its message, detail and hint."""
    session.execute(text("CREATE TRIGGER complain BEFORE INSERT ON members FOR EACH ROW EXECUTE FUNCTION complain()"))
    session.execute(text(INSERT), EVE)


KINDS: dict[str, Callable[[Session], object]] = {
    "unique": execute(INSERT, **ADA),
    "check": execute(INSERT, **{**EVE, "name": NAME * 2}),
    "not null": execute(INSERT, **{**EVE, "height": None}),
    "exclusion": execute(INSERT, **{**EVE, "email": MAILBOX.upper()}),
    "value in the message": execute("SELECT CAST(:name AS int)", name=f'{NAME} "{MAILBOX}"'),
    "enum-like value": execute("SELECT CAST(:name AS date)", name=NAME),
    "json": execute("SELECT CAST(:name AS jsonb)", name=f'{{"name": {NAME}}}'),
    "too long": execute("INSERT INTO members VALUES (:email, :name, 9999999999)", **ADA),
    "trigger": create_trigger,
    "function": execute("SELECT cast_name(:name)", name=NAME),
    "literals": execute(f"SELECT '{MAILBOX}'::int, $x${NAME}$x$, -- don't\n E'\\'{NAME}', '{NAME}''{MAILBOX}'"),
    "syntax": execute(f'SELECT "{NAME}" FROM nowhere WHERE "{MAILBOX}"'),
    "column": execute(f'SELECT "{MAILBOX}" FROM members'),
    "executemany": lambda session: session.execute(text(INSERT), [EVE, ADA]),
    "orm": flush,
    "surrogate": execute("SELECT :name", name=f"{MAILBOX}\ud800{NAME}"),
    "NUL": execute("SELECT :name", name=f"{MAILBOX}\0"),
    "no json": lambda session: session.scalar(text("SELECT :x").bindparams(bindparam("x", {MAILBOX: {NAME}}, JSON))),
    "missing parameter": lambda session: session.execute(text("SELECT :x, :y"), {"x": MAILBOX}),
    "pipeline": in_pipeline,
    "copy": copy,
    "deadline": after_deadline,
}


def texts_of(value: object, seen: set[int]) -> Iterator[str]:
    """Return every text that can be reached from *value* by attributes and items, but not by tracebacks."""
    if id(value) in seen or isinstance(value, _IGNORED):
        return
    seen.add(id(value))
    if isinstance(value, str | bytes | bytearray):
        yield value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")
        return
    if isinstance(value, dict):
        children = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        children = list(value)
    else:
        yield from (repr(value), str(value))
        names = [name for name in dir(value) if not name.startswith("__") or name in {"__cause__", "__context__"}]
        children = [getattr(value, name, None) for name in names]
        if hasattr(value, "error_field"):
            children += [value.error_field(field) for field in DiagnosticField]
    for child in children:
        yield from texts_of(child, seen)


@pytest.mark.parametrize("autocommit", [False, True])
def test_no_error_holds_a_value(database: Database, *, autocommit: bool) -> None:
    """Neither text, arguments, statement, diagnostics, results, causes nor the pickled error contain the row."""
    with database.session() as session:
        session.connection().exec_driver_sql(TABLE)
    leaks = []
    for kind, fail in KINDS.items():
        if kind == "trigger" and autocommit:
            continue  # the trigger would stay
        with pytest.raises(_ERRORS) as raised, database.session(autocommit=autocommit) as session:
            fail(session)
        found = [*texts_of(raised.value, set()), pickle.dumps(raised.value).decode("latin-1")]
        leaks += [
            (kind, secret, text_) for secret in (MAILBOX, NAME) for text_ in found if secret.lower() in text_.lower()
        ]
    assert [] == leaks


def test_an_error_still_says_what_failed(database: Database) -> None:
    """The constraint, the table, the column, the SQLSTATE and the statement without its literals are kept."""
    with database.session() as session:
        session.connection().exec_driver_sql(TABLE)
    with pytest.raises(IntegrityError) as raised, database.session() as session:
        session.execute(text(f"INSERT INTO members VALUES ('{MAILBOX}', '{NAME}', 1)"))

    error = raised.value.orig
    assert isinstance(error, psycopg.errors.UniqueViolation)
    assert ("members_pkey", "members", "23505") == (
        error.diag.constraint_name,
        error.diag.table_name,
        error.diag.sqlstate,
    )
    assert 'duplicate key value violates unique constraint "members_pkey"' == str(error)
    assert "INSERT INTO members VALUES ('…', '…', 1)" == raised.value.statement
    assert (None, None) == (error.diag.message_detail, error.pgresult)


def test_the_error_of_a_repository_holds_no_value(database: Database) -> None:
    """A violated CHECK on the row of a registration leaves nothing of it in the error."""
    with database.session() as session:
        session.execute(text("ALTER TABLE outbox ADD CONSTRAINT ck_outbox_nothing CHECK (false) NOT VALID"))
        session.execute(text("ALTER TABLE registrations ADD CONSTRAINT narrow CHECK (version < 2) NOT VALID"))
    for attack in (
        lambda session: RegistrationRepository(session).register(MAILBOX, profile={"name": NAME}),
        lambda session: session.execute(
            text(
                "INSERT INTO registrations (id, email, email_key, email_key_rev, status, version, profile)"
                " VALUES (:id, :email, :email, 1, 'pending', 2, CAST(:profile AS jsonb))"
            ),
            {"id": uuid4(), "email": MAILBOX, "profile": f'{{"name": "{NAME}"}}'},
        ),
    ):
        with pytest.raises(IntegrityError) as raised, database.session() as session:
            attack(session)
        found = "".join(texts_of(raised.value, set()))
        assert MAILBOX not in found
        assert NAME not in found
