"""`verify_or_email_taken`: the one conflict of a verification that only the unique index can see."""

from typing import Any

from psycopg.pq import TransactionStatus
from sqlalchemy import Executable, Row
from sqlalchemy.exc import IntegrityError

from registration_persistence.errors import TransactionConflict
from registration_persistence.evidence import Evidence
from registration_persistence.outcomes import EmailTaken
from registration_persistence.repositories.change import event_evidence, send_change
from registration_persistence.unit_of_work import SessionOrConnection, connection_of

_ONE_CURRENT_REGISTRATION = "uq_registrations_email_proven"


def verify_or_email_taken(
    target: SessionOrConnection, statement: Executable, parameters: dict[str, Any], expected: Evidence
) -> Row[Any] | EmailTaken | None:
    """Send *statement*, and return its row, or `EmailTaken` if another registration verifies the mailbox first.

    Args:
        target: The session or connection.
        statement: The statement of the verification.
        parameters: Its parameters.
        expected: The evidence of the verification.

    Raises:
        TransactionConflict: The same, but the transaction contains earlier statements, which are lost.
    """
    driver: Any = connection_of(target).connection.dbapi_connection
    is_first_statement = driver.info.transaction_status == TransactionStatus.IDLE
    try:
        return send_change(
            target,
            statement,
            parameters,
            expected,
            lambda row: event_evidence(row.id, parameters["event_id"]) if row.changed else None,
        )
    except IntegrityError as error:
        diagnostics = getattr(error.orig, "diag", None)
        if getattr(diagnostics, "constraint_name", None) != _ONE_CURRENT_REGISTRATION:
            raise
        if not is_first_statement:
            raise TransactionConflict(
                "another registration verified this mailbox at the same moment: repeat the unit of work"
            ) from error
    # The transaction contained nothing else, so the rollback loses nothing.
    driver.rollback()
    return EmailTaken()
