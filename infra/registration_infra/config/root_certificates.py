"""Which servers the package can verify: those whose root certificates are among its files in this checkout."""

from pathlib import Path
from typing import Final

from registration_infra.config.endpoints import AMAZONAWS_COM, is_rds_proxy, region_of_rds_server

CERTIFICATES: Final = Path(__file__).parents[3] / "src" / "registration_persistence" / "database" / "certificates"
_PROXY: Final = "rds-proxy"


def lacks_certificate_for_region(region: str) -> bool:
    """Return whether the package has no root certificate for the clusters of *region*.

    The answer is `False` if the files of the package are not beside `infra/`, as in a copy of `infra/` alone.
    """
    return CERTIFICATES.is_dir() and not (CERTIFICATES / f"{region}.pem").is_file()


def lacks_certificate_for_host(host: str) -> bool:
    """Return whether the package has no root certificate for *host*, as for a host outside RDS."""
    found = region_of_rds_server(host)
    if found is None or found[1] != AMAZONAWS_COM:
        return True
    return lacks_certificate_for_region(_PROXY if is_rds_proxy(host) else found[0])
