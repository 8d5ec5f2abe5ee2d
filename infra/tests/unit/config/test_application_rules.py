"""`config.application_rules`: the source of the secret, direct TLS, and SnapStart."""

from collections.abc import Mapping

import pytest
from environment_files import CLUSTER, EXISTING, IAM, PROXY, accepted, problems

EXTENSION: Mapping[str, str | None] = {"application.secret_source": '"extension"'}
DIRECT: Mapping[str, str | None] = {"application.ssl_negotiation": '"direct"'}
SNAP_START: Mapping[str, str | None] = {"application.snap_start": "true"}
IAM_CLUSTER: Mapping[str, str | None] = {**CLUSTER, "aurora.authentication": '"iam"'}
PROXY_HOST: Mapping[str, str | None] = {"existing.host": '"d.proxy-abc.eu-central-1.rds.amazonaws.com"'}
START = 'application.secret_source is "extension": expected "secrets-manager" if'
DIRECT_START = 'application.ssl_negotiation is "direct": expected "postgres" if'
NOTHING_TO_READ = f'{START} {{}} is "iam", because a login with IAM reads no secret'
SNAPSHOT = (
    f"{START} application.snap_start is true, because the snapshot contains the AWS SDK, and the extension could "
    "return the secret of the day of the snapshot"
)


@pytest.mark.parametrize("kind", [CLUSTER, EXISTING, {**CLUSTER, **PROXY}], ids=["cluster", "existing", "proxy"])
def test_each_login_with_a_secret_may_read_it_from_the_extension(kind: Mapping[str, str | None]) -> None:
    """The cluster, its proxy and an existing database have a secret that the extension can read."""
    assert accepted(kind, EXTENSION).application.secret_source == "extension"


@pytest.mark.parametrize(("kind", "key"), [(IAM_CLUSTER, "aurora.authentication"), (IAM, "existing.auth")])
def test_the_extension_needs_a_secret(kind: Mapping[str, str | None], key: str) -> None:
    """A login with IAM reads no secret, so the layer would only make its cold start slower."""
    assert problems(kind, EXTENSION) == (NOTHING_TO_READ.format(key),)
    assert accepted(kind, {"application.secret_source": '"secrets-manager"'}).application.tls_groups == ""


def test_the_extension_is_not_part_of_a_snapshot() -> None:
    """Its cache would be in the snapshot too; both problems of an environment with IAM are reported."""
    assert problems(CLUSTER, EXTENSION, SNAP_START) == (SNAPSHOT,)
    assert problems(EXISTING, EXTENSION, SNAP_START) == (SNAPSHOT,)
    assert problems(IAM, EXTENSION, SNAP_START) == (NOTHING_TO_READ.format("existing.auth"), SNAPSHOT)


@pytest.mark.parametrize("kind", [CLUSTER, IAM_CLUSTER, EXISTING, IAM, {**CLUSTER, **PROXY}])
def test_each_database_may_have_functions_with_snapshots(kind: Mapping[str, str | None]) -> None:
    """SnapStart does not depend on the database or on the login."""
    assert accepted(kind, SNAP_START).application.snap_start


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
