"""Tests of `ConsentRepository`, and of the purposes that it and `register` accept."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import TERMS, Rows, SignUp, all_rows, untyped

from registration_persistence import (
    Consent,
    ConsentRepository,
    Database,
    PrivacyRepository,
    Registration,
    RegistrationRepository,
    Retention,
    Status,
    VerificationRepository,
)
from registration_persistence.errors import IllegalTransition, InvalidConsent, InvalidInput, RegistrationNotFound
from registration_persistence.outcomes import ConsentRecord, Registered

NEWS = Consent("news", "7", source="app")


@pytest.fixture
def consents(database: Database) -> Iterator[ConsentRepository]:
    """A repository in autocommit."""
    with database.session(autocommit=True) as session:
        yield ConsentRepository(session)


def decisions(records: tuple[ConsentRecord, ...]) -> list[tuple[str, str, bool, str, int]]:
    """Return *records* without their times."""
    return [(r.purpose, r.document_version, r.granted, r.source, r.seq) for r in records]


def test_the_history_starts_with_the_sign_up(
    registrations: RegistrationRepository, consents: ConsentRepository, rows: Rows
) -> None:
    """The consents given and declined at sign-up belong to the first event, and are current."""
    given = [TERMS, Consent("news", "7", granted=False, source="app")]
    made = registrations.register("ada@example.com", consents=given).registration

    history = consents.history(made.id)

    assert [("news", "7", False, "app", 1), ("terms", "2026-01", True, "web", 1)] == decisions(history)
    assert history == consents.current(made.id)
    assert {record.recorded_at for record in history} == {
        row["recorded_at"] for row in rows("SELECT recorded_at FROM registration_consents")
    }


def test_a_withdrawal_is_one_more_decision(
    database: Database, consents: ConsentRepository, sign_up: SignUp, rows: Rows
) -> None:
    """No decision is overwritten; the newest one per purpose is current; an event and a message are stored."""
    made = sign_up().registration
    before = rows("SELECT * FROM registration_consents")
    with database.session() as session:
        updated = ConsentRepository(session, actor="admin:7", correlation_id="1-5759e988").record(
            made.id, [Consent("terms", "2026-02", granted=False), NEWS, Consent("ads", "1", granted=False)]
        )

    assert (made.id, Status.PENDING, 2) == (updated.id, updated.status, updated.version)
    assert (made.profile, made.created_at, made.expires_at) == (updated.profile, updated.created_at, updated.expires_at)
    assert made.updated_at < updated.updated_at
    assert before == rows("SELECT * FROM registration_consents WHERE seq = 1")
    now = [("ads", "1", False, "web", 2), ("news", "7", True, "app", 2), ("terms", "2026-02", False, "web", 2)]
    assert now == decisions(consents.current(made.id))
    assert [("terms", "2026-01", True, "web", 1), *now] == decisions(consents.history(made.id))
    (event,) = rows("SELECT * FROM registration_events WHERE seq = 2")
    assert (made.id, "consents_recorded", {"granted": ["news"], "withdrawn": ["ads", "terms"]}) == (
        event["registration_id"],
        event["type"],
        event["data"],
    )
    assert ("admin:7", "1-5759e988") == (event["actor"], event["correlation_id"])
    assert [(made.id, "registration.consents_recorded", {"seq": 2})] == [
        (row["registration_id"], row["type"], row["payload"])
        for row in rows(f"SELECT * FROM outbox WHERE event_id = '{event['id']}'")
    ]


def test_the_same_decision_again_is_recorded_again(consents: ConsentRepository, sign_up: SignUp, rows: Rows) -> None:
    """Each decision counts, as the person was asked each time, and the event does not name undecided purposes."""
    made = sign_up().registration

    for version in (2, 3):
        assert version == consents.record(made.id, [TERMS]).version

    assert [1, 2, 3] == [record.seq for record in consents.history(made.id)]
    assert [3] == [record.seq for record in consents.current(made.id)]
    assert [{"granted": ["terms"], "withdrawn": []}] * 2 == [
        row["data"] for row in rows("SELECT data FROM registration_events WHERE seq > 1")
    ]


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example creates its own registration
)
@given(
    steps=st.lists(
        st.dictionaries(
            st.sampled_from(["terms", "news", "ads"]),
            st.tuples(st.sampled_from(["1", "2"]), st.booleans(), st.sampled_from(["web", "app"])),
            min_size=1,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_the_last_decision_for_each_purpose_is_current(
    consents: ConsentRepository, sign_up: SignUp, steps: list[dict[str, tuple[str, bool, str]]]
) -> None:
    """For any sequence of decisions, the history keeps their order, and the last one for each purpose is current."""
    registration_id = sign_up().registration.id
    expected = [("terms", "2026-01", True, "web", 1)]
    for seq, step in enumerate(steps, 2):
        given = [Consent(purpose, version, granted, source) for purpose, (version, granted, source) in step.items()]
        assert seq == consents.record(registration_id, given).version
        expected += sorted((c.purpose, c.document_version, c.granted, c.source, seq) for c in given)

    history = consents.history(registration_id)

    assert expected == decisions(history)
    newest = {record.purpose: record for record in history}
    assert [newest[purpose] for purpose in sorted(newest)] == list(consents.current(registration_id))


def test_the_history_is_ordered_by_events(database: Database, consents: ConsentRepository, sign_up: SignUp) -> None:
    """The event number gives the order, also after a failover to a server whose clock is behind."""
    made = sign_up().registration
    consents.record(made.id, [Consent("terms", "2"), NEWS])
    consents.record(made.id, [Consent("terms", "3", granted=False)])
    with database.session() as session:
        session.execute(
            text(
                "UPDATE registration_consents SET recorded_at = now() - seq * interval '1 day',"
                " id = CAST(lpad(to_hex(100 - seq), 32, '0') AS uuid)"
            )
        )

    history, current = consents.history(made.id), consents.current(made.id)

    assert [("terms", 1), ("news", 2), ("terms", 2), ("terms", 3)] == [(r.purpose, r.seq) for r in history]
    assert [("news", 2), ("terms", 3)] == [(r.purpose, r.seq) for r in current]
    assert history[0].recorded_at == history[-1].recorded_at + timedelta(days=2)
    assert [history[1], history[-1]] == list(current)


def test_a_rollback_removes_the_decision(
    database: Database, consents: ConsentRepository, sign_up: SignUp, rows: Rows
) -> None:
    """A rollback removes the decision together with its event and message."""
    made = sign_up().registration
    before = all_rows(rows)

    with database.session() as session:
        assert 2 == ConsentRepository(session).record(made.id, [NEWS]).version
        session.rollback()

    assert before == all_rows(rows)
    assert ["terms"] == [record.purpose for record in consents.current(made.id)]


Step = Callable[[Session, Registered], object]
RUN_OUT = text("UPDATE registrations SET expires_at = now() - interval '1 s'")


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [lambda s, made: VerificationRepository(s).verify_by_token(made.token)],
        [lambda s, made: RegistrationRepository(s).cancel(made.registration.id)],
        [lambda s, _: s.execute(RUN_OUT)],
        [lambda s, _: s.execute(RUN_OUT), lambda s, _: Retention(s).expire_due()],
    ],
    ids=["pending", "verified", "cancelled", "overdue", "swept"],
)
def test_consent_can_be_withdrawn_in_every_status_but_erased(
    database: Database,
    registrations: RegistrationRepository,
    consents: ConsentRepository,
    sign_up: SignUp,
    steps: list[Step],
) -> None:
    """The status and the times of the registration do not change."""
    made = sign_up()
    with database.session() as session:
        for step in steps:
            step(session, made)
    before = registrations.get(made.registration.id)
    assert before is not None

    updated = consents.record(before.id, [Consent("terms", "2026-01", granted=False)])

    assert (before.status, before.version + 1, before.expires_at, before.closed_at, before.close_reason) == (
        updated.status,
        updated.version,
        updated.expires_at,
        updated.closed_at,
        updated.close_reason,
    )
    assert [(False, updated.version)] == [(record.granted, record.seq) for record in consents.current(before.id)]


def test_nothing_is_recorded_for_an_erased_registration(
    database: Database, consents: ConsentRepository, sign_up: SignUp, rows: Rows
) -> None:
    """The error says so, nothing is written, and the earlier consents can still be read."""
    made = sign_up().registration
    with database.session() as session:
        PrivacyRepository(session).erase(made.id)
    before = all_rows(rows)

    with pytest.raises(IllegalTransition, match=f"{made.id} is erased and cannot be changed any more"):
        consents.record(made.id, [NEWS])

    assert before == all_rows(rows)
    assert ["terms"] == [record.purpose for record in consents.history(made.id)]


def test_an_unknown_id_has_no_consents(consents: ConsentRepository, sign_up: SignUp, rows: Rows) -> None:
    """Recording raises an error that names the id, and reading returns nothing."""
    sign_up()
    before, unknown = all_rows(rows), uuid4()

    with pytest.raises(RegistrationNotFound, match=str(unknown)):
        consents.record(unknown, [NEWS])

    assert before == all_rows(rows)
    assert ((), ()) == (consents.current(unknown), consents.history(unknown))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "there is no consent to record: expected at least one"),
        (None, "the consents are a NoneType: expected a list of Consent"),
        (TERMS, "the consents are a Consent: expected a list of Consent"),
        ([("terms", "1")], "a consent is a tuple: expected a Consent"),
        ([TERMS, Consent("terms", "2", granted=False)], "two consents have the same purpose"),
        ([Consent("ada@example.com", "1")], "the purpose of a consent is not a name like"),
        ([Consent("Terms", "1")], "the purpose of a consent is not a name like"),
        ([Consent("x" * 64, "1")], "the purpose of a consent is not a name like"),
        ([Consent("terms\n", "1")], "the purpose of a consent is not a name like"),
        ([Consent(untyped(None), "1")], "the purpose of a consent is not a name like"),
        (
            [Consent("terms", "ada@example.com")],
            "the document_version of the consent to terms is not 1 to 64 letters, digits",
        ),
        ([Consent("terms", "")], "the document_version of the consent to terms is not 1 to 64 letters, digits"),
        ([Consent("terms", "1" * 65)], "the document_version of the consent to terms is not 1 to 64 letters, digits"),
        ([Consent("terms", untyped(1))], "the document_version of the consent to terms is not 1 to 64 letters"),
        (
            [Consent("terms", "1", source="ada@example.com")],
            "the source of the consent to terms is not 1 to 64 letters",
        ),
        (
            [Consent("terms", "1", source="caf\u00e9")],
            "the source of the consent to terms is not 1 to 64 letters, digits",
        ),
        ([Consent("terms", "1", source="a\0")], "the source of the consent to terms is not 1 to 64 letters, digits"),
        ([Consent("terms", "1", granted=untyped("no"))], "granted of the consent to terms is not a bool"),
        ([NEWS, Consent("terms", "1", granted=untyped(1))], "granted of the consent to terms is not a bool"),
    ],
)
def test_an_invalid_decision_is_rejected(
    database: Database, sign_up: SignUp, rows: Rows, given: Any, message: str
) -> None:
    """The error quotes no address, no statement is sent, and the transaction continues and commits."""
    made = sign_up().registration
    with database.session() as session:
        repository = ConsentRepository(session)
        with pytest.raises(InvalidConsent, match=f"^{message}") as raised:
            repository.record(made.id, given)
        assert "ada@" not in str(raised.value)
        assert ["terms"] == [record.purpose for record in repository.history(made.id)]
        repository.record(made.id, [NEWS])

    assert [("terms", 1), ("news", 2)] == [
        (row["purpose"], row["seq"]) for row in rows("SELECT * FROM registration_consents ORDER BY seq")
    ]


Record = Callable[[Session, UUID, list[Consent]], Registration]


@pytest.mark.parametrize(
    "record",
    [
        lambda s, identity, given: ConsentRepository(s, purposes=["terms", "news"]).record(identity, given),
        lambda s, _, given: (
            RegistrationRepository(s, purposes={"terms", "news"})
            .register("eve@example.com", consents=given)
            .registration
        ),
    ],
    ids=["record", "register"],
)
def test_an_unknown_purpose_is_rejected(database: Database, sign_up: SignUp, rows: Rows, record: Record) -> None:
    """The error names the known purposes but not the given one; a known purpose is recorded."""
    made = sign_up().registration
    with database.session() as session:
        with pytest.raises(InvalidConsent, match=r"unknown: expected one of news, terms$") as raised:
            record(session, made.id, [TERMS, Consent("ada_example", "1")])
        assert "ada" not in str(raised.value)
        recorded = record(session, made.id, [NEWS])

    assert [recorded.id] == [
        row["registration_id"] for row in rows("SELECT * FROM registration_consents WHERE purpose <> 'terms'")
    ]


@pytest.mark.parametrize("repository", [ConsentRepository, RegistrationRepository])
@pytest.mark.parametrize(
    "purposes", ["terms", ["Terms"], ["terms", "ada@example.com"], [""], [None], {"x" * 64: 1}, 5, iter(["terms"])]
)
def test_purposes_must_be_names(repository: type[ConsentRepository | RegistrationRepository], purposes: Any) -> None:
    """The constructor rejects an invalid purpose and does not quote it."""
    with pytest.raises(InvalidInput, match="the purposes are not a collection of names like terms") as raised:
        repository(Session(), purposes=purposes)

    assert "ada" not in str(raised.value)
