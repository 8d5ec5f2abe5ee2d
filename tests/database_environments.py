"""Environments of a production database and of a test database, and the problems of an environment."""

from collections.abc import Mapping
from pathlib import Path

from registration_persistence import DatabaseSettings
from registration_persistence.database import certificates
from registration_persistence.errors import ConfigurationError

SHIPPED = Path(certificates.__file__).parent
PASSWORD = "hunter2-%-\\-'-\"-é"
ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:registrations-AbCdEf"
AURORA = "app.cluster-c1a2b3.eu-west-1.rds.amazonaws.com"
PRODUCTION = {"APP_DATABASE_HOST": AURORA, "APP_DATABASE_NAME": "registrations", "APP_DATABASE_SECRET_ARN": ARN}
TEST = {
    "APP_ENVIRONMENT": "test",
    "APP_DATABASE_HOST": "127.0.0.1",
    "APP_DATABASE_NAME": "registrations",
    "APP_DATABASE_USER": "ada",
    "APP_DATABASE_PASSWORD": PASSWORD,
}


def outcome_of(environ: Mapping[str, str]) -> DatabaseSettings | ConfigurationError:
    """Return the settings of *environ*, or the error that lists its problems; any other error is raised."""
    try:
        return DatabaseSettings.from_env(environ)
    except ConfigurationError as error:
        return error


def problems_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the problems of *environ*; empty if it gives settings."""
    outcome = outcome_of(environ)
    return outcome.problems if isinstance(outcome, ConfigurationError) else ()
