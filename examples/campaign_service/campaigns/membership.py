"""People join campaigns, and are forgotten."""

import logging
from uuid import UUID

from sqlalchemy.orm import Session

from campaigns.models import CampaignMember
from registration_persistence import RegistrationRepository, get_db, outcomes

logger = logging.getLogger(__name__)


def sign_up(email: str, key: str, campaign: str, nickname: str) -> UUID:
    """Store a registration and its membership in one transaction, and return the id of the registration."""

    def work(session: Session) -> UUID:
        outcome = RegistrationRepository(session).register(email, idempotency_key=key)
        registration_id = outcome.registration.id
        if isinstance(outcome, outcomes.Registered):  # a repetition has stored the membership already
            session.add(CampaignMember(registration_id=registration_id, campaign=campaign, nickname=nickname))
        return registration_id

    return get_db().run(work, idempotent=True)


def handler(event: dict[str, str], _context: object) -> str:
    """Handle the form of a campaign in a Lambda function."""
    return str(sign_up(event["email"], event["key"], event["campaign"], event["nickname"]))


def forget_copies(registration_id: UUID) -> None:
    """Delete the copies that are outside of the database, for example in a newsletter tool."""
    logger.info("forget %s", registration_id)


def deliver(message: outcomes.OutboxMessage) -> None:
    """Process a message of the outbox, at least once; see `OutboxWorker`."""
    if message.type == "registration.erased":
        forget_copies(message.registration_id)
