"""`Mailbox`: the mails of everybody, kept in this process, and the delivery of the outbox into it."""

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from signup_api.mail import ConfirmBy, Mail, Mails, mail_of
from sqlalchemy.orm import Session

from registration_persistence import (
    AsyncDatabase,
    Peppers,
    RegistrationRepository,
    VerificationRepository,
    get_async_db,
    outcomes,
)
from registration_persistence.errors import RegistrationNotFound, Undeliverable
from registration_persistence.outcomes import OutboxMessage

_MAX_MAILS = 200

# The people whom the operator's view signs up; their mails would hide all others.
_LOAD_DOMAIN = "@load.example"

# Each attempt to deliver issues a token, and a person may ask for more.
_MAX_ISSUED = 20


@dataclass(frozen=True, slots=True)
class Received:
    """A mail in the mailbox.

    Args:
        number: The number of the mail, from 1.
        at: The time at which it was delivered, ISO 8601.
        mail: The mail.
    """

    number: int
    at: str
    mail: Mail = field(repr=False)


class Mailbox(Mails):
    """Receives every mail; a worker delivers those of sign-ups from the outbox."""

    from_outbox = True

    def __init__(self) -> None:
        self._received: deque[Received] = deque(maxlen=_MAX_MAILS)
        self._number = 0

    async def send(self, mail: Mail) -> None:
        """Keep *mail*, if it is to a person."""
        if mail.address.endswith(_LOAD_DOMAIN):
            return
        self._number += 1
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._received.appendleft(Received(self._number, now, mail))

    def mails(self) -> list[dict[str, Any]]:
        """Return all mails, the newest first."""
        return [
            {
                "number": received.number,
                "at": received.at,
                "address": received.mail.address,
                "known": received.mail.known,
                "link": received.mail.link if received.mail.confirm_by == "link" else None,
                "code": received.mail.secret if received.mail.confirm_by == "code" else None,
            }
            for received in self._received
        ]


class Delivery:
    """Delivers the messages of the outbox to a mailbox.

    Args:
        mailbox: The mailbox.
        peppers: The keys that codes are hashed with.
    """

    def __init__(self, mailbox: Mailbox, peppers: Peppers) -> None:
        self._mailbox, self._peppers = mailbox, peppers

    async def deliver(self, message: OutboxMessage) -> None:
        """Issue a token or a code for a new registration, and mail it; the other messages need no mail."""
        if message.type != "registration.registered":
            return
        database: AsyncDatabase = get_async_db()
        try:
            mail = await database.run(lambda session: self._mail(session, message))
        except RegistrationNotFound:
            return  # it was purged in the meantime
        if mail is not None:
            await self._mailbox.send(mail)

    def _mail(self, session: Session, message: OutboxMessage) -> Mail | None:
        registration = RegistrationRepository(session).get(message.registration_id)
        if registration is None:
            return None
        confirm_by = cast(ConfirmBy, registration.profile.get("confirm_by", "link"))
        repository = VerificationRepository(session, actor="system", peppers=self._peppers)
        issue = repository.issue_token if confirm_by == "link" else repository.issue_code
        outcome = issue(message.registration_id, min_gap=timedelta(0), max_issued=_MAX_ISSUED)
        if isinstance(outcome, outcomes.Throttled):
            raise Undeliverable("throttled")
        if not isinstance(outcome, outcomes.Issued):
            return None  # it is no longer pending
        known = confirm_by == "link" and isinstance(repository.peek_token(outcome.secret), outcomes.EmailTaken)
        return mail_of(outcome.registration, outcome.secret, confirm_by, known=known)
