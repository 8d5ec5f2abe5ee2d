"""The host name and the port: whether the name resolves, what kind of endpoint it is, and who listens."""

import ipaddress
import re
import socket
from collections.abc import Mapping
from typing import Literal, TypeAlias

from registration_persistence.cli.doctor.check import Check, failed, listed, ok, warning
from registration_persistence.cli.doctor.facts import Facts
from registration_persistence.clock import monotonic
from registration_persistence.database.certificates import is_rds_host
from registration_persistence.database.deadlines import remaining
from registration_persistence.quantities import counted

HOST, READER_HOST, PORT = "host name", "reader host", "port"

EndpointKind: TypeAlias = Literal[
    "cluster endpoint", "reader endpoint", "custom endpoint", "proxy endpoint", "global endpoint", "instance endpoint"
]

_KINDS: Mapping[str, EndpointKind] = {
    "cluster-ro-": "reader endpoint",
    "cluster-custom-": "custom endpoint",
    "cluster-": "cluster endpoint",
    "proxy-": "proxy endpoint",
    "global-": "global endpoint",
}

# The first label is the name of the cluster, the second one tells what it is.
_SECOND_LABEL = re.compile(r"\A[^.]+\.(cluster-ro-|cluster-custom-|cluster-|proxy-|global-)", re.ASCII)

# The time limit at one address: a host answers within milliseconds, also with a refusal.
_MAX_SECONDS_AT_ADDRESS = 2.0

# An operator has to see the refusal before the deadline of the check.
_MARGIN_SECONDS = 0.2

_CLUSTER_FIX = "set APP_DATABASE_HOST to the cluster endpoint, which always leads to the writer"

_PROXY_FIX = "set APP_DATABASE_POOL to proxy, because a proxy keeps neither prepared statements nor startup options"

_SILENCE_FIX = (
    "packets are dropped: open the security group of the cluster for that of this process, and check routes and "
    "network ACLs; a function needs subnets of the VPC"
)


def endpoint_kind(host: str) -> EndpointKind | None:
    """Return the kind of an endpoint of Amazon RDS, which is part of its name; `None` for another host."""
    if not is_rds_host(host):
        return None
    match = _SECOND_LABEL.match(host.lower())
    return _KINDS[match[1]] if match else "instance endpoint"


def host_check(facts: Facts) -> Check:
    """Look up the host name, and judge the kind of endpoint."""
    host = facts.settings.host
    if host.startswith(("/", "@")):
        facts.addresses = ("",)
        return ok(HOST, f"{host} is the folder of a Unix socket")
    addresses = _addresses_of(host)
    if isinstance(addresses, Check):
        return addresses
    facts.addresses = addresses
    described = _description(host, addresses)
    match endpoint_kind(host):
        case "proxy endpoint" if facts.settings.pool != "proxy":
            return warning(HOST, f"{described}; APP_DATABASE_POOL is {facts.settings.pool}", _PROXY_FIX)
        case "instance endpoint":
            return warning(HOST, f"{described}; it does not follow a failover", _CLUSTER_FIX)
        case "reader endpoint" | "custom endpoint":
            return warning(HOST, f"{described}; it may lead to a reader, which accepts no writes", _CLUSTER_FIX)
        case _:
            return ok(HOST, described)


def reader_host_check(facts: Facts) -> Check:
    """Look up the host name of the readers."""
    host = facts.settings.reader_host
    assert host is not None
    addresses = _addresses_of(host, name=READER_HOST)
    if isinstance(addresses, Check):
        return addresses
    described = _description(host, addresses)
    if endpoint_kind(host) in {"instance endpoint", "cluster endpoint"}:
        fix = "set APP_DATABASE_READER_HOST to the reader endpoint, which leads to every reader"
        return warning(READER_HOST, f"{described}; it does not follow a failover", fix)
    return ok(READER_HOST, described)


def port_check(facts: Facts) -> Check:
    """Connect to the port at each address, and close the connection again."""
    settings = facts.settings
    failures = {}
    for number, address in enumerate(facts.addresses):
        share = (remaining() - _MARGIN_SECONDS) / (len(facts.addresses) - number)
        started = monotonic()
        if failure := _failure_at(settings.host, address, settings.port, min(share, _MAX_SECONDS_AT_ADDRESS)):
            failures[address or settings.host] = failure
        milliseconds = (monotonic() - started) * 1000
    if not failures:
        return ok(PORT, f"{settings.port} accepts connections, in {milliseconds:.0f} ms")
    # The next check uses the first address.
    facts.addresses = tuple(sorted(facts.addresses, key=lambda address: (address or settings.host) in failures))
    described = listed(f"{settings.port} at {address} {reason}" for address, (reason, _) in failures.items())
    _, fix = next(iter(failures.values()))
    if len(failures) < len(facts.addresses):
        return warning(PORT, f"{described}; another address answers, so each login tries this one in vain", fix)
    return failed(PORT, described, fix)


def _addresses_of(host: str, *, name: str = HOST) -> tuple[str, ...] | Check:
    # No certificate has the dot at the end of an absolute name, but the look-up takes it.
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return failed(
            name,
            f"{host} does not resolve: {reason}",
            "correct the name; if it is right, the VPC needs enableDnsSupport and enableDnsHostnames, and a new "
            "endpoint needs a minute",
        )
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def _description(host: str, addresses: tuple[str, ...]) -> str:
    if _is_address(host):
        return f"{host} is an IP address"
    kind = endpoint_kind(host)
    described = f"{host} ({kind})" if kind else host
    return f"{described} has {counted(len(addresses), 'address')}: {', '.join(addresses)}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _failure_at(host: str, address: str, port: int, seconds: float) -> tuple[str, str] | None:
    """Return why nobody accepts a connection, and the fix; `None` if somebody does."""
    family, target = (
        (socket.AF_INET6 if ":" in address else socket.AF_INET, (address, port))
        if address
        else (socket.AF_UNIX, f"{host}/.s.PGSQL.{port}")
    )
    try:
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(max(seconds, _MARGIN_SECONDS))
            client.connect(target)
    except TimeoutError:
        return f"is silent: no answer within {seconds:.1f} s", _SILENCE_FIX
    except ConnectionRefusedError:
        return (
            "refuses connections: nothing listens there",
            "correct APP_DATABASE_PORT, or wait until the server is available; see its state in the RDS console",
        )
    except OSError as error:
        return f"cannot be reached: {error.strerror or error}", "check the routes from this process to the address"
    return None
