"""`config.existing_rules`: the keys of a login with a secret, and of a login with IAM."""

from collections.abc import Mapping

import pytest
from environment_files import CLUSTER, DATADOG, EXISTING, EXISTING_VPC, IAM, KEY, SECRET, accepted, problems
from key_values import EXPECTED, TABLES

IN_VPC: Mapping[str, str | None] = {**IAM, **EXISTING_VPC, "existing.security_group_id": '"sg-12345678"'}
IN_VPC = {**IN_VPC, "network.availability_zones": '["eu-central-1a", "eu-central-1b"]'}


def test_iam_needs_neither_a_vpc_nor_a_secret() -> None:
    """Host, name, user and resource id are enough; the port is that of PostgreSQL, and the server is verified."""
    config = accepted(IAM)

    assert config.network is None
    assert config.existing is not None
    assert (config.existing.port, config.existing.effective_sslmode) == (5432, "verify-full")
    assert accepted(IAM, {key: value for key, value in DATADOG.items() if key.startswith("datadog")}).datadog


def test_iam_in_a_vpc_is_accepted() -> None:
    """A cluster in a VPC, and RDS Proxy, have their network and security group."""
    proxy = {
        "existing.host": '"d.proxy-abc.eu-central-1.rds.amazonaws.com"',
        "existing.resource_id": '"prx-0123456789abcdef0"',
    }
    for changes in ({}, proxy):
        network = accepted(IN_VPC, changes).network
        assert network is not None
        assert network.vpc_id == "vpc-12345678"


@pytest.mark.parametrize("key", ["secret_arn", "security_group_id"])
def test_a_login_with_a_secret_needs_it(key: str) -> None:
    """Without the key, the message names the other way to log in; a login with IAM needs no network either."""
    assert problems(EXISTING, {f"existing.{key}": None}) == (
        f'existing.{key} is missing: expected {EXPECTED[f"existing.{key}"]}, unless existing.auth is "iam"',
    )


@pytest.mark.parametrize("key", ["user", "resource_id"])
def test_a_login_with_iam_needs_its_keys(key: str) -> None:
    """Without a user or a resource id, there is nothing to allow."""
    assert problems(IAM, {f"existing.{key}": None}) == (
        f'existing.{key} is missing: expected {EXPECTED[f"existing.{key}"]}, because existing.auth is "iam"',
    )


@pytest.mark.parametrize(("key", "value"), [("secret_arn", f'"{SECRET}"'), ("secret_key_arn", f'"{KEY}"')])
def test_iam_with_a_secret_is_refused(key: str, value: str) -> None:
    """A secret would have no effect; one message names the key, its state and the fix."""
    assert problems(IAM, {f"existing.{key}": value}) == (
        (
            f'existing.{key} is set: expected only if existing.auth is "secret"; remove it, because a login with IAM '
            "has no password"
        ),
    )


@pytest.mark.parametrize("key", ["user", "resource_id"])
def test_a_secret_with_a_key_of_iam_is_refused(key: str) -> None:
    """A user would have no effect, because the secret has one."""
    value = IAM[f"existing.{key}"]

    assert problems(EXISTING, {f"existing.{key}": value}) == (
        f'existing.{key} is {value}: expected only if existing.auth is "iam"',
    )


@pytest.mark.parametrize("key", ["host", "reader_host"])
@pytest.mark.parametrize("host", ["db.example.org", "d.cluster-custom-abc.eu-central-1.rds.amazonaws.com", "10.0.0.1"])
def test_iam_needs_the_endpoint_itself(key: str, host: str) -> None:
    """The signature of a token covers the name of the endpoint, so an alias of it cannot be used."""
    changes = {f"existing.{key}": f'"{host}"', "existing.sslmode": '"require"'}

    assert problems(IAM, changes) == (
        (
            f'existing.{key} is "{host}": expected an endpoint of the cluster, an instance or a proxy if existing.auth '
            'is "iam", because RDS accepts no token for an alias or a custom endpoint'
        ),
    )


def test_the_reader_endpoint_is_another_host() -> None:
    """The package refuses the same host twice; this applies to a login with a secret too."""
    for kind in (IAM, EXISTING):
        host = kind["existing.host"]
        assert problems(kind, {"existing.reader_host": host}) == (
            f"existing.reader_host is {host}: expected another host than existing.host",
        )


def test_the_resource_id_belongs_to_the_host() -> None:
    """The permission names the proxy if there is one, and else the cluster."""
    host = {"existing.host": '"d.proxy-abc.eu-central-1.rds.amazonaws.com"'}
    cluster = '"cluster-ABCDEFGHIJKL01234"'

    assert problems(IN_VPC, host) == (
        (f"existing.resource_id is {cluster}: expected prx-…, because existing.host is an endpoint of RDS Proxy"),
    )
    assert problems(IN_VPC, {"existing.resource_id": '"prx-1"'}) == (
        (
            'existing.resource_id is "prx-1": expected cluster-… or db-…, because existing.host is no endpoint of RDS '
            "Proxy"
        ),
    )


def test_a_security_group_needs_a_vpc() -> None:
    """Outside of a VPC there are no security groups, and inside the group must be known."""
    assert problems(IN_VPC, {"existing.security_group_id": None}) == (
        (
            f"existing.security_group_id is missing: expected {EXPECTED['existing.security_group_id']}, because "
            "network.vpc_id is set"
        ),
    )
    assert problems(IAM, {"existing.security_group_id": '"sg-12345678"'}) == (
        'existing.security_group_id is "sg-12345678": expected only together with network.vpc_id',
    )


def test_only_iam_may_leave_the_network_out() -> None:
    """Every other environment needs the table; a table without a VPC is refused with both ways out."""
    network = {key: None for key in {**EXISTING, **CLUSTER} if key.startswith("network")}
    missing = f"network is missing: expected {TABLES['network']}"

    assert problems(EXISTING, network) == (missing,)
    assert problems(CLUSTER, network) == (missing,)
    assert problems(IAM, {"network.availability_zones": '["eu-central-1a", "eu-central-1b"]'}) == (
        (
            "network.vpc_id is missing: expected the VPC of the existing database, or no table [network] for a "
            "database that is reached without a VPC"
        ),
    )
