"""`endpoint_region`: the region of an endpoint of Amazon RDS, which is part of its name."""

import re

from registration_persistence.database.certificates import is_rds_host

# In most partitions the region is before `rds`, in China it may be behind it.
_REGION = r"[a-z]+(?:-[a-z]+)+-\d+"
_ENDPOINT = re.compile(
    rf"[a-z0-9-]+\.(?:[a-z0-9-]+\.)+(?:(?P<before>{_REGION})\.rds\.|rds\.(?P<behind>{_REGION})\.)[a-z0-9.-]+", re.ASCII
)

_CUSTOM_ENDPOINT = re.compile(r"\A[a-z0-9-]+\.cluster-custom-", re.ASCII)


def endpoint_region(host: str) -> str | None:
    """Return the AWS region in the name of an endpoint of RDS; `None` for every other host.

    Args:
        host: A host name, in any case, also with a dot at its end.
    """
    match = _ENDPOINT.fullmatch(host.lower().removesuffix(".")) if is_rds_host(host) else None
    return (match["before"] or match["behind"]) if match else None


def is_custom_endpoint(host: str) -> bool:
    """Return whether *host* is a custom endpoint of a cluster, for which RDS accepts no token of IAM."""
    return _CUSTOM_ENDPOINT.search(host.lower()) is not None
