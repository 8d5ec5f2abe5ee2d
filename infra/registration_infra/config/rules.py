"""Rules across the keys of an environment; each problem is a message with key, value and rule."""

from collections.abc import Iterator

from registration_infra.config.aurora_rules import aurora_problems
from registration_infra.config.backup_rules import backup_problems
from registration_infra.config.network_rules import network_problems
from registration_infra.config.tls_rules import tls_problems
from registration_infra.config.toml_text import toml_text
from registration_infra.config.valid_values import Values

# Keys without effect on an existing database; accepting them would give a false impression of safety.
_KEYS_FOR_PROVISIONED_CLUSTER = (("backup", "central_account"), ("backup", "own_plan"), ("alarms", "email"))


def rule_problems(environment: Values) -> Iterator[str]:
    """Yield the problems of the valid values of an environment, in which `provision_aurora` is always set."""
    yield from network_problems(environment)
    if environment["provision_aurora"]:
        yield from aurora_problems(environment)
    else:
        yield from _existing_database_problems(environment)
    yield from tls_problems(environment)
    yield from backup_problems(environment)


def _existing_database_problems(environment: Values) -> Iterator[str]:
    for table, key in _KEYS_FOR_PROVISIONED_CLUSTER:
        value = environment.get(table, {}).get(key)
        if value:
            yield f"{table}.{key} is {toml_text(value)}: expected only if provision_aurora is true"
