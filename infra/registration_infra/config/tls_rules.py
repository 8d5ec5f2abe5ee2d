"""Rules for `sslmode`: the package verifies a server only if it contains the root certificate."""

from collections.abc import Iterator

from registration_infra.config.endpoints import is_rds_server
from registration_infra.config.partitions import partition_of
from registration_infra.config.root_certificates import lacks_certificate_for_host, lacks_certificate_for_region
from registration_infra.config.toml_text import toml_text
from registration_infra.config.valid_values import Values

_FOLDER = "src/registration_persistence/database/certificates"


def tls_problems(environment: Values) -> Iterator[str]:
    """Yield the problems of the server's certificate, for the valid values of an environment."""
    if environment["provision_aurora"]:
        yield from _cluster_problems(environment.get("region"), environment.get("aurora"))
    else:
        yield from _existing_problems(environment.get("existing"))


def _cluster_problems(region: str | None, aurora: Values | None) -> Iterator[str]:
    if region is None or aurora is None or aurora.get("sslmode") != "verify-full":
        return
    if lacks_certificate_for_region(region):
        yield (
            f"region is {toml_text(region)}: no root certificate for it is shipped with the package, and "
            f'aurora.sslmode = "verify-full" needs one; save {_bundle_url(region)} as '
            f'{_FOLDER}/{region}.pem, or set aurora.sslmode = "require", which encrypts without verifying the server'
        )


def _bundle_url(region: str) -> str:
    # https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.SSL.html
    regional = f"{region}." if partition_of(region) == "aws-us-gov" else ""
    return f"https://truststore.pki.{regional}rds.amazonaws.com/{region}/{region}-bundle.pem"


def _existing_problems(existing: Values | None) -> Iterator[str]:
    if existing is None or not existing.keys() >= {"host", "sslmode", "ssl_root_cert"}:
        return
    host, sslmode, file = existing["host"], existing["sslmode"], existing["ssl_root_cert"]
    if sslmode == "require" and file:
        yield 'existing.ssl_root_cert is set: expected only if existing.sslmode is "verify-full"'
    if sslmode == "require" or file or not lacks_certificate_for_host(host):
        return
    place = "its region" if is_rds_server(host) else "it"
    reason = ", which is the default," if sslmode is None else ""
    yield (
        f"existing.host is {toml_text(host)}: no root certificate for {place} is shipped with the package, and "
        f'existing.sslmode = "verify-full"{reason} needs one; set existing.ssl_root_cert to the path of a PEM file in '
        'the functions, or set existing.sslmode = "require", which encrypts without verifying the server'
    )
