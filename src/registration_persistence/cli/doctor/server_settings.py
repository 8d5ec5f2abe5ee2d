"""The settings of the server, the database and the role that interfere with the service."""

from collections.abc import Iterator, Mapping

from sqlalchemy import text

from registration_persistence.cli.doctor.check import Check, failed, listed, ok, warning
from registration_persistence.cli.doctor.facts import Facts
from registration_persistence.database import DatabaseSettings
from registration_persistence.light_dataclass import dataclass
from registration_persistence.schema.login_settings import unsuitable_settings

NAME = "settings"

_MIN_IDLE_SESSION_MILLISECONDS = 60_000

_MIN_JIT_COST = 10_000

_NAMES = (
    "client_encoding",
    "default_transaction_isolation",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "jit",
    "jit_above_cost",
    "lock_timeout",
    "row_security",
    "server_encoding",
    "session_replication_role",
    "statement_timeout",
    "synchronous_commit",
    "transaction_timeout",
)

# The settings in effect in this session, and the place that they come from.
_IN_EFFECT = text("SELECT name, setting, source FROM pg_settings WHERE name = ANY(:names)")


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting in effect.

    Args:
        value: Its value, a time in milliseconds.
        source: The place that it comes from, as `pg_settings` names it.
    """

    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Interference:
    """A setting that interferes with the service.

    Args:
        name: The name of the setting.
        setting: Its value and its source.
        effect: Its effect on the service.
        breaks: Whether the service loses its guarantees, instead of being slower or less safe. Defaults to false.
        wanted: The value that the role should have. Defaults to empty text: that of a place further out.
    """

    name: str
    setting: Setting
    effect: str
    breaks: bool = False
    wanted: str = ""


# The values with which a setting interferes, and the effect.
_INTERFERING_VALUES: Mapping[str, tuple[str, str]] = {
    "row_security": ("off", "a query of a table with policies fails"),
    "session_replication_role": ("replica", "no trigger runs, so the event log is not protected"),
    "synchronous_commit": ("off", "a crash of the server loses sign-ups that were confirmed"),
}

# The only values with which a setting does not interfere, and the effect of another one.
_EXPECTED_VALUES: Mapping[str, tuple[str, str]] = {
    "client_encoding": ("UTF8", "text is not read correctly"),
    "default_transaction_isolation": ("read committed", "concurrent sign-ups raise TransactionConflict"),
    "server_encoding": ("UTF8", "not every name can be stored"),
}

_BREAKING = ("client_encoding", "server_encoding", "session_replication_role")


def settings_check(facts: Facts) -> Check:
    """Look for settings that interfere, in this session and in the settings of the service's logins."""
    server, connection = facts.server, facts.connection
    assert server is not None
    rows = connection.execute(_IN_EFFECT, {"names": list(_NAMES)})
    in_effect = {row.name: Setting(row.setting, row.source) for row in rows}
    found = list(interferences(in_effect, facts.settings))
    unsuitable = unsuitable_settings(connection, proxied=facts.settings.pool == "proxy")
    # Each line ends with the statement that corrects it.
    problems = [line.rpartition(": ")[0] for line in unsuitable]
    problems += [f"{each.name} is {each.setting.value} ({each.setting.source}): {each.effect}" for each in found]
    fixes = [line.rpartition(": ")[2] for line in unsuitable]
    fixes += [fix_of(each, server.current_user, server.database) for each in found]
    if unsuitable or any(each.breaks for each in found):
        return failed(NAME, listed(problems), listed(fixes))
    if problems:
        return warning(NAME, listed(problems), listed(fixes))
    return ok(NAME, "no setting of the server, the database or the role interferes")


def interferences(in_effect: Mapping[str, Setting], settings: DatabaseSettings) -> Iterator[Interference]:
    """Yield the settings that interfere.

    Args:
        in_effect: The settings in effect, by name; a version of PostgreSQL may lack some.
        settings: The settings of the package.
    """
    for name, setting in in_effect.items():
        value = setting.value.lower()
        interfering, effect = _INTERFERING_VALUES.get(name, ("", ""))
        expected, effect_of_others = _EXPECTED_VALUES.get(name, (value, ""))
        if value == interfering or value != expected.lower():
            yield Interference(name, setting, effect or effect_of_others, name in _BREAKING)
    yield from _costly_settings(in_effect)
    yield from _other_time_limits(in_effect, settings)


def _costly_settings(in_effect: Mapping[str, Setting]) -> Iterator[Interference]:
    jit = in_effect.get("jit")
    if jit is not None and jit.value == "on" and _number(in_effect, "jit_above_cost") < _MIN_JIT_COST:
        yield Interference(
            "jit", jit, "short statements are compiled first, because jit_above_cost is low", wanted="off"
        )


def _other_time_limits(in_effect: Mapping[str, Setting], settings: DatabaseSettings) -> Iterator[Interference]:
    """Yield the time limits that the package did not ask for; a pooler does not pass on those that it asks for."""
    expected = {
        "statement_timeout": settings.statement_timeout,
        "lock_timeout": settings.lock_timeout,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout,
    }
    for name, seconds in expected.items():
        milliseconds = round(seconds * 1000)
        if name in in_effect and _number(in_effect, name) != milliseconds:
            effect = f"APP_DATABASE_* says {seconds:g} s, which is {milliseconds}"
            yield Interference(name, in_effect[name], effect, wanted=f"{milliseconds}")
    if _number(in_effect, "transaction_timeout"):
        effect = "the server ends longer transactions, also imports and migrations"
        yield Interference("transaction_timeout", in_effect["transaction_timeout"], effect)
    idle = _number(in_effect, "idle_session_timeout")
    if 0 < idle < _MIN_IDLE_SESSION_MILLISECONDS and not settings.idle_session_timeout:
        effect = "pooled connections are opened again and again"
        yield Interference("idle_session_timeout", in_effect["idle_session_timeout"], effect)


def fix_of(found: Interference, role: str, database: str) -> str:
    """Return the statement that removes *found*; an operator may paste it, so a name cannot end its quotes.

    Args:
        found: The setting.
        role: The name of the role of this session.
        database: The name of the database.
    """
    role, database = (name.replace('"', '""') for name in (role, database))
    if found.name == "server_encoding":
        return "create the database again, with the encoding UTF8"
    if found.wanted:
        return f'ALTER ROLE "{role}" SET {found.name} = {found.wanted}'
    match found.setting.source:
        case "database user":
            return f'ALTER ROLE "{role}" IN DATABASE "{database}" RESET {found.name}'
        case "user":
            return f'ALTER ROLE "{role}" RESET {found.name}'
        case "database":
            return f'ALTER DATABASE "{database}" RESET {found.name}'
        case _:
            return f"reset {found.name} in the parameter group of the cluster, or in postgresql.conf"


def _number(in_effect: Mapping[str, Setting], name: str) -> float:
    return float(in_effect[name].value) if name in in_effect else 0.0
