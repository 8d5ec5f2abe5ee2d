"""Names of servers: which are valid, and which are endpoints of RDS."""

import re
from ipaddress import ip_address
from typing import Final

_LABEL: Final = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME: Final = re.compile(rf"(?=.{{1,254}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
# The domains of all partitions, such as rds.amazonaws.com.cn, rds.amazonaws.eu and rds.c2s.ic.gov.
_RDS_SERVER: Final = re.compile(
    r"\.(?:(?P<proxy>proxy)-[a-z0-9]+|[a-z0-9-]+)\.(?P<region>[a-z]+(?:-[a-z]+)+-[0-9]+)\.rds\.(?P<domain>[a-z0-9.-]+)"
)
AMAZONAWS_COM: Final = "amazonaws.com"


def is_host(value: str) -> bool:
    """Return whether *value* is one host name or IP address."""
    try:
        ip_address(value)
    except ValueError:
        return _HOST_NAME.fullmatch(value) is not None
    return True


def is_rds_server(host: str) -> bool:
    """Return whether *host* is an endpoint of a cluster, an instance or a proxy of RDS."""
    return _match(host) is not None


def is_rds_proxy(host: str) -> bool:
    """Return whether *host* is an endpoint of RDS Proxy."""
    match = _match(host)
    return match is not None and match["proxy"] is not None


def region_of_rds_server(host: str) -> tuple[str, str] | None:
    """Return the region and the domain of an endpoint of RDS, or `None` for another host."""
    match = _match(host)
    return None if match is None else (match["region"], match["domain"])


def _match(host: str) -> re.Match[str] | None:
    found = _RDS_SERVER.search(host.lower())
    return found if found and found.end() == len(host) else None
