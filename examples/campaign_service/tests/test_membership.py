"""Tests of the memberships."""

from pathlib import Path
from uuid import UUID

import pytest
from alembic import command
from alembic.config import Config
from campaigns import membership
from campaigns.membership import deliver, sign_up
from campaigns.models import CampaignMember
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from registration_persistence import Database, OutboxWorker, PrivacyRepository, RegistrationRepository, get_db
from registration_persistence.models import RegistrationRow
from registration_persistence.testing import StartLambda

ALEMBIC = Path(__file__).parents[1] / "alembic.ini"
FORM = {"email": "ada@example.com", "key": "1", "campaign": "spring", "nickname": "Ada"}


@pytest.mark.usefixtures("registration_environment")
def test_an_erased_person_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The erasure deletes the membership, and the message deletes the copies outside of the database."""
    forgotten: list[UUID] = []
    monkeypatch.setattr(membership, "forget_copies", forgotten.append)
    ada, eve = sign_up(**FORM), sign_up("eve@example.com", "2", "spring", "Eve")
    assert sign_up(**FORM) == ada

    with get_db().session() as session:
        PrivacyRepository(session).erase(ada)

    with get_db().session() as session:
        assert [eve] == session.scalars(select(CampaignMember.registration_id)).all()
    OutboxWorker(get_db(), deliver).run_once()
    assert forgotten == [ada]


def test_an_erased_person_cannot_join(database: Database) -> None:
    """A membership of an erased registration is refused."""
    with database.session() as session:
        ada = RegistrationRepository(session).register("ada@example.com").registration.id
        PrivacyRepository(session).erase(ada)

    with pytest.raises(IntegrityError, match="the registration is erased"), database.session() as session:
        session.add(CampaignMember(registration_id=ada, campaign="spring", nickname="Ada"))


def test_a_membership_is_joined_with_its_registration(isolated_session: Session) -> None:
    """The service's model refers to the model of the registration, also in queries."""
    ada = RegistrationRepository(isolated_session).register("ada@example.com").registration.id
    isolated_session.add(CampaignMember(registration_id=ada, campaign="spring", nickname="Ada"))
    isolated_session.commit()

    joined = select(RegistrationRow.email, CampaignMember.nickname).join(CampaignMember)
    assert isolated_session.execute(joined).all() == [("ada@example.com", "Ada")]


def test_the_lambda_function_stores_a_membership(lambda_process: StartLambda) -> None:
    """The function runs in a process of its own, on a database with the tables of the service."""
    ada = UUID(lambda_process("campaigns.membership:handler").invoke(FORM))

    with get_db().session() as session:
        assert [ada] == session.scalars(select(CampaignMember.registration_id)).all()


def test_the_revisions_match_the_models(database: Database) -> None:
    """Autogenerate finds no difference: neither in the tables of the service, nor in those of the registrations."""
    command.check(Config(ALEMBIC, attributes={"database": database}))
