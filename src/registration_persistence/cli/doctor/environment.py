"""The environment: the settings, and the variables of libpq."""

import os
from collections.abc import Iterator, Mapping

from psycopg import pq

from registration_persistence.cli.doctor.check import Check, failed, listed, ok
from registration_persistence.database import Database, DatabaseSettings
from registration_persistence.database.connector import variable_problems
from registration_persistence.errors import ConfigurationError

_NAME = "environment"
_FIX = "correct the variable; docs/configuration.md describes each one"


def configured_database(environ: Mapping[str, str] = os.environ) -> Database | list[Check]:
    """Return the database of the environment, or a failed check for each problem."""
    try:
        return Database(DatabaseSettings.from_env(environ))
    except ConfigurationError as error:
        problems = [*error.problems, *variable_problems()]
        return [failed(_NAME, problem, _FIX) for problem in problems]


def environment_check(settings: DatabaseSettings) -> Check:
    """Return the address, the credentials and the pool that the environment selects."""
    credentials = "IAM" if settings.auth == "iam" else "a secret" if settings.secret_arn else "a password"
    return ok(
        _NAME,
        f"{settings.environment}: {settings.name} at {settings.host}:{settings.port} with {credentials}, pool "
        f"{settings.pool}",
    )


def libpq_checks() -> Iterator[Check]:
    """Yield the checks of the variables that libpq reads: those that stop a login, and those without effect."""
    problems = list(variable_problems())
    for problem in problems:
        yield failed(_NAME, problem, "unset the variable")
    known = {default.envvar.decode() for default in pq.Conninfo.get_defaults() if default.envvar}
    ignored = sorted(name for name in known & set(os.environ) if not any(name in problem for problem in problems))
    if ignored:
        yield ok("libpq variables", f"set, and without effect here, though psql obeys them: {listed(ignored)}")
