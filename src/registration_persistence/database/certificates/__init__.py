"""The root certificates of Amazon RDS, one file for each region, so that `verify-full` needs no download.

`FINGERPRINTS` lists the SHA-256 of each certificate with its subject and the day it expires.
"""

import re
from pathlib import Path

from registration_persistence.lazy_pattern import lazy_pattern

_RDS_HOST = lazy_pattern(
    r"\.(?:(?P<proxy>proxy)-[a-z0-9]+|[a-z0-9-]+)\.(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)\.rds\.amazonaws\.com\.?\Z",
    re.ASCII,
)

# The domains of all partitions. In China, the region may stand behind `rds`.
_RDS_DOMAIN = lazy_pattern(
    r"(?:\A|\.)rds\.(?:[a-z0-9-]+\.)?(?:amazonaws\.(?:com(?:\.cn)?|eu)|s?c2s\.(?:ic|sgov)\.gov|csp\.hci\.ic\.gov"
    r"|cloud\.adc-e\.uk)\.?\Z",
    re.ASCII,
)

AMAZON_TRUST_SERVICES = Path(__file__).parent / "rds-proxy.pem"
"""The roots of Amazon Trust Services, which issues the certificates of RDS Proxy and of the services of AWS."""


def root_certificate_for(host: str, *, with_gateway: bool = False) -> Path | None:
    """Return the PEM file with the root certificates for *host*, or `None` if none is shipped.

    The certificate of an Aurora endpoint is signed by the roots of its region, that of an RDS Proxy endpoint by Amazon
    Trust Services. The internet access gateway in front of a cluster with express configuration has a certificate of
    Amazon Trust Services too, and the cluster's endpoint has the same form as every other.

    Args:
        host: The host name.
        with_gateway: Whether the server may be an internet access gateway. Defaults to false.
    """
    match = _RDS_HOST.search(host.lower())
    if match is None:
        return None
    name = "rds-proxy" if match["proxy"] else match["region"]
    folder = Path(__file__).parent
    file = (folder / "with_gateway" if with_gateway and not match["proxy"] else folder) / f"{name}.pem"
    return file if file.is_file() else None


def is_rds_host(host: str) -> bool:
    """Return whether *host* is in a domain of Amazon RDS, also in a region without a shipped certificate."""
    return _RDS_DOMAIN.search(host.lower()) is not None
