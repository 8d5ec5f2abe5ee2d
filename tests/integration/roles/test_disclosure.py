"""No login but the owner and the administrator reads a mailbox, a hash or a password, wherever the server shows it."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta

import psycopg
import pytest
from clusters import Cluster, service, use_every_method
from disclosures import Search, readable

from registration_persistence import (
    Database,
    Peppers,
    PrivacyRepository,
    RegistrationRepository,
    StaticCredentials,
    VerificationRepository,
)
from registration_persistence.outcomes import Issued, Registered, Verified
from registration_persistence.sandbox import LocalSecretsManager, rotate

CURRENT, ERASED = "ada.lovelace@example.com", "grace.hopper@example.com"


@pytest.fixture
def sessions() -> Iterator[ExitStack]:
    """Sessions that stay open and idle until the end of the test, so that the server shows their last statements."""
    with ExitStack() as stack:
        yield stack


def sign_up(database: Database) -> dict[str, str | bytes]:
    """Register two mailboxes, verify one by token and fail with wrong codes; return the secret values."""
    with database.session() as session:
        registrations = RegistrationRepository(session)
        verification = VerificationRepository(session, peppers=Peppers({1: b"p" * 32}))
        ada, grace = registrations.register(CURRENT), registrations.register(ERASED)
        assert isinstance(ada, Registered)
        assert isinstance(grace, Registered)
        for number in range(20):
            registrations.register(f"person.{number}@example.com")
        assert isinstance(verification.verify_by_token(ada.token), Verified)
        assert isinstance(verification.issue_code(grace.registration.id, min_gap=timedelta(0)), Issued)
    with database.session(autocommit=True) as session:
        VerificationRepository(session, peppers=Peppers({1: b"p" * 32})).verify_by_code(grace.registration.id, "000000")
    return {"mailbox": CURRENT, "erased mailbox": ERASED, "token": ada.token, "other token": grace.token}


def erase(cluster: Cluster, database: Database) -> None:
    """Erase one person, after the statistics of the tables were collected."""
    cluster.execute("ANALYZE")
    with database.session() as session:
        privacy = PrivacyRepository(session)
        for registration_id in privacy.ids_by_email(ERASED):
            privacy.erase(registration_id)


def fail(connection: psycopg.Connection) -> None:
    """Violate a constraint, a type and a limit with a mailbox and leave the session in its failed transaction."""
    for statement in (
        "INSERT INTO registrations SELECT * FROM registrations WHERE email = %s",
        "SELECT %s::text::uuid",
        "SELECT FROM registrations WHERE email = %s AND version = 1 / 0",
    ):
        with pytest.raises(psycopg.Error):
            connection.execute(statement, [CURRENT])


def hashes(cluster: Cluster) -> dict[str, str | bytes]:
    """Return the hashes of four tokens and codes; a search takes longer the more values it has."""
    with cluster.server.connect(cluster.name) as connection:
        rows = connection.execute("SELECT secret_hash FROM verification_tokens ORDER BY id LIMIT 4").fetchall()
    return {f"hash {number}": secret_hash for number, (secret_hash,) in enumerate(rows)}


def test_no_login_reads_more_than_it_must(
    prepared: Cluster, secrets_manager: LocalSecretsManager, sessions: ExitStack
) -> None:
    """After sign-ups, errors, an erasure and rotations, with the sessions still open: nothing is readable anywhere."""
    database = service(prepared, StaticCredentials(prepared.application))
    sessions.callback(database.dispose)
    values = sign_up(database) | hashes(prepared)
    use_every_method(database)
    fail(sessions.enter_context(closing(prepared.as_login(prepared.application))))
    erase(prepared, database)
    login = {"username": prepared.application.username, "password": prepared.application.password}
    arn = secrets_manager.create(f"disclosure/{secrets.token_hex(4)}", login)
    rotated = [rotate(prepared.admin, secrets_manager, arn, style="alternating") for _ in range(2)]
    passwords: dict[str, str | bytes] = {
        f"password {number}": password
        for number, password in enumerate(
            [
                *(each.password for each in (prepared.application, prepared.monitoring, *rotated)),
                prepared.admin.password,
            ]
        )
    }

    with closing(prepared.as_login(prepared.monitoring)) as monitoring:
        read_by_monitoring = Search(values | passwords).in_database(monitoring)
    with closing(prepared.as_login(rotated[-1])) as application:
        read_by_service = Search({"erased mailbox": ERASED, **passwords}).in_database(application)

    assert (read_by_monitoring, read_by_service) == (set(), set())
    assert len(values) == 8


def test_a_lock_reveals_no_mailbox(prepared: Cluster) -> None:
    """The lock of a sign-up with a limit, which every login sees, has no key that can be computed from the mailbox."""
    with (
        closing(prepared.as_login(prepared.application)) as service_login,
        closing(prepared.as_login(prepared.monitoring)) as monitoring,
        service_login.transaction(),
    ):
        service_login.execute("SELECT registrations_count_pending(%s, 3)", [CURRENT])
        ((key,),) = monitoring.execute(
            "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = "
            "(hashtext('registrations_count_pending')::bigint & 4294967295)::oid"
        ).fetchall()
        for login in (service_login, monitoring):
            for call in ("last_value", "nextval('registrations_lock_key')", "setval('registrations_lock_key', 1)"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege), login.transaction():
                    login.execute(f"SELECT {call} FROM registrations_lock_key")
        ((guess,),) = monitoring.execute("SELECT (hashtext(%s)::bigint & 4294967295)::oid", [CURRENT]).fetchall()
    assert key != guess


def test_the_search_finds_what_a_login_can_read(prepared: Cluster, sessions: ExitStack) -> None:
    """It finds a value in a statement of another session, in a row, in a setting, and in hashed rows."""
    database = service(prepared, StaticCredentials(prepared.application))
    sessions.callback(database.dispose)
    values = sign_up(database) | hashes(prepared)
    idle = sessions.enter_context(closing(prepared.as_login(prepared.application)))
    idle.execute(f"SELECT '{CURRENT}'")

    with closing(prepared.as_login(prepared.monitoring)) as monitoring:
        texts = dict(readable(monitoring))
        by_monitoring = Search(values).in_texts(texts.items())
    with closing(prepared.as_login(prepared.application)) as application:
        by_service = Search(values).in_database(application)

    assert ("mailbox", "pg_catalog.pg_stat_activity") in by_monitoring
    assert {place for _, place in by_monitoring} >= {"pg_catalog.pg_stat_get_activity()"}
    assert ("mailbox", "public.registrations") in by_service
    assert ("hash 0", "public.verification_tokens") in by_service
    for view in ("pg_stats", "pg_settings", "pg_prepared_statements", "pg_cursors", "pg_stat_progress_copy"):
        assert f"pg_catalog.{view}" in texts
    assert len(texts) > 200
