"""No login reads a password that a rotation sets, a mailbox or a hash, on a server with the cluster's parameters."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from disclosures import Search, readable
from postgres.rotation_environment import STEPS, Environment, environment
from problems import RotationFailed
from psycopg import sql
from templates import templates_of

from registration_persistence import (
    Credentials,
    Database,
    DatabaseSettings,
    Peppers,
    PrivacyRepository,
    RegistrationRepository,
    StaticCredentials,
    VerificationRepository,
)
from registration_persistence.outcomes import Registered
from registration_persistence.sandbox import LocalPostgres, LocalSecretsManager, system_binaries, wait_until
from registration_persistence.schema import GRANTS
from registration_persistence.testing import skip_or_fail

CURRENT, ERASED = "ada.lovelace@example.com", "grace.hopper@example.com"


@pytest.fixture(scope="module")
def running() -> Iterator[LocalPostgres]:
    """A server with the parameters of the cluster, every statement counted as slow."""
    installed = ((major, system_binaries(major)) for major in (18, 17, 16, 15))
    major, binaries = next((each for each in installed if each[1] is not None), (None, None))
    if binaries is None:
        skip_or_fail("the system has no PostgreSQL with pg_stat_statements: install the package postgresql")
    # Some values depend on the major version.
    changes = {"aurora": {"slow_query_ms": 0, "engine_version": f"{major}.1"}}
    group = templates_of("dev", changes).database.one("RDS::DBClusterParameterGroup")
    settings = {name: value for name, value in group["Parameters"].items() if not name.startswith("rds.")}
    with LocalPostgres(binaries, settings=settings, in_memory=True) as server:
        yield server


@dataclass(slots=True)
class Scene:
    """An environment, everything secret in it, and sessions that stay open and idle after their statements."""

    running: LocalPostgres
    environment: Environment
    sessions: ExitStack
    values: dict[str, str | bytes] = field(default_factory=dict)

    def note_passwords(self) -> None:
        """Add the passwords of all versions of the secrets to the secret values."""
        for arn in (self.environment.admin, self.environment.application):
            for label in ("AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"):
                try:
                    login = self.environment.secrets_manager.read(arn, label)
                except Exception:  # noqa: BLE001, S112 the version does not exist or is empty
                    continue
                self.values[f"{login['username']}: {login['password']}"] = login["password"]
        self.values["the monitoring's own password"] = self.environment.monitoring.password

    def stay_connected(self, login: Credentials) -> psycopg.Connection:
        """Open a session that stays open until the end of the test."""
        return self.sessions.enter_context(self.environment.connect(login))

    @property
    def log(self) -> str:
        """The log of the server."""
        with self.running.server.connect() as connection:
            (log,) = connection.execute("SELECT pg_read_file('log')").fetchall()[0]
        assert isinstance(log, str)
        return log

    def disclosed_to_monitoring(self) -> set[tuple[str, str]]:
        """Return what the monitoring reads, in the database and in the log."""
        self.note_passwords()
        search = Search(self.values)
        with self.environment.connect(self.environment.monitoring) as connection:
            return search.in_database(connection) | search.in_text("log", self.log)

    def disclosed_to_service(self) -> set[tuple[str, str]]:
        """Return what the service reads of passwords and of erased mailboxes; it may read the other values."""
        self.note_passwords()
        hidden = {name: value for name, value in self.values.items() if ":" in name or name == "erased mailbox"}
        with self.environment.connect(self.environment.current(self.environment.application)) as connection:
            return Search(hidden).in_database(connection)


@pytest.fixture
def scene(
    running: LocalPostgres, secrets_manager: LocalSecretsManager, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    """Sign-ups, statistics, an erasure and errors, by sessions that stay open."""
    with ExitStack() as stack:
        created = stack.enter_context(environment(running.server, secrets_manager, monkeypatch))
        with running.server.connect(created.database) as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        sessions = stack.enter_context(ExitStack())
        yield sign_up(Scene(running, created, sessions))


def sign_up(scene: Scene) -> Scene:
    """Register, verify, erase and fail as the service; note each mailbox, token and hash."""
    created = scene.environment
    login = created.current(created.application)
    database = Database(
        DatabaseSettings(
            environment="test",
            host=created.server.host,
            port=created.server.port,
            name=created.database,
            sslmode="prefer",
            user="unused",
            password="unused",
        ),
        StaticCredentials(login),
    )
    scene.sessions.callback(database.dispose)
    with database.session() as session:
        registrations, verification = (
            RegistrationRepository(session),
            VerificationRepository(session, peppers=Peppers({1: b"p" * 32})),
        )
        ada, grace = registrations.register(CURRENT), registrations.register(ERASED)
        assert isinstance(ada, Registered)
        assert isinstance(grace, Registered)
        for number in range(20):
            registrations.register(f"person.{number}@example.com")
        verification.issue_code(ada.registration.id, min_gap=0)
    with created.server.connect(created.database) as connection:
        connection.execute("ANALYZE")
        hashes = connection.execute("SELECT secret_hash FROM verification_tokens ORDER BY id LIMIT 4").fetchall()
    with database.session() as session:
        PrivacyRepository(session).erase(grace.registration.id)
    scene.values |= {"mailbox": CURRENT, "erased mailbox": ERASED, "token": ada.token, "other token": grace.token}
    scene.values |= {f"hash {number}": secret_hash for number, (secret_hash,) in enumerate(hashes)}
    scene.values["hash of the token"] = hashlib.sha256(ada.token.encode()).digest()
    fail_as_the_service(scene.stay_connected(login))
    return scene


def fail_as_the_service(connection: psycopg.Connection) -> None:
    """Violate a constraint with a mailbox, as a parameter of a statement."""
    columns = sql.SQL(", ").join(map(sql.Identifier, GRANTS["registrations"]["INSERT"]))
    statement = sql.SQL("INSERT INTO registrations ({0}) SELECT {0} FROM registrations WHERE email = %s").format(
        columns
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(statement, [CURRENT])


def test_a_rotation_discloses_nothing(scene: Scene) -> None:
    """After rotations of both kinds, nothing is readable, and the log names the statements, so it was written."""
    rotating = scene.environment
    scene.note_passwords()

    rotating.rotate(rotating.admin)
    scene.note_passwords()
    for _ in range(2):
        rotating.rotate(rotating.application, alternating=True)
        scene.note_passwords()
    rotating.rotate(rotating.application)

    assert len(scene.values) > 12
    assert scene.log.count("PASSWORD 'SCRAM-SHA-256$") >= 4
    assert (scene.disclosed_to_monitoring(), scene.disclosed_to_service()) == (set(), set())


def test_a_failed_rotation_discloses_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is readable while a statement waits, after its error, and after the server stopped; then it recovers."""
    rotating, arn = scene.environment, scene.environment.application
    version = rotating.start(arn)
    rotating.perform(arn, version, "createSecret", alternating=True)
    clone = rotating.pending(arn).username
    monkeypatch.setenv("APP_DATABASE_LOCK_TIMEOUT", "0")
    monkeypatch.setenv("APP_DATABASE_STATEMENT_TIMEOUT", "0")

    with waiting_rotation(scene, version, clone) as outcome:
        assert scene.disclosed_to_monitoring() == set()
    assert [str(each) for each in outcome] == [
        f"the password of {clone} cannot be set: canceling statement due to user request (57014)"
    ]
    with rotating.server.connect() as superuser:
        superuser.execute(sql.SQL("ALTER ROLE {} RENAME TO renamed").format(sql.Identifier(clone)))
        with pytest.raises(RotationFailed, match="does not exist"):
            rotating.perform(arn, version, "setSecret", alternating=True)
        superuser.execute(sql.SQL("ALTER ROLE renamed RENAME TO {}").format(sql.Identifier(clone)))
    scene.running.stop("immediate")
    with pytest.raises(RotationFailed):
        rotating.perform(arn, version, "setSecret", alternating=True, seconds=4)
    scene.running.start()
    rotating.perform(arn, version, *STEPS, alternating=True)

    assert "ERROR" in scene.log
    assert scene.disclosed_to_monitoring() == set()


@contextmanager
def waiting_rotation(scene: Scene, version: str, role: str) -> Iterator[list[RotationFailed]]:
    """Run `setSecret` in a thread that waits for a lock on *role*; end its session after the block."""
    rotating, outcome = scene.environment, []

    def perform() -> None:
        try:
            rotating.perform(rotating.application, version, "setSecret", alternating=True, seconds=120)
        except RotationFailed as error:
            outcome.append(error)

    with rotating.server.connect() as holder, holder.transaction():
        holder.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT 50").format(sql.Identifier(role)))
        thread = threading.Thread(target=perform)
        thread.start()
        wait_until(lambda: waiting_pids(rotating) != [], "the rotation waits")
        yield outcome
        for pid in waiting_pids(rotating):
            holder.execute("SELECT pg_cancel_backend(%s)", [pid])
        thread.join()


def waiting_pids(rotating: Environment) -> list[int]:
    """Return the sessions that wait while they set a password."""
    with rotating.server.connect() as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER ROLE%PASSWORD%'"
        ).fetchall()
    return [pid for (pid,) in rows]


def test_the_search_finds_a_clear_text_rotation(scene: Scene) -> None:
    """A rotation that sends the password, as AWS's functions do, is found: in the session, statistics and log."""
    rotating, password = scene.environment, "sent-in-clear-text-1"
    user = sql.Identifier(rotating.current(rotating.application).username)
    statement = sql.SQL("ALTER USER {} WITH PASSWORD {}").format(user, sql.Literal(password))
    idle = scene.stay_connected(rotating.current(rotating.admin))

    idle.execute(statement)
    assert not in_statistics(scene, password)
    scene.running.configure(**{"pg_stat_statements.track_utility": "1"})
    idle.execute(statement)
    scene.running.configure(**{"pg_stat_statements.track_utility": "0"})
    with rotating.connect(rotating.monitoring) as monitoring:
        texts = dict(readable(monitoring))
    places = {where for _, where in Search({"password": password}).in_texts(texts.items())}

    assert {"pg_catalog.pg_stat_activity", "public.pg_stat_statements"} <= places
    assert password in scene.log
    for view in ("pg_stat_replication", "pg_stat_ssl", "pg_settings", "pg_stats", "pg_cursors"):
        assert f"pg_catalog.{view}" in texts
    assert "INSERT INTO registrations" in texts["public.pg_stat_statements"]
    assert "permission denied" in texts["SELECT rolpassword FROM pg_authid"]
    assert "permission denied" in texts["SELECT pg_read_file('log')"]
    assert "pg_catalog.pg_hba_file_rules" not in texts


def in_statistics(scene: Scene, text: str) -> bool:
    """Return whether a statement in pg_stat_statements contains *text*."""
    with scene.running.server.connect(scene.environment.database) as connection:
        statement = "SELECT count(*) FROM pg_stat_statements WHERE strpos(query, %s) > 0"
        ((count,),) = connection.execute(statement, [text]).fetchall()
    return bool(count)


def test_the_documented_query_shows_disclosing_parameters(running: LocalPostgres) -> None:
    """The query in the how-to returns no parameter of the cluster, and those that disclose values by default."""
    page = (Path(__file__).parents[3] / "docs/howto/roles.md").read_text(encoding="utf-8")
    (query,) = re.findall(r"```sql\n(SELECT name, setting FROM pg_settings\n.*?)```", page, re.DOTALL)

    with running.server.connect() as connection:
        assert connection.execute(query).fetchall() == []
        for change in ("log_error_verbosity = 'default'", "log_parameter_max_length = -1", "log_statement = 'ddl'"):
            connection.execute(f"SET {change}")
            name, _, _ = change.partition(" ")
            assert [found for found, _ in connection.execute(query)] == [name]
            connection.execute(f"RESET {name}")
