"""Keep the arguments of a repository method out of the tracebacks of its errors."""

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from registration_persistence.domain.traceback_redaction import Decorator, redact_traceback_of
from registration_persistence.errors import RegistrationPersistenceError

redact_traceback: Decorator = redact_traceback_of(RegistrationPersistenceError, SQLAlchemyError, psycopg.Error)
"""Decorates a repository method: no exception, whatever its kind, has a frame that holds the arguments."""
