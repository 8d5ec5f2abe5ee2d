"""`verify_or_email_taken`: the one conflict of a verification that only the unique index can see."""

from typing import Any

from psycopg.pq import TransactionStatus
from sqlalchemy import Row, TextClause
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from registration_persistence.errors import TransactionConflict
from registration_persistence.outcomes import EmailTaken

_ONE_CURRENT_REGISTRATION = "uq_registrations_email_proven"


def verify_or_email_taken(
    session: Session, statement: TextClause, parameters: dict[str, Any]
) -> Row[Any] | EmailTaken | None:
    """Send *statement*, and return its row, or `EmailTaken` if another registration verifies the mailbox first.

    Raises:
        TransactionConflict: The same, but the transaction contains earlier statements, which are lost.
    """
    driver: Any = session.connection().connection.dbapi_connection
    is_first_statement = driver.info.transaction_status == TransactionStatus.IDLE
    try:
        return session.execute(statement, parameters).one_or_none()
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
