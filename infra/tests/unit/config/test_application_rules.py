"""`config.application_rules`: direct TLS."""

from collections.abc import Mapping

import pytest
from environment_files import CLUSTER, EXISTING, IAM, PROXY, accepted, problems

DIRECT: Mapping[str, str | None] = {"application.ssl_negotiation": '"direct"'}
PROXY_HOST: Mapping[str, str | None] = {"existing.host": '"d.proxy-abc.eu-central-1.rds.amazonaws.com"'}
DIRECT_START = 'application.ssl_negotiation is "direct": expected "postgres" if'


@pytest.mark.parametrize("version", ["15.18", "16.14"])
def test_direct_tls_needs_version_17(version: str) -> None:
    """An older server closes a connection that begins with TLS."""
    given = {"aurora.engine_version": f'"{version}"'}

    assert problems(CLUSTER, DIRECT, given) == (
        (
            f'{DIRECT_START} aurora.engine_version is "{version}", because PostgreSQL accepts direct TLS from version '
            "17 on"
        ),
    )
    assert accepted(CLUSTER, given, {"application.ssl_negotiation": '"postgres"'}).aurora is not None


@pytest.mark.parametrize("version", ["17.0", "18.4"])
def test_direct_tls_is_accepted_from_version_17_on(version: str) -> None:
    """Each later version accepts it."""
    assert accepted(CLUSTER, DIRECT, {"aurora.engine_version": f'"{version}"'}).application.ssl_negotiation == "direct"


def test_direct_tls_is_refused_behind_a_proxy() -> None:
    """The proxy answers instead of the server; the version of the server does not matter then."""
    refused = f"{DIRECT_START} aurora.proxy is true, because RDS Proxy documents no direct TLS"

    assert problems(CLUSTER, PROXY, DIRECT) == (refused,)
    assert problems(CLUSTER, PROXY, DIRECT, {"aurora.engine_version": '"16.14"'}) == (refused,)
    assert problems(EXISTING, DIRECT, PROXY_HOST) == (
        f"{DIRECT_START} existing.host is an endpoint of RDS Proxy, which documents no direct TLS",
    )


def test_direct_tls_to_an_existing_database_is_accepted() -> None:
    """The file does not contain the version of an existing database."""
    for kind in (EXISTING, IAM):
        assert accepted(kind, DIRECT).application.ssl_negotiation == "direct"
