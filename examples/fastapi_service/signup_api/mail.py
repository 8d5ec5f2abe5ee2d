"""The mails of the service. Replace the body of `send_mail` to send real ones."""

import logging
import os

logger = logging.getLogger(__name__)


async def send_mail(address: str, *, known: bool, token: str) -> None:
    """Send the verification link to *address*; if the mailbox is already *known*, the mail says so.

    It is sent after COMMIT. If this process may be ended before the mail is sent, deliver the outbox instead.
    """
    logger.info("mail to an address of %d characters, known=%s, token of %d", len(address), known, len(token))
    if os.environ.get("APP_ENVIRONMENT") in ("local", "test"):  # nobody else may see a token
        print(f"mail to {address}: https://example.com/verify?token={token}", flush=True)
