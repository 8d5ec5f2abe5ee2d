"""The settings of the server, the database and the role that interfere with the service."""

from collections.abc import Iterator, Mapping

from sqlalchemy import text

from registration_persistence.cli.doctor.check import Check, failed, listed, ok, warning
from registration_persistence.cli.doctor.facts import Facts
from registration_persistence.database import DatabaseSettings
from registration_persistence.light_dataclass import dataclass
from registration_persistence.schema.login_settings import unsuitable_settings

NAME = "settings"

_MIN_IDLE_SESSION_SECONDS = 60

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
        breaks: Whether the service fails or loses its guarantees, instead of being slower or less safe.
    """

    name: str
    setting: Setting
    effect: str
    breaks: bool = False


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
    fixes += list(dict.fromkeys(_fix(each, server.current_user, server.database) for each in found))
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
    rules: tuple[tuple[str, bool, str, bool], ...] = (
        (
            "session_replication_role",
            _is(in_effect, "session_replication_role", "replica"),
            "no trigger runs, so the event log is not protected",
            True,
        ),
        (
            "server_encoding",
            not _is(in_effect, "server_encoding", "UTF8"),
            "names and addresses cannot be stored; create the database with UTF8",
            True,
        ),
        ("client_encoding", not _is(in_effect, "client_encoding", "UTF8"), "text is not read correctly", True),
        (
            "synchronous_commit",
            _is(in_effect, "synchronous_commit", "off"),
            "a crash of the server loses sign-ups that were confirmed",
            False,
        ),
        ("row_security", _is(in_effect, "row_security", "off"), "a query of a table with policies fails", False),
        (
            "default_transaction_isolation",
            not _is(in_effect, "default_transaction_isolation", "read committed"),
            "concurrent sign-ups raise TransactionConflict",
            False,
        ),
        (
            "transaction_timeout",
            _number(in_effect, "transaction_timeout") > 0,
            "the server ends longer transactions, also imports and migrations",
            False,
        ),
        (
            "idle_session_timeout",
            0 < _number(in_effect, "idle_session_timeout") < _MIN_IDLE_SESSION_SECONDS * 1000
            and not settings.idle_session_timeout,
            "pooled connections are opened again and again",
            False,
        ),
        (
            "jit",
            _is(in_effect, "jit", "on") and _number(in_effect, "jit_above_cost") < _MIN_JIT_COST,
            "short statements are compiled first; jit_above_cost is low",
            False,
        ),
    )
    for name, interferes, effect, breaks in rules:
        if name in in_effect and interferes:
            yield Interference(name, in_effect[name], effect, breaks)
    yield from _other_time_limits(in_effect, settings)


def _other_time_limits(in_effect: Mapping[str, Setting], settings: DatabaseSettings) -> Iterator[Interference]:
    """Yield the time limits that are not those of the package, as with a pooler, which does not pass them on."""
    expected = {
        "statement_timeout": settings.statement_timeout,
        "lock_timeout": settings.lock_timeout,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout,
    }
    for name, seconds in expected.items():
        if _number(in_effect, name) != round(seconds * 1000):
            effect = f"APP_DATABASE_* says {seconds:g} s, in milliseconds {round(seconds * 1000)}"
            yield Interference(name, in_effect[name], effect)


def _fix(found: Interference, role: str, database: str) -> str:
    match found.setting.source:
        case "database user":
            return f'ALTER ROLE "{role}" IN DATABASE "{database}" RESET {found.name}'
        case "user":
            return f'ALTER ROLE "{role}" RESET {found.name}'
        case "database":
            return f'ALTER DATABASE "{database}" RESET {found.name}'
        case "default" | "client" | "session":
            return f'ALTER ROLE "{role}" SET {found.name} = …, see docs/configuration.md'
        case _:
            return f"reset {found.name} in the parameter group of the cluster, or in postgresql.conf"


def _is(in_effect: Mapping[str, Setting], name: str, value: str) -> bool:
    return name in in_effect and in_effect[name].value.lower() == value.lower()


def _number(in_effect: Mapping[str, Setting], name: str) -> float:
    return float(in_effect[name].value) if name in in_effect else 0.0
