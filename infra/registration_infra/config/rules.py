"""Rules across the keys of an environment; each problem is a message with key, value and rule."""

from collections.abc import Iterator

from registration_infra.config.application_rules import application_problems
from registration_infra.config.aurora_rules import aurora_problems
from registration_infra.config.backup_rules import backup_problems
from registration_infra.config.existing_rules import existing_problems
from registration_infra.config.network_rules import network_problems
from registration_infra.config.tls_rules import tls_problems
from registration_infra.config.valid_values import Values


def rule_problems(environment: Values) -> Iterator[str]:
    """Yield the problems of the valid values of an environment, in which `provision_aurora` is always set."""
    yield from network_problems(environment)
    if environment["provision_aurora"]:
        yield from aurora_problems(environment)
    else:
        yield from existing_problems(environment)
    yield from tls_problems(environment)
    yield from backup_problems(environment)
    yield from application_problems(environment)
