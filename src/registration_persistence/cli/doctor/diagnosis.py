"""`diagnose`: all checks, in the order in which a connection is made and used."""

from collections.abc import Iterator, Sequence

from registration_persistence.cli.doctor import (
    activity,
    clock_skew,
    credentials,
    login,
    network,
    outbox,
    privileges,
    schema_state,
    server_settings,
    slots,
    tls,
    version,
)
from registration_persistence.cli.doctor.check import Check, skipped
from registration_persistence.cli.doctor.environment import configured_database, environment_check, libpq_checks
from registration_persistence.cli.doctor.examination import Step, examine
from registration_persistence.cli.doctor.facts import Facts
from registration_persistence.database import DatabaseSettings

# In a small function, loading the AWS SDK alone takes seconds.
_AWS_SECONDS = 10.0


def diagnose(*, seconds: float) -> Iterator[Check]:
    """Make all checks of the environment of this process, and yield each result as soon as it is known.

    Args:
        seconds: The time for all of them.
    """
    database = configured_database()
    if isinstance(database, list):
        yield from database
        yield skipped("other checks", "the environment is wrong")
        return
    variables = list(libpq_checks())
    if any(check.state == "failed" for check in variables):
        yield from [*variables, skipped("other checks", "the environment is wrong")]
        return
    yield from [environment_check(database.settings), *variables]
    facts = Facts(database)
    try:
        yield from examine(facts, steps_for(database.settings), seconds=seconds)
    finally:
        facts.close()


def steps_for(settings: DatabaseSettings) -> Sequence[Step]:
    """Return the checks for *settings*, in their order."""
    source = credentials.name_of_source(settings)
    return (
        Step(network.HOST, network.host_check),
        *([Step(network.READER_HOST, network.reader_host_check)] if settings.reader_host else []),
        Step(network.PORT, network.port_check, needs=(network.HOST,)),
        Step(tls.NAME, tls.tls_check, needs=(network.PORT,)),
        Step(source, credentials.credentials_check, seconds=_AWS_SECONDS),
        *(
            [Step(credentials.ROTATION, credentials.rotation_check, needs=(source,), seconds=_AWS_SECONDS)]
            if settings.secret_arn
            else []
        ),
        Step(
            login.LOGIN,
            login.login_check,
            needs=(network.PORT, tls.NAME, source),
            seconds=settings.connect_timeout,
        ),
        *_server_steps(),
        *([Step(login.READER, login.reader_check, needs=(login.LOGIN,))] if settings.reader_host else []),
    )


def _server_steps() -> Sequence[Step]:
    checks = (
        (login.WRITER, login.writer_check),
        (login.POOLER, login.pooler_check),
        (version.NAME, version.version_check),
        (clock_skew.NAME, clock_skew.clock_check),
        (slots.NAME, slots.slots_check),
        (schema_state.SCHEMA, schema_state.schema_check),
        (schema_state.PARTITIONS, schema_state.partitions_check),
        (privileges.ROLE, privileges.role_check),
        (privileges.PROTECTION, privileges.protection_check),
        (server_settings.NAME, server_settings.settings_check),
        (outbox.OUTBOX, outbox.outbox_check),
        (outbox.DEAD_LETTERS, outbox.dead_letters_check),
        (activity.SNAPSHOTS, activity.snapshots_check),
        (activity.TRANSACTION_IDS, activity.transaction_ids_check),
    )
    return [Step(name, run, needs=(login.LOGIN,)) for name, run in checks]
