"""`config.tls_rules`: the package verifies only servers whose root certificate it contains."""

from pathlib import Path
from typing import Literal

import pytest
from environment_files import CLUSTER, EXISTING, SECRET, accepted, problems
from registration_infra.config.endpoints import is_host, is_rds_proxy
from registration_infra.config.root_certificates import lacks_certificate_for_host

from registration_persistence import DatabaseSettings
from registration_persistence.errors import ConfigurationError

PACKAGE = Path(__file__).parents[4] / "src" / "registration_persistence"
# Amazon publishes no certificate for this region, so none is ever shipped.
REGION = "xx-nowhere-1"
HOSTS = [
    "d.cluster-abc.eu-central-1.rds.amazonaws.com",
    "d.cluster-ro-abc.us-east-1.rds.amazonaws.com",
    "D.CLUSTER-ABC.EU-CENTRAL-1.RDS.AMAZONAWS.COM",
    "d-writer.abc.eu-central-1.rds.amazonaws.com",
    "d.proxy-abc.eu-central-1.rds.amazonaws.com",
    "read.endpoint.proxy-abc.eu-central-1.rds.amazonaws.com",
    f"d.cluster-abc.{REGION}.rds.amazonaws.com",
    "d.cluster-abc.us-gov-west-1.rds.amazonaws.com",
    "d.cluster-abc.cn-north-1.rds.amazonaws.com.cn",
    "d.proxy-abc.cn-north-1.rds.amazonaws.com.cn",
    "d.cluster-abc.us-iso-east-1.rds.c2s.ic.gov",
    "d.cluster-abc.eusc-de-east-1.rds.amazonaws.eu",
    "db.example.org",
    "rds.amazonaws.com",
    "10.0.0.1",
]


def is_verified(host: str) -> bool:
    """Return whether the package contains the root certificate of *host*."""
    try:
        settings(host, "verify-full")
    except ConfigurationError:
        return False
    return True


def settings(host: str, sslmode: Literal["verify-full", "require"]) -> DatabaseSettings:
    """Return the settings of the package for a database at *host*."""
    return DatabaseSettings(host=host, name="registrations", sslmode=sslmode, secret_arn=SECRET)


def zones(region: str) -> dict[str, str | None]:
    """Return the keys of an environment in *region*."""
    return {"region": f'"{region}"', "network.availability_zones": f'["{region}a", "{region}b"]'}


def test_a_cluster_needs_a_shipped_root_certificate() -> None:
    """Without one, the functions would reject their settings; the message names two ways out."""
    assert problems(CLUSTER, zones(REGION)) == (
        (
            f'region is "{REGION}": no root certificate for it is shipped with the package, and '
            f'aurora.sslmode = "verify-full" needs one; save '
            f"https://truststore.pki.rds.amazonaws.com/{REGION}/{REGION}-bundle.pem as "
            f"src/registration_persistence/database/certificates/{REGION}.pem, "
            'or set aurora.sslmode = "require", which encrypts without verifying the server'
        ),
    )
    config = accepted(CLUSTER, zones(REGION), {"aurora.sslmode": '"require"'})
    assert config.aurora is not None
    assert config.aurora.sslmode == "require"


@pytest.mark.parametrize("region", ["mx-central-1", "ap-southeast-7", "us-gov-east-1", "us-gov-west-1"])
def test_regions_without_a_certificate_are_reported(region: str) -> None:
    """The answer is that of the files of the package: a region is reported if it has none."""
    if (PACKAGE / "database" / "certificates" / f"{region}.pem").exists():
        assert accepted(CLUSTER, zones(region)).region == region
    else:
        (problem,) = problems(CLUSTER, zones(region))
        assert f"/{region}/{region}-bundle.pem" in problem


def test_govcloud_has_its_own_trust_store() -> None:
    """The bundles of GovCloud are on a host of their own."""
    changes = zones("us-gov-nowhere-1")

    (problem,) = problems(CLUSTER, changes)

    assert "https://truststore.pki.us-gov-nowhere-1.rds.amazonaws.com/us-gov-nowhere-1/" in problem


def test_every_shipped_region_is_accepted() -> None:
    """A cluster is verified in each region whose root certificate the package contains."""
    regions = {file.stem for file in (PACKAGE / "database" / "certificates").glob("*-*-*.pem")}

    assert "eu-central-1" in regions
    for region in regions:
        assert accepted(CLUSTER, zones(region)).region == region


def test_an_invalid_region_gives_no_second_problem() -> None:
    """The certificate of an invalid region is not reported."""
    (problem,) = problems(CLUSTER, {"region": '"mars"'})

    assert problem.startswith('region is "mars": expected')


@pytest.mark.parametrize("host", HOSTS)
def test_package_and_infrastructure_know_the_same_certificates(host: str) -> None:
    """Both sides find a root certificate for the same hosts."""
    assert is_verified(host) != lacks_certificate_for_host(host)


@pytest.mark.parametrize("host", HOSTS)
def test_accepted_existing_databases_are_valid_settings(host: str) -> None:
    """A host without a certificate needs one, or `require`; both give settings that the package accepts."""
    changes = {"existing.host": f'"{host}"', "existing.sslmode": None}
    if not is_verified(host):
        place = "its region" if ".rds." in host else "it"
        (problem,) = problems(EXISTING, changes)
        assert problem == (
            f'existing.host is "{host}": no root certificate for {place} is shipped with the package, and '
            'existing.sslmode = "verify-full", which is the default, needs one; set existing.ssl_root_cert to the path '
            'of a PEM file in the functions, or set existing.sslmode = "require", which encrypts without verifying '
            "the server"
        )
        with_file = accepted(EXISTING, changes, {"existing.ssl_root_cert": '"/var/task/root.pem"'}).existing
        assert with_file is not None
        assert with_file.effective_sslmode == "verify-full"
        changes["existing.sslmode"] = '"require"'
    existing = accepted(EXISTING, changes).existing
    assert existing is not None

    accepted_settings = settings(existing.host, existing.effective_sslmode)

    assert (accepted_settings.root_certificate is None) == (existing.effective_sslmode == "require")
    assert existing.is_proxy == is_rds_proxy(host) == (".proxy-" in host)


def test_another_host_cannot_be_verified_without_a_file() -> None:
    """For a host outside of RDS, `verify-full` needs a file, because the package has no certificate for it."""
    verified = {"existing.sslmode": '"verify-full"'}

    (problem,) = problems(EXISTING, verified)

    assert 'existing.sslmode = "verify-full" needs one; set existing.ssl_root_cert to the path' in problem
    existing = accepted(EXISTING, verified, {"existing.ssl_root_cert": '"/opt/root.pem"'}).existing
    assert existing is not None
    assert existing.ssl_root_cert == "/opt/root.pem"


def test_a_file_without_verification_is_refused() -> None:
    """With `require` no certificate is verified, so the file would have no effect."""
    assert problems(EXISTING, {"existing.ssl_root_cert": '"/opt/root.pem"'}) == (
        'existing.ssl_root_cert is set: expected only if existing.sslmode is "verify-full"',
    )


@pytest.mark.parametrize(
    "host",
    ["d", "a.b.", "db_1.example-2.org", "10.0.0.1", "2001:db8::1", "a..b", "-a", "a-", "db:5432", "a b", "", "a" * 64],
)
def test_package_and_infrastructure_accept_the_same_hosts(host: str) -> None:
    """A host that the environment file may contain is a host that the package accepts."""
    try:
        settings(host, "require")
    except ConfigurationError:
        assert not is_host(host)
    else:
        assert is_host(host)
