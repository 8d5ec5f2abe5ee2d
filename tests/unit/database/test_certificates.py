"""The shipped root certificates, and the certificate of a host."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Self

import botocore
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from registration_persistence.database import certificates
from registration_persistence.database.certificates import AMAZON_TRUST_SERVICES, root_certificate_for

# Starfield's root of 2009 has the serial number 0. It is as Amazon publishes it, and OpenSSL accepts it.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")

FOLDER = Path(certificates.__file__).parent
FILES = sorted(FOLDER.glob("*.pem"))
YEAR = timedelta(days=365)


@dataclass(frozen=True, order=True)
class Root:
    """A certificate as `FINGERPRINTS` lists it."""

    file: str
    subject: str
    expires: date
    fingerprint: str

    @classmethod
    def of(cls, file: str, certificate: x509.Certificate) -> Self:
        """Describe *certificate*, which is in *file*."""
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        last_day = certificate.not_valid_after_utc.date()
        return cls(file, str(name.value), last_day, certificate.fingerprint(SHA256()).hex())


def shipped() -> Iterator[tuple[str, x509.Certificate]]:
    """Yield every certificate of the package with the name of its file."""
    for file in FILES:
        for certificate in x509.load_pem_x509_certificates(file.read_bytes()):
            yield file.name, certificate


def listed() -> Iterator[Root]:
    """Yield the certificates that `FINGERPRINTS` lists."""
    for line in (FOLDER / "FINGERPRINTS").read_text().splitlines():
        fingerprint, file, subject, expires = line.split("  ")
        yield Root(file, subject, date.fromisoformat(expires), fingerprint)


def expiring(roots: Iterable[Root], *, within: timedelta, today: date) -> list[str]:
    """Return one sentence for each of *roots* that expires in less than *within* after *today*."""
    return [f"{root.file}: {root.subject} expires on {root.expires}" for root in roots if root.expires < today + within]


def root_that_expires_in(days: int) -> Root:
    """Return a certificate that expires in *days* days."""
    issued = trustme.CA().issue_cert("a.example", common_name="Root", not_after=datetime.now(UTC) + timedelta(days))
    return Root.of("a.pem", x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()))


def test_no_file_is_empty() -> None:
    """There are files, and each contains at least one certificate."""
    assert FILES
    assert {file.name for file in FILES} == {file for file, _ in shipped()}


def test_the_list_of_fingerprints_is_complete() -> None:
    """Each certificate is in `FINGERPRINTS` with its file, subject and last day, and no other is listed."""
    assert sorted(listed()) == sorted(Root.of(file, certificate) for file, certificate in shipped())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_contains_only_root_authorities(file: Path) -> None:
    """Each certificate of a file is signed by itself, and may sign others."""
    for certificate in x509.load_pem_x509_certificates(file.read_bytes()):
        certificate.verify_directly_issued_by(certificate)
        assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


@pytest.mark.parametrize("file", [file for file in FILES if file.stem != "rds-proxy"], ids=lambda file: file.stem)
def test_the_file_of_a_region_contains_its_roots(file: Path) -> None:
    """It contains the three roots of the region and none of another region."""
    expected = [f"Amazon RDS {file.stem} Root CA {algorithm} G1" for algorithm in ("ECC384", "RSA2048", "RSA4096")]

    found = [Root.of(file.name, each).subject for each in x509.load_pem_x509_certificates(file.read_bytes())]

    assert expected == sorted(found)


def test_a_cluster_behind_a_gateway_has_the_roots_of_both() -> None:
    """Each file for an internet access gateway has the roots of the region and those of Amazon Trust Services."""
    regions = {file.name: file for file in FILES if file.stem != "rds-proxy"}
    public = (FOLDER / "rds-proxy.pem").read_bytes()

    combined = {file.name: file.read_bytes() for file in (FOLDER / "with_gateway").glob("*.pem")}

    assert combined == {name: file.read_bytes() + public for name, file in regions.items()}
    host = "app.cluster-c1a2b3.eu-west-1.rds.amazonaws.com"
    assert root_certificate_for(host, with_gateway=True) == FOLDER / "with_gateway" / "eu-west-1.pem"
    proxy = "app.proxy-c1a2b3.eu-west-1.rds.amazonaws.com"
    assert root_certificate_for(proxy, with_gateway=True) == FOLDER / "rds-proxy.pem"
    assert root_certificate_for("localhost", with_gateway=True) is None


def test_the_roots_of_amazon_are_those_of_botocore() -> None:
    """The file for the services of AWS has the five roots of Amazon, byte for byte as the AWS SDK ships them."""
    trusted = x509.load_pem_x509_certificates((Path(botocore.__file__).parent / "cacert.pem").read_bytes())
    shipped_here = x509.load_pem_x509_certificates(AMAZON_TRUST_SERVICES.read_bytes())

    assert set(shipped_here) <= set(trusted)
    subjects = [Root.of("", certificate).subject for certificate in shipped_here]
    assert [*(f"Amazon Root CA {n}" for n in (1, 2, 3, 4)), "Starfield Services Root Certificate Authority - G2"] == (
        sorted(subjects)
    )


def test_no_certificate_expires_within_a_year() -> None:
    """A year remains to ship new certificates before a shipped one expires."""
    roots = [Root.of(file, certificate) for file, certificate in shipped()]

    soon = expiring(roots, within=YEAR, today=datetime.now(UTC).date())

    assert soon == [], "ship new certificates:\n" + "\n".join(soon)


def test_every_certificate_is_valid_today() -> None:
    """The validity of no certificate starts in the future."""
    now = datetime.now(UTC)

    assert [] == [file for file, certificate in shipped() if certificate.not_valid_before_utc > now]


@pytest.mark.parametrize(("days", "expected"), [(-1, 1), (0, 1), (300, 1), (364, 1), (366, 0), (3000, 0)])
def test_expiry_is_reported_a_year_ahead(days: int, expected: int) -> None:
    """`expiring` finds a certificate that expires in 300 days, and ignores one that expires in more than a year."""
    root = root_that_expires_in(days)

    found = expiring([root], within=YEAR, today=datetime.now(UTC).date())

    assert [f"a.pem: Root expires on {root.expires}"] * expected == found


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("app.cluster-c1a2b3.eu-west-1.rds.amazonaws.com", "eu-west-1", id="writer"),
        pytest.param("app.cluster-ro-c1a2b3.eu-west-1.rds.amazonaws.com", "eu-west-1", id="reader"),
        pytest.param("app.cluster-custom-c1a2b3.ap-southeast-4.rds.amazonaws.com", "ap-southeast-4", id="custom"),
        pytest.param("app-1.c1a2b3.us-east-1.rds.amazonaws.com", "us-east-1", id="instance"),
        pytest.param("proxy.c1a2b3.us-east-1.rds.amazonaws.com", "us-east-1", id="instance called proxy"),
        pytest.param("app.proxy-c1a2b3.eu-west-1.rds.amazonaws.com", "rds-proxy", id="proxy"),
        pytest.param("ro.endpoint.proxy-c1a2b3.eu-west-1.rds.amazonaws.com", "rds-proxy", id="proxy's own endpoint"),
        pytest.param("APP.Cluster-C1A2B3.EU-WEST-1.RDS.AmazonAWS.com", "eu-west-1", id="upper case"),
        pytest.param("app.cluster-c1a2b3.eu-west-1.rds.amazonaws.com.", "eu-west-1", id="absolute name"),
        pytest.param("app.cluster-c1a2b3.eu-west-1.rds.amazonaws.com..", None, id="two dots"),
        pytest.param("app.cluster-c1a2b3.eu-west-9.rds.amazonaws.com", None, id="unknown region"),
        pytest.param("app.cluster-c1a2b3.us-gov-west-1.rds.amazonaws.com", None, id="region not shipped"),
        pytest.param("app.cluster-c1a2b3.cn-north-1.rds.amazonaws.com.cn", None, id="China"),
        pytest.param("app.cluster-c1a2b3.rds.cn-north-1.amazonaws.com.cn", None, id="China's own order"),
        pytest.param("app.cluster-c1a2b3.eu-west-1.rds.amazonaws.com.evil.example", None, id="another domain"),
        pytest.param("app.cluster-c1a2b3.eu-west-1.rds.amazonaws.com\n", None, id="line break"),
        pytest.param("app.cluster-c1a2b3.eu-west-1.rds.evilamazonaws.com", None, id="longer domain"),
        pytest.param("app.cluster-c1a2b3.eu-west-1.rds-amazonaws.com", None, id="other separator"),
        pytest.param("eu-west-1.rds.amazonaws.com", None, id="region alone"),
        pytest.param("app.cluster-c1a2b3.rds-proxy.rds.amazonaws.com", None, id="file that is no region"),
        pytest.param("localhost", None, id="localhost"),
        pytest.param("127.0.0.1", None, id="address"),
        pytest.param("", None, id="empty"),
    ],
)
def test_the_certificate_of_a_host_is_that_of_its_region(host: str, expected: str | None) -> None:
    """An RDS endpoint has the file of its region, an RDS Proxy the one of Amazon, and any other host none."""
    assert (expected and FOLDER / f"{expected}.pem") == root_certificate_for(host)


def test_every_file_belongs_to_a_host() -> None:
    """Each shipped file is used by an endpoint."""
    hosts = [f"app.cluster-c1a2b3.{file.stem}.rds.amazonaws.com" for file in FILES if file.stem != "rds-proxy"]

    found = {root_certificate_for(host) for host in [*hosts, "app.proxy-c1a2b3.eu-west-1.rds.amazonaws.com"]}

    assert set(FILES) == found
