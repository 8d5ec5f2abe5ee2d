"""The mails of the service. Replace the body of `Mails.send` to send real ones."""

import logging
import os
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from registration_persistence import Registration
from signup_api.keys import is_local

ConfirmBy = Literal["link", "code"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail with which a person verifies a mailbox.

    Args:
        address: The mailbox.
        confirm_by: Whether the mail contains a link or a code.
        secret: The token of the link, or the code.
        known: Whether somebody has verified this mailbox before; the mail says so.
    """

    address: str = field(repr=False)
    confirm_by: ConfirmBy
    secret: str = field(repr=False)
    known: bool = False

    @property
    def link(self) -> str:
        """The page that verifies the mailbox; the token is in the fragment, which browsers do not send to servers."""
        # Not the host of the request, which the client chooses.
        service = os.environ.get("SIGNUP_URL", "http://127.0.0.1:8000")
        return f"{service}/confirm.html#token={quote(self.secret)}"


class Mails:
    """Sends the mails of sign-ups after COMMIT.

    If this process may be ended before a mail is sent, deliver the outbox instead.
    """

    from_outbox = False
    """Whether a worker sends the mails of sign-ups, so that the request does not."""

    async def send(self, mail: Mail) -> None:
        """Send *mail*; in `local` and `test` it is printed, and nobody else may see a token."""
        logger.info("mail to an address of %d characters, known=%s, %s", len(mail.address), mail.known, mail.confirm_by)
        if is_local():
            content = mail.link if mail.confirm_by == "link" else f"code {mail.secret}"
            print(f"mail to {mail.address}: {content}", flush=True)


def mail_of(registration: Registration, secret: str, confirm_by: ConfirmBy, *, known: bool = False) -> Mail:
    """Return the mail to the mailbox of *registration*."""
    return Mail(registration.email or "", confirm_by, secret, known)
