"""Attacks with the service's login: what a stolen login can write, beyond the methods of the package."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from clusters import INSUFFICIENT_PRIVILEGE, Cluster, use_every_method
from support import TABLES, TERMS

from registration_persistence import (
    Database,
    PrivacyRepository,
    RegistrationRepository,
    Retention,
    VerificationRepository,
    schema,
)
from registration_persistence.outcomes import Registered, Verified
from registration_persistence.schema import OWNER_ROLE, VERSION_TABLE, DeploymentInProgress

Attacker = psycopg.Connection

# `{ada}` is pending, `{eve}` is active; their versions are 1 and 3.
_CHANGE = "UPDATE registrations SET version = version + 1, updated_at = statement_timestamp(){0} WHERE id = '{{ada}}'"
_EVENT = "INSERT INTO registration_events (registration_id, seq, id, type, actor{0}) VALUES ({1})"
_CONSENT = """INSERT INTO registration_consents
(registration_id, id, purpose, document_version, granted, source, seq{0}) VALUES ({1})"""
_MESSAGE = "INSERT INTO outbox (event_id, registration_id, type, payload{0}) VALUES (gen_random_uuid(), {1})"

_CHANGE_OF = """UPDATE registrations SET version = version + 1, updated_at = statement_timestamp(){0}
WHERE id = '{{{1}}}'"""
_NEW = """INSERT INTO registrations (id, email, email_key, email_key_rev, status{0})
VALUES ('{{new}}', 'new@example.com', 'new@example.com', 1{1})"""

# A change with its event, as the statements of the package make it.
_MOVE = """WITH moved AS ({0} RETURNING id, version)
INSERT INTO registration_events (registration_id, seq, id, type, actor)
SELECT id, {1}, gen_random_uuid(), '{2}', '{3}' FROM moved"""

FORGED_EVENTS = (
    _EVENT.format("", "'{ada}', 2, gen_random_uuid(), 'activated', 'user'"),
    _EVENT.format("", "'{ada}', 1, gen_random_uuid(), 'registered', 'user'"),
    _EVENT.format("", "'{ada}', 1, gen_random_uuid(), 'imported', 'user'"),
    _EVENT.format("", "'{eve}', 3, gen_random_uuid(), 'activated', 'user'"),
    _EVENT.format("", "gen_random_uuid(), 1, gen_random_uuid(), 'registered', 'user'"),
    _EVENT.format(", occurred_at", "'{ada}', 2, gen_random_uuid(), 'verified', 'user', '2020-01-01'"),
    _EVENT.format(", occurred_at", "'{ada}', 2, gen_random_uuid(), 'verified', 'user', statement_timestamp()"),
    "INSERT INTO registration_events VALUES ('{ada}', 2, now(), gen_random_uuid(), 'verified', '{{}}', 'user')",
    "COPY registration_events FROM STDIN",
    _MOVE.format(_CHANGE.format(""), "version + 1", "profile_updated", "user"),
    _MOVE.format(_CHANGE.format(""), "1", "profile_updated", "user"),
    _MOVE.format(_CHANGE.format(""), "version", "verified", "user"),
    _MOVE.format(_CHANGE.format(""), "version", "pending", "user"),
    _MOVE.format(_CHANGE.format(""), "version", "registered", "user"),
    _MOVE.format(_CHANGE.format(""), "version", "imported", "user"),
    _MOVE.format(_CHANGE.format(""), "version", "invented", "user"),
    _MOVE.format(_CHANGE.format(""), "version", "profile_updated", "admin:ada@example.com"),
    _MOVE.format(_CHANGE.format(""), "version", "profile_updated", "root"),
    _CHANGE.format("") + "; SELECT pg_sleep(0);" + _EVENT.format(
        ", correlation_id", "'{ada}', 2, gen_random_uuid(), 'profile_updated', 'user', 'Ada Lovelace'"
    ),
    _EVENT.format("", "'{ada}', 1, gen_random_uuid(), 'registered', 'user'") + " ON CONFLICT DO NOTHING",
    (
        "MERGE INTO registration_events USING (SELECT) AS s ON false WHEN NOT MATCHED THEN"
        " INSERT (registration_id, seq, id, type, actor) VALUES ('{ada}', 2, gen_random_uuid(), 'verified', 'user')"
    ),
    (
        f"WITH moved AS ({_CHANGE.format('')} RETURNING id, version)"
        " INSERT INTO registration_events (registration_id, seq, id, type, actor)"
        " SELECT of, version, gen_random_uuid(), 'profile_updated', 'user'"
        " FROM moved, unnest(ARRAY[id, '{eve}'::uuid]) AS of"
    ),
)  # fmt: skip

FORGED_CONSENTS = (
    _CONSENT.format("", "'{ada}', gen_random_uuid(), 'terms', '2026-02', true, 'web', 1"),
    _CONSENT.format("", "'{ada}', gen_random_uuid(), 'terms', '2026-02', true, 'web', 2"),
    _CONSENT.format("", "'{eve}', gen_random_uuid(), 'terms', '2026-02', true, 'web', 2147483647"),
    _CONSENT.format(", recorded_at", "'{ada}', gen_random_uuid(), 'terms', '2', true, 'web', 1, '2020-01-01'"),
    _CHANGE.format("") + ";" + _CONSENT.format(
        ", recorded_at", "'{ada}', gen_random_uuid(), 'terms', '2', true, 'web', 2, '2020-01-01'"
    ),
    "DELETE FROM registrations",
    "DELETE FROM registrations WHERE id = '{ada}'",
    "DELETE FROM registrations WHERE id = '{eve}'",
    "DELETE FROM registrations WHERE id = '{gone}'",
    "TRUNCATE registrations CASCADE",
    (
        "INSERT INTO registration_consents SELECT registration_id, purpose, gen_random_uuid(), document_version,"
        " granted, source, recorded_at, seq FROM registration_consents"
    ),
    "UPDATE registration_consents SET registration_id = '{eve}'",
    "MERGE INTO registrations USING (SELECT) AS s ON id = '{eve}' WHEN MATCHED THEN DELETE",
    (
        f"WITH moved AS ({_CHANGE_OF.format('', 'gone')} RETURNING id, version)"
        " INSERT INTO registration_consents (registration_id, id, purpose, document_version, granted, source, seq)"
        " SELECT id, gen_random_uuid(), 'terms', '2', true, 'web', version FROM moved"
    ),
)  # fmt: skip

FORGED_REGISTRATIONS = (
    "UPDATE registrations SET id = gen_random_uuid() WHERE id = '{ada}'",
    "UPDATE registrations SET created_at = '2020-01-01'",
    "UPDATE registrations SET email_key_rev = 7",
    "UPDATE registrations SET version = 1 WHERE id = '{eve}'",
    "UPDATE registrations SET version = version + 2",
    "UPDATE registrations SET version = version + 1",
    "UPDATE registrations SET updated_at = '2020-01-01'",
    "UPDATE registrations SET version = version + 1, updated_at = '2020-01-01'",
    'UPDATE registrations SET profile = \'{{"name": "Mallory"}}\'',
    "UPDATE registrations SET expires_at = '2999-01-01' WHERE id = '{ada}'",
    "UPDATE registrations SET tokens_issued = 0",
    "UPDATE registrations SET token_issued_at = '2020-01-01'",
    "UPDATE registrations SET token_issued_at = NULL",
    (
        "UPDATE registrations SET status = 'cancelled', closed_at = now(), close_reason = 'user', expires_at = NULL"
        " WHERE id = '{ada}'"
    ),
    _CHANGE.format(", status = 'cancelled', closed_at = '2020-01-01', close_reason = 'user', expires_at = NULL"),
    _CHANGE.format(", status = 'active', verified_at = now(), activated_at = now(), expires_at = NULL"),
    _CHANGE.format(", status = 'verified', verified_at = '2020-01-01'"),
    _CHANGE.format(", email = 'mallory@example.com'"),
    _CHANGE.format(", email_key = 'mallory@example.com'"),
    _CHANGE.format(", submit_key = sha256('mallory'), submit_digest = sha256('mallory')"),
    _CHANGE.format(", submit_digest = sha256('mallory')"),
    (
        "INSERT INTO registrations (id, email, email_key, email_key_rev, status, expires_at, version)"
        " VALUES (gen_random_uuid(), 'a@example.com', 'a@example.com', 1, 'pending', '2999-01-01', 7)"
    ),
    (
        "INSERT INTO registrations (id, email, email_key, email_key_rev, status, closed_at, close_reason)"
        " VALUES (gen_random_uuid(), 'a@example.com', 'a@example.com', 1, 'expired', '2020-01-01', 'ttl')"
    ),
    "UPDATE registrations SET status = 'pending', expires_at = now() WHERE id = '{eve}'",
    "UPDATE registrations SET status = 'cancelled', closed_at = now(), close_reason = 'user' WHERE id = '{eve}'",
    "MERGE INTO registrations USING (SELECT) AS s ON id = '{ada}' WHEN MATCHED THEN UPDATE SET expires_at = now()",
    _CHANGE.format(", submit_key = NULL, submit_digest = NULL"),
    "UPDATE registrations SET submit_key = NULL, submit_digest = NULL WHERE id = '{ada}'",
    _CHANGE.format(", verified_at = statement_timestamp()"),
    _CHANGE_OF.format(", verified_at = statement_timestamp()", "eve"),
    _CHANGE_OF.format(", activated_at = statement_timestamp()", "eve"),
    _CHANGE_OF.format(", closed_at = statement_timestamp()", "gone"),
    _CHANGE_OF.format(", close_reason = 'ttl'", "gone"),
    _CHANGE_OF.format("", "gone"),
    _NEW.format(", expires_at, created_at", ", 'pending', '2999-01-01', '2500-01-01'"),
    _NEW.format(", expires_at, token_issued_at", ", 'pending', '2999-01-01', '2500-01-01'"),
    _NEW.format(", verified_at, activated_at", ", 'active', '2500-01-01', now()"),
    _NEW.format(", verified_at, activated_at", ", 'active', now(), '2500-01-01'"),
    _NEW.format(", closed_at, close_reason", ", 'expired', statement_timestamp(), 'ttl'"),
    (
        _NEW.format(", expires_at", ", 'pending', '2999-01-01'").replace("{new}", "{ada}")
        + " ON CONFLICT (id) DO UPDATE SET expires_at = '2999-01-01'"
    ),
    (
        "INSERT INTO registrations (id, email_key_rev, status, closed_at, close_reason)"
        " VALUES ('{new}', 1, 'erased', statement_timestamp(), 'erasure')"
    ),
)

FORGED_TOKENS = (
    "UPDATE verification_tokens SET secret_hash = sha256('mallory')",
    "UPDATE verification_tokens SET registration_id = '{eve}'",
    "UPDATE verification_tokens SET expires_at = '2999-01-01'",
    "UPDATE verification_tokens SET hash_key_id = 1",
    "UPDATE verification_tokens SET attempts = -1",
    "UPDATE verification_tokens SET used_at = '2020-01-01'",
    "UPDATE verification_tokens SET used_at = NULL WHERE registration_id = '{eve}'",
    "UPDATE verification_tokens SET used_at = statement_timestamp() WHERE registration_id = '{eve}'",
    "UPDATE verification_tokens SET replaced_at = '2020-01-01'",
    (
        "INSERT INTO verification_tokens (id, registration_id, purpose, secret_hash, hash_key_id, expires_at, used_at)"
        " VALUES (gen_random_uuid(), '{ada}', 'verify_email', sha256('m'), 0, '2999-01-01', now())"
    ),
)

FORGED_MESSAGES = (
    _MESSAGE.format("", "'{ada}', 'registration.erased', '{{\"seq\": 1}}'"),
    _MESSAGE.format("", "'{ada}', 'registration.erased', '{{\"seq\": 2}}'"),
    _MESSAGE.format("", "'{eve}', 'registration.activated', '{{\"seq\": 3}}'"),
    _MESSAGE.format("", "gen_random_uuid(), 'registration.registered', '{{\"seq\": 1}}'"),
    _MESSAGE.format("", "'{ada}', 'registration.registered', '{{}}'"),
    *(
        f"WITH moved AS ({_CHANGE.format('')} RETURNING id)"
        " INSERT INTO outbox (event_id, registration_id, type, payload)"
        f" SELECT gen_random_uuid(), id, 'registration.profile_updated', '{payload}' FROM moved"
        for payload in ('{{"seq": 2, "email": "mallory@example.com"}}', '{{"seq": " 2"}}', '{{"seq": 3}}')
    ),
    _MESSAGE.format(", dead_at", "'{ada}', 'other', '{{}}', now()"),
    "UPDATE outbox SET registration_id = '{eve}'",
    "UPDATE outbox SET type = 'registration.erased'",
    "UPDATE outbox SET payload = '{{\"seq\": 99}}'",
    "UPDATE outbox SET event_id = gen_random_uuid()",
    "UPDATE outbox SET last_error = '550 ada@example.com'",
)


@pytest.fixture
def people(application: Database) -> dict[str, UUID]:
    """The ids of a pending registration, an active one and an erased one, each with a consent, and an unused id."""
    with application.session() as session:
        registrations = RegistrationRepository(session)
        ada, eve, gone = (
            registrations.register(f"{name}@example.com", consents=[TERMS], idempotency_key=f"key of {name}")
            for name in ("a", "b", "c")
        )
        assert isinstance(eve, Registered)
        VerificationRepository(session).verify_by_token(eve.token)
        registrations.activate(eve.registration.id)
        PrivacyRepository(session).erase(gone.registration.id)
    return {"ada": ada.registration.id, "eve": eve.registration.id, "gone": gone.registration.id, "new": uuid4()}


@pytest.fixture
def attacker(prepared: Cluster) -> Iterator[Attacker]:
    """A connection with the service's login, in autocommit."""
    with closing(prepared.as_login(prepared.application)) as connection:
        yield connection


def rows(cluster: Cluster) -> list[tuple[object, ...]]:
    """Return every row of every table."""
    with cluster.server.connect(cluster.name) as connection:
        return [row for name in TABLES for row in connection.execute(f"SELECT t::text FROM {name} t ORDER BY 1")]


def is_refused(connection: Attacker, statement: str) -> bool:
    """Return whether PostgreSQL refuses *statement* because of a privilege or a rule; keep nothing of it."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
    except (INSUFFICIENT_PRIVILEGE, psycopg.errors.CheckViolation):
        return True
    return False


def test_nothing_is_forged(prepared: Cluster, people: dict[str, UUID], attacker: Attacker) -> None:
    """Each attack is refused, and no row has changed."""
    before = rows(prepared)
    attacks = (
        *FORGED_EVENTS, *FORGED_CONSENTS, *FORGED_REGISTRATIONS, *FORGED_TOKENS, *FORGED_MESSAGES,
    )  # fmt: skip

    assert [] == [attack for attack in attacks if not is_refused(attacker, attack.format(**people))]

    assert before == rows(prepared)


def test_a_long_statement_does_not_backdate(prepared: Cluster, people: dict[str, UUID], attacker: Attacker) -> None:
    """A block that runs for long, with commits, cannot add events at the time of its beginning."""
    with prepared.server.connect(prepared.name) as connection:
        for name in ("registration_events_check_insert", "registrations_check_update"):
            ((source,),) = connection.execute("SELECT pg_get_functiondef(to_regproc(%s))", [name]).fetchall()
            assert "'1 hour'" in source
            connection.execute(source.replace("'1 hour'", "'1 second'"))
    change, event = _CHANGE.format(""), _EVENT.format("", "'{ada}', 2, gen_random_uuid(), 'profile_updated', 'user'")
    for first, then in (("", f"{change}; {event};"), (f"{change}; COMMIT;", f"{event};")):
        block = f"DO $$ BEGIN {first} PERFORM pg_sleep({{seconds}}); {then} END $$"
        with pytest.raises(psycopg.errors.CheckViolation):
            attacker.execute(block.format(**people, seconds=1.1))
    assert not is_refused(attacker, f"DO $$ BEGIN {change}; END $$".format(**people))


REMAINING = (
    *(_MOVE.format(_CHANGE.format(""), "version", "profile_updated", actor) for actor in ("user", "admin:kim")),
    _CHANGE.format(""),
    (
        "UPDATE registrations SET status = 'cancelled', closed_at = statement_timestamp(), close_reason = 'user',"
        " expires_at = NULL, version = version + 1, updated_at = statement_timestamp() WHERE id = '{ada}';"
        "DELETE FROM registrations WHERE id = '{ada}'"
    ),
    _MESSAGE.format("", "'{ada}', 'campaign.joined', '{{}}'"),
    (
        "WITH moved AS (UPDATE registrations SET version = version + 1, updated_at = statement_timestamp()"
        " WHERE id = '{ada}' RETURNING id, version) INSERT INTO outbox (event_id, registration_id, type, payload)"
        " SELECT gen_random_uuid(), id, 'registration.profile_updated', jsonb_build_object('seq', version)"
        " FROM moved, generate_series(1, 2)"
    ),
    (
        "UPDATE registrations SET status = 'cancelled', closed_at = statement_timestamp(), close_reason = 'user',"
        " expires_at = NULL, version = version + 1, updated_at = statement_timestamp() WHERE id = '{ada}';"
        "DELETE FROM registrations WHERE id = '{ada}';"
        + _NEW.format(", expires_at", ", 'pending', '2999-01-01'").replace("{new}", "{ada}")
        + ";"
        + _EVENT.format("", "'{ada}', 1, gen_random_uuid(), 'imported', 'user'")
    ),
    "DELETE FROM verification_tokens",
    (
        "INSERT INTO verification_tokens (id, registration_id, purpose, secret_hash, hash_key_id,"
        " created_at, expires_at) VALUES"
        " (gen_random_uuid(), '{ada}', 'verify_email', sha256('m'), 0, '2020-01-01', '2999-01-01')"
    ),
    "DELETE FROM outbox",
    "LOCK TABLE registrations IN ACCESS EXCLUSIVE MODE",
    "SELECT FROM registrations FOR UPDATE",
    "SELECT pg_advisory_xact_lock(7265676973747261)",
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()",
    "SELECT lo_from_bytea(0, 'a'), pg_notify('a', 'b'), pg_logical_emit_message(true, 'a', 'b')",
)


def test_the_page_states_what_remains(people: dict[str, UUID], attacker: Attacker) -> None:
    """The service's login can do what the methods of the package need, also without a cause."""
    assert [] == [attack for attack in REMAINING if is_refused(attacker, attack.format(**people))]


def test_the_owner_can_correct_rows(prepared: Cluster, people: dict[str, UUID]) -> None:
    """The owner, who could drop the triggers, adds old events and deletes any registration."""
    with prepared.admin.connect(prepared.name) as connection:
        connection.execute("SET ROLE registration_owner")
        for statement in (
            _EVENT.format(", occurred_at", "'{ada}', 7, gen_random_uuid(), 'invented', 'user', '2020-01-01'"),
            _CONSENT.format(", recorded_at", "'{ada}', gen_random_uuid(), 'terms', '2', true, 'web', 1, '2020-01-01'"),
            "UPDATE registrations SET email = 'other@example.com' WHERE id = '{ada}'",
            "UPDATE verification_tokens SET attempts = 3",
            "UPDATE verification_tokens SET attempts = 0",
            "DELETE FROM registrations WHERE id = '{eve}'",
        ):
            assert connection.execute(statement.format(**people)).rowcount


def test_the_time_of_an_event_is_that_of_its_change(prepared: Cluster, application: Database) -> None:
    """For the whole life of registrations, each event has the time and version of its change, without a gap."""
    use_every_method(application)
    for name in ("dan", "fay"):
        with application.session() as session:
            registered = RegistrationRepository(session).register(f"{name}@example.com", ttl=timedelta(days=1))
        with prepared.server.connect(prepared.name) as connection:
            connection.execute("UPDATE registrations SET expires_at = now() WHERE email LIKE 'dan@%'")
        assert isinstance(registered, Registered)
        with application.session(autocommit=True) as session:
            VerificationRepository(session).verify_by_token(registered.token)
            assert Retention(session).expire_due() == (1 if name == "dan" else 0)
            PrivacyRepository(session).erase(registered.registration.id)

    with application.session(autocommit=True) as session:
        first, second = (RegistrationRepository(session).register("gus@example.com") for _ in range(2))
        assert isinstance(first, Registered)
        assert isinstance(second, Registered)
        assert isinstance(VerificationRepository(session).verify_by_token(first.token), Verified)
        with prepared.server.connect(prepared.name) as connection:
            connection.execute("UPDATE registrations SET expires_at = now() WHERE id = %s", [first.registration.id])
        assert isinstance(VerificationRepository(session).verify_by_token(second.token), Verified)

    with prepared.server.connect(prepared.name) as connection:
        ((mistakes,),) = connection.execute("""
            SELECT count(*) FROM registrations r
            LEFT JOIN registration_events e
              ON (e.registration_id, e.seq, e.occurred_at) = (r.id, r.version, r.updated_at)
            WHERE e.id IS NULL""").fetchall()
    assert mistakes == 0


def test_the_deployment_lock_is_not_the_services(prepared: Cluster, attacker: Attacker) -> None:
    """A deployment begins at once, also if the service's login holds every lock of deployments that it can take."""
    modes = ("ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "EXCLUSIVE", "ACCESS EXCLUSIVE")
    assert all(is_refused(attacker, f"LOCK TABLE {VERSION_TABLE} IN {mode} MODE") for mode in modes)
    assert is_refused(attacker, f"SELECT FROM {VERSION_TABLE} FOR KEY SHARE")
    with attacker.transaction():
        attacker.execute("SELECT pg_advisory_lock(7265676973747261), pg_advisory_lock_shared(1)")
        attacker.execute(f"LOCK TABLE {VERSION_TABLE} IN ACCESS SHARE MODE")

        assert prepared.bootstrap().changes == ()
        assert schema.upgrade(prepared.database, owner_role=OWNER_ROLE, wait=0) == schema.newest()


def test_an_index_is_created_concurrently_during_a_deployment(prepared: Cluster) -> None:
    """The session that holds the lock has neither a snapshot nor a transaction id, so nothing waits for it."""
    with schema.deployment(prepared.database, name="test", wait=0) as connection:
        connection.rollback()
        with prepared.server.connect(prepared.name) as observer:
            held = observer.execute(
                "SELECT state, backend_xid, backend_xmin FROM pg_stat_activity WHERE application_name = %s",
                ["registration_persistence test lock"],
            ).fetchall()
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql("CREATE INDEX CONCURRENTLY soon ON registrations (version)")
        with pytest.raises(DeploymentInProgress):
            prepared.bootstrap()
    assert held == [("idle in transaction", None, None)]
    assert prepared.bootstrap().changes == ()
