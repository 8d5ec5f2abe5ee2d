"""What each key of an environment file may be, alone and together with the others."""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from ipaddress import IPv4Network
from typing import Any, NamedTuple

from registration_infra.budget import MOST_CONNECTIONS_EACH, RESERVED, connections_of, max_connections

ENVIRONMENTS = ("dev", "staging", "prod")

_LARGEST_CAPACITY = 256
_SHORTEST_RETENTION_IN_PROD = 7
_FEWEST_ZONES, MOST_ZONES = 2, 4
# NAMEDATALEN - 1: PostgreSQL cuts longer identifiers.
_LONGEST_NAME = 63
# Aurora PostgreSQL versions from which capacity 0 is known, by major version; later majors know it from the start.
_FIRST_TO_PAUSE = {15: 7, 16: 3}
# What a VPC may be: AWS takes networks of /16 to /28, and four subnets must fit.
_VPC_SIZES = range(16, 25)
_LONGEST_SHOWN = 200
# No number of TOML has more.
_BITS = 64


class Key(NamedTuple):
    """Which values a key may have, as a test and in words, and whether a file may leave it out."""

    accepts: Callable[[Any], bool]
    expected: str
    required: bool = False


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    # `type` and not `isinstance`: to Python, true and false are whole numbers too.
    return lambda value: type(value) is int and least <= value <= most


def _capacity(least: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and least <= value <= _LARGEST_CAPACITY and value % 0.5 == 0


def _text(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII | re.DOTALL) is not None


def _one_of(*values: object) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, str) and value in values


def _several(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list | tuple)
        and _FEWEST_ZONES <= len(value) <= MOST_ZONES
        and all(accepts(each) for each in value)
        and len(set(value)) == len(value)
    )


def _name(value: object) -> bool:
    # Neither NUL nor half a character can be sent to PostgreSQL.
    if not isinstance(value, str) or re.fullmatch(r"[^\0\ud800-\udfff]+", value) is None:
        return False
    return len(value.encode()) <= _LONGEST_NAME


def _cidr(value: object) -> bool:
    try:
        network = IPv4Network(value) if isinstance(value, str) else None
    except ValueError:
        return False
    # Written back, as Python also reads 10.0.0.0/255.255.0.0.
    return network is not None and str(network) == value and network.prefixlen in _VPC_SIZES


_REGION = r"[a-z]{2}(-[a-z]+)+-\d"
_FLAG = Key(_flag, "true or false")
_ACCOUNT = Key(_text(r"\d{12}"), "the 12 digits of an AWS account, in quotes")
_SECURITY_GROUP = Key(_text(r"sg-[0-9a-f]{8,17}"), "a security group's id, sg-…")
_SECRET_ARN = Key(
    _text(rf"arn:(aws|aws-cn|aws-us-gov):secretsmanager:{_REGION}:\d{{12}}:secret:[\w/+=.@-]+"),
    "arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME, in partition aws, aws-cn or aws-us-gov",
)
_KEY_ARN = Key(_text(rf"arn:aws[a-z-]*:kms:{_REGION}:\d{{12}}:key/[\w-]+"), "arn:PARTITION:kms:REGION:ACCOUNT:key/ID")
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
_SHORT_RETENTIONS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731)
_LONG_RETENTIONS = (1096, 1827, 2192, 2557, 2922, 3288, 3653)
LOG_RETENTIONS = _SHORT_RETENTIONS + _LONG_RETENTIONS

TOP: Mapping[str, Key] = {
    "provision_aurora": _FLAG._replace(required=True),
    "account": _ACCOUNT._replace(required=True),
    "region": Key(_text(rf"(?!cn-){_REGION}"), "an AWS region outside China, such as eu-central-1", required=True),
    "log_retention_days": Key(
        _one_of(*LOG_RETENTIONS), f"a number of days that CloudWatch Logs takes: {', '.join(map(str, LOG_RETENTIONS))}"
    ),
}
"""The keys above the tables."""

TABLES: Mapping[str, Mapping[str, Key]] = {
    "network": {
        "availability_zones": Key(
            _several(_text(rf"{_REGION}[a-z]")),
            "a list of two to four different zones, such as eu-central-1a",
            required=True,
        ),
        "cidr": Key(_cidr, "an IPv4 network of /16 to /24, such as 10.0.0.0/16"),
        "nat_gateways": Key(_whole(0, MOST_ZONES), f"a whole number, 0 to {MOST_ZONES}"),
        "vpc_id": Key(_text(r"vpc-[0-9a-f]{8,17}"), "a VPC's id, vpc-…"),
        "subnet_ids": Key(
            _several(_text(r"subnet-[0-9a-f]{8,17}")), "a list of different subnets' ids, subnet-…, one for each zone"
        ),
        "secrets_endpoint_security_group_id": _SECURITY_GROUP,
    },
    "aurora": {
        "database_name": Key(
            _text(r"[A-Za-z][A-Za-z0-9_]{0,62}"),
            "a letter, then up to 62 letters, digits or underscores",
            required=True,
        ),
        "deletion_protection": _FLAG._replace(required=True),
        "force_ssl": _FLAG._replace(required=True),
        "engine_version": Key(
            _text(r"1[5-8]\.(0|[1-9]\d?)"), "MAJOR.MINOR of Aurora PostgreSQL 15 to 18, such as 16.13"
        ),
        "min_capacity": Key(_capacity(0), f"0 to {_LARGEST_CAPACITY} ACU in steps of 0.5"),
        "max_capacity": Key(_capacity(1), f"1 to {_LARGEST_CAPACITY} ACU in steps of 0.5"),
        "auto_pause_seconds": Key(_whole(300, 86400), "a whole number of seconds, 300 to 86400"),
        "readers": Key(_whole(0, 15), "a whole number, 0 to 15"),
        "removal": Key(_one_of("snapshot", "destroy"), '"snapshot" or "destroy"'),
        "backup_retention_days": Key(_whole(1, 35), "a whole number of days, 1 to 35"),
        "retention_reason": Key(_text(r".*\S.*"), "a sentence in quotes"),
        "rotation": Key(_one_of("alternating", "single"), '"alternating" or "single"'),
        "rotation_days": Key(_whole(1, 999), "a whole number of days, 1 to 999"),
        "proxy": _FLAG,
        "slow_query_ms": Key(_whole(-1, 60_000), "milliseconds, 0 to 60000, or -1 for never"),
        "performance_insights": _FLAG,
    },
    "existing": {
        "host": Key(_text(r"[A-Za-z0-9_.:-]+"), "one host name or IP address", required=True),
        "port": Key(_whole(1, 65535), "a whole number, 1 to 65535", required=True),
        "name": Key(_name, f"the name of the database, 1 to {_LONGEST_NAME} octets", required=True),
        "secret_arn": _SECRET_ARN._replace(required=True),
        "secret_key_arn": _KEY_ARN,
        "security_group_id": _SECURITY_GROUP._replace(required=True),
    },
    "backup": {
        "central_account": _ACCOUNT,
        "own_plan": _FLAG,
        "own_plan_retention_days": Key(_whole(1, 36_500), "a whole number of days, 1 to 36500"),
        "copy_to_vault_arn": Key(
            _text(rf"arn:aws[a-z-]*:backup:{_REGION}:\d{{12}}:backup-vault:[\w-]{{2,50}}"),
            "arn:PARTITION:backup:REGION:ACCOUNT:backup-vault:NAME",
        ),
    },
    "application": {
        "reserved_concurrency": Key(_whole(1, 1000), "a whole number, 1 to 1000"),
        "connections": Key(_whole(1, MOST_CONNECTIONS_EACH), f"a whole number, 1 to {MOST_CONNECTIONS_EACH}"),
    },
    "alarms": {
        "email": Key(_text(r"[^\s@]+@[^\s@]+"), "one mailbox, such as name@example.org"),
    },
    "datadog": {
        "site": Key(_text(r"(\w+\.)?(datadoghq|ddog-gov)\.\w+"), "a Datadog site, such as datadoghq.eu", required=True),
        "api_key_secret_arn": _SECRET_ARN._replace(required=True),
        "python_layer_version": Key(_whole(1, 10_000), "the version of the Datadog-Python layer, 1 to 10000"),
        "extension_layer_version": Key(_whole(1, 10_000), "the version of the Datadog-Extension layer, 1 to 10000"),
        "database_monitoring": _FLAG,
    },
}
"""The keys of each table, and what AWS accepts.

Source: in the Amazon RDS API Reference, `ServerlessV2ScalingConfiguration` for the capacities and the pause,
`CreateDBCluster` for the retention and `CreateDBInstance` for the name. The least maximum of 1 ACU is in the Aurora
User Guide, https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-serverless-v2.setting-capacity.html.
"""


def problems_of(environment: str, values: Mapping[str, Any], *, defaults: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with an environment.

    Args:
        environment: Its name.
        values: What its file holds.
        defaults: By table, what holds for keys that the file leaves out.
    """
    if environment not in ENVIRONMENTS:
        yield f"the environment is named {shown(environment)}: expected one of {', '.join(ENVIRONMENTS)}"
    yield from _unknown_problems((*TOP, *TABLES), values)
    yield from _table_problems(TOP, values)
    provision = values.get("provision_aurora")
    # Without an answer, what the file holds tells which of the two it was meant to be.
    aurora = provision if isinstance(provision, bool) else "existing" not in values
    needed, unwanted = ("aurora", "existing") if aurora else ("existing", "aurora")
    if unwanted in values:
        wanted = "false" if aurora else "true"
        yield f"{unwanted} is set: expected only where provision_aurora is {wanted}"
    for table in TABLES:
        if table != unwanted and (table in values or table in ("network", needed)):
            yield from _problems_of_table(table, values)
    holds = {table: _holding(keys, values.get(table, {}), defaults[table]) for table, keys in TABLES.items()}
    yield from _network_problems(values, holds["network"], aurora=aurora)
    if aurora:
        yield from _aurora_problems(environment, values.get("aurora"), holds["aurora"], holds["application"])
    else:
        yield from _existing_problems(holds)
    yield from _backup_problems(holds["backup"])


def shown(value: object) -> str:
    """Return *value* as TOML writes it, or nearly so; what is nested may hold a password, and is only named."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        nested = any(isinstance(each, Mapping | list | tuple) for each in value)
        text = "a list of tables or lists" if nested else f"[{', '.join(map(shown, value))}]"
    elif isinstance(value, bool | str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, int) and value.bit_length() > _BITS:
        return f"a number of more than {_BITS} bits"  # which Python may refuse to write
    else:
        text = str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _problems_of_table(table: str, values: Mapping[str, Any]) -> Iterator[str]:
    keys = TABLES[table]
    required = ", ".join(key for key, rule in keys.items() if rule.required)
    expected = f"a table [{table}]" + (f" with {required}" if required else "")
    if table not in values:
        yield f"{table} is missing: expected {expected}"
    elif not isinstance(values[table], Mapping):
        yield f"{table} is {shown(values[table])}: expected {expected}"
    else:
        yield from _unknown_problems(keys, values[table], table=f"{table}.")
        yield from _table_problems(keys, values[table], table=f"{table}.")


def _table_problems(keys: Mapping[str, Key], values: Mapping[str, Any], *, table: str = "") -> Iterator[str]:
    for key, (accepts, expected, required) in keys.items():
        if key in values and not accepts(values[key]):
            yield f"{table}{key} is {shown(values[key])}: expected {expected}"
        elif key not in values and required:
            yield f"{table}{key} is missing: expected {expected}"


def _unknown_problems(known: Collection[str], values: Mapping[str, Any], *, table: str = "") -> Iterator[str]:
    for key in values:
        if key not in known:
            # In quotes where TOML has them, so that a key with a line break cannot pass for a message.
            name = key if re.fullmatch(r"[\w-]{1,63}", str(key), re.ASCII) else shown(key)
            # Without the value, which may be a password out of place.
            yield f"{table}{name} is not a key: expected one of {', '.join(table + each for each in known)}"


def _network_problems(values: Mapping[str, Any], network: Mapping[str, Any], *, aurora: bool) -> Iterator[str]:
    given = values.get("network")
    if not isinstance(given, Mapping):
        return
    yield from _zone_problems(values.get("region"), network)
    if "vpc_id" in given:
        yield from _problems_of_existing_vpc(given, network, aurora=aurora)
        return
    if not aurora:
        yield "network.vpc_id is missing: expected the VPC of the existing database, as provision_aurora is false"
    elif "subnet_ids" in given:
        yield "network.vpc_id is missing: expected it together with network.subnet_ids"
    elif isinstance(values.get("datadog"), Mapping) and network.get("nat_gateways") == 0:
        yield "network.nat_gateways is 0: expected 1 or more with datadog, whose extension needs a way to the internet"
    if "secrets_endpoint_security_group_id" in given:
        yield "network.secrets_endpoint_security_group_id is set: expected only together with network.vpc_id"


def _zone_problems(region: Any, network: Mapping[str, Any]) -> Iterator[str]:
    zones, gateways = network.get("availability_zones"), network.get("nat_gateways", 0)
    if zones and TOP["region"].accepts(region):
        for zone in zones:
            if zone[:-1] != region:
                yield f"network.availability_zones has {shown(zone)}: expected zones of {region}"
    if zones and gateways > len(zones):
        yield f"network.nat_gateways is {gateways}: expected {len(zones)} or fewer, one for each zone"


def _problems_of_existing_vpc(given: Mapping[str, Any], network: Mapping[str, Any], *, aurora: bool) -> Iterator[str]:
    zones, subnets = network.get("availability_zones"), network.get("subnet_ids")
    if "subnet_ids" not in given:
        yield "network.subnet_ids is missing: expected it together with network.vpc_id"
    elif subnets and zones and len(subnets) != len(zones):
        yield f"network.subnet_ids has {len(subnets)} subnets: expected one for each of the {len(zones)} zones"
    if network.get("nat_gateways"):
        yield f"network.nat_gateways is {network['nat_gateways']}: expected 0 together with network.vpc_id"
    if aurora and "secrets_endpoint_security_group_id" not in given:
        yield (
            "network.secrets_endpoint_security_group_id is missing: expected the group of the endpoint for Secrets "
            "Manager in network.vpc_id, as one made here would answer for all that is there, and let in only our own"
        )


def _aurora_problems(
    environment: str, given: Any, aurora: Mapping[str, Any], application: Mapping[str, Any]
) -> Iterator[str]:
    if not isinstance(given, Mapping):
        return
    yield from _capacity_problems(given, aurora)
    yield from _version_problems(aurora)
    yield from _proxy_problems(aurora)
    yield from _budget_problems(aurora, application)
    if environment == "prod":
        yield from _production_problems(aurora)


def _capacity_problems(given: Mapping[str, Any], aurora: Mapping[str, Any]) -> Iterator[str]:
    least, most = aurora.get("min_capacity"), aurora.get("max_capacity")
    if least is None:
        return
    if most is not None and least > most:
        yield f"aurora.min_capacity is {shown(least)}: expected aurora.max_capacity, {shown(most)}, or less"
    if least == 0 and "auto_pause_seconds" not in given:
        expected = TABLES["aurora"]["auto_pause_seconds"].expected
        yield f"aurora.auto_pause_seconds is missing: expected {expected}, as aurora.min_capacity is 0"
    elif least and "auto_pause_seconds" in given:
        yield (
            f"aurora.auto_pause_seconds is {shown(given['auto_pause_seconds'])}: "
            f"expected only where aurora.min_capacity is 0, and it is {shown(least)}"
        )


def _version_problems(aurora: Mapping[str, Any]) -> Iterator[str]:
    version = aurora.get("engine_version")
    if version is None or aurora.get("min_capacity") != 0:
        return
    major, minor = map(int, version.split("."))
    if minor < _FIRST_TO_PAUSE.get(major, 0):
        yield (
            f"aurora.engine_version is {shown(version)}: "
            f"expected {major}.{_FIRST_TO_PAUSE[major]} or later where aurora.min_capacity is 0"
        )


def _proxy_problems(aurora: Mapping[str, Any]) -> Iterator[str]:
    if aurora.get("proxy") and aurora.get("rotation") == "alternating":
        yield (
            'aurora.rotation is "alternating": expected "single" where aurora.proxy is true, '
            "as RDS Proxy knows only the user of the current version"
        )
    if aurora.get("proxy") and aurora.get("min_capacity") == 0:
        yield "aurora.min_capacity is 0: expected 0.5 or more where aurora.proxy is true, which prevents the pause"


def _budget_problems(aurora: Mapping[str, Any], application: Mapping[str, Any]) -> Iterator[str]:
    # A wrong value has been named already, and no sum can be made of it.
    if not aurora.keys() >= {"min_capacity", "max_capacity", "proxy"}:
        return
    if not application.keys() >= {"reserved_concurrency", "connections"}:
        return
    least, most = aurora["min_capacity"], aurora["max_capacity"]
    concurrency, each = application["reserved_concurrency"], application["connections"]
    # The proxy shares its connections, and keeps to the limit by itself.
    if aurora["proxy"] or least > most:
        return
    limit, needed = max_connections(least, most), connections_of(concurrency, each) + RESERVED
    if needed > limit:
        yield (
            f"application.reserved_concurrency is {concurrency}: expected {(limit - RESERVED) // each} or less, as "
            f"{concurrency} x {each} + {RESERVED} in reserve = {needed} connections, and "
            f"{shown(least)} to {shown(most)} ACU allow {limit}"
        )


def _production_problems(aurora: Mapping[str, Any]) -> Iterator[str]:
    for key in ("force_ssl", "deletion_protection"):
        if aurora.get(key) is False:
            yield f"aurora.{key} is false: expected true in prod"
    if aurora.get("removal") == "destroy":
        yield 'aurora.removal is "destroy": expected "snapshot" in prod'
    days = aurora.get("backup_retention_days", _SHORTEST_RETENTION_IN_PROD)
    if days < _SHORTEST_RETENTION_IN_PROD and aurora.get("retention_reason") is None:
        yield (
            f"aurora.backup_retention_days is {days}: expected {_SHORTEST_RETENTION_IN_PROD} or more in prod, "
            "or an aurora.retention_reason that says why fewer are enough"
        )


def _existing_problems(holds: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    # Each would have no effect, and somebody would count on it.
    for table, key in (("backup", "central_account"), ("backup", "own_plan"), ("alarms", "email")):
        if holds[table].get(key):
            yield f"{table}.{key} is {shown(holds[table][key])}: expected only where provision_aurora is true"


def _backup_problems(backup: Mapping[str, Any]) -> Iterator[str]:
    if backup.get("copy_to_vault_arn") is not None and backup.get("own_plan") is False:
        yield "backup.copy_to_vault_arn is set: expected only where backup.own_plan is true"


def _holding(keys: Mapping[str, Key], values: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    # What holds: neither a wrong value nor, in its place, a default that the file does not have.
    if not isinstance(values, Mapping):
        return {}
    given = {key: values[key] for key, rule in keys.items() if key in values and rule.accepts(values[key])}
    return {key: value for key, value in defaults.items() if key not in values} | given
