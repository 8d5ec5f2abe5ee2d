"""SQLAlchemy's compliance suite for third-party dialects."""

from sqlalchemy.testing.suite import *  # noqa: F403 the suite
